"""Encrypt and open one member: AES-256-GCM-HKDF streaming (docs/reference/pack-format.md).

Byte compatible with Tink's "AES-GCM-HKDF streaming AEAD" for 256-bit keys, HKDF-SHA-256 and
ciphertext segments of 64 KiB:

    segment 0         40 bytes of header | up to 65,480 bytes of plaintext, encrypted | 16-byte tag
    segments 1, 2, …  up to 65,520 bytes of plaintext, encrypted | 16-byte tag

    header            length of the header (40) | 32-byte salt | 7-byte nonce prefix
    segment key       HKDF-SHA-256(input key = data key, salt, info = associated data), 32 bytes
    nonce             nonce prefix | segment number, 4 bytes big endian | 1 for the last, else 0

Only the last segment may be short, and only the last one has the flag, so cutting, reordering and
joining are all detected by whoever knows the total length. The format has no key commitment:
readers compare the SHA-256 of the plaintext as well.

Segments are passed to the library one at a time: 64 KiB stay in the second-level cache, and one
call over megabytes measured three times slower.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harmoni.model.errors import Damaged

Buffer = bytes | bytearray | memoryview

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
NONCE_PREFIX_BYTES: Final = 7
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 1 + SALT_BYTES + NONCE_PREFIX_BYTES
SEGMENT_BYTES: Final = 65_536
"""Length of every ciphertext segment but the last; the first one includes the header."""
MAX_SEGMENTS: Final = 1 << 32

_PLAIN_SEGMENT_BYTES: Final = SEGMENT_BYTES - TAG_BYTES
_FIRST_PLAIN_BYTES: Final = _PLAIN_SEGMENT_BYTES - HEADER_BYTES


def ciphertext_size(plaintext_size: int) -> int:
    """The length in bytes of the ciphertext of so many bytes of plaintext, header included."""
    segments = max(1, -(-(plaintext_size + HEADER_BYTES) // _PLAIN_SEGMENT_BYTES))
    return plaintext_size + HEADER_BYTES + segments * TAG_BYTES


def plaintext_size(ciphertext_size: int) -> int:
    """The length in bytes of the plaintext inside a ciphertext of that length.

    Raises:
        Damaged: no ciphertext has that length; the member was cut.
    """
    segments = _segment_count(ciphertext_size)
    return ciphertext_size - HEADER_BYTES - segments * TAG_BYTES


def _segment_count(ciphertext_size: int) -> int:
    segments = max(1, -(-ciphertext_size // SEGMENT_BYTES))
    last = ciphertext_size - (segments - 1) * SEGMENT_BYTES
    least = HEADER_BYTES + TAG_BYTES if segments == 1 else TAG_BYTES + 1
    if last < least or segments > MAX_SEGMENTS:
        raise Damaged(
            f"no encrypted member is {ciphertext_size} bytes long: it was cut or its length was"
            " altered; fetch this pack from another copy"
        )
    return segments


def _cipher(*, data_key: bytes, salt: bytes, associated_data: bytes) -> AESGCM:
    """Derive the key of one member and make its cipher."""
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=associated_data)
    return AESGCM(derivation.derive(data_key))


def _nonce(prefix: bytes, segment: int, *, last: bool) -> bytes:
    return prefix + segment.to_bytes(4, "big") + (b"\1" if last else b"\0")


class Encryptor:
    """Encrypts one member, from whole parts in one call or chunk by chunk.

    Either call `encrypt_into` once, or `update` any number of times and then `finish` once. An
    encryptor must never be used for a second member.

    Args:
        data_key: the 32 bytes of the pack's (or event's) data key.
        associated_data: what the member is bound to (pack.associated_data).
        salt: 32 random bytes, fresh for each member.
        nonce_prefix: 7 random bytes, fresh for each member.
    """

    __slots__ = ("_cipher", "_header", "_pending", "_prefix", "_scratch", "_segment")

    def __init__(
        self, *, data_key: bytes, associated_data: bytes, salt: bytes, nonce_prefix: bytes
    ) -> None:
        _require("data key", data_key, KEY_BYTES)
        _require("salt", salt, SALT_BYTES)
        _require("nonce prefix", nonce_prefix, NONCE_PREFIX_BYTES)
        self._cipher = _cipher(data_key=data_key, salt=salt, associated_data=associated_data)
        self._prefix = nonce_prefix
        self._header = bytes((HEADER_BYTES,)) + salt + nonce_prefix
        self._segment = 0
        self._pending = bytearray()
        self._scratch = bytearray()

    def encrypt_into(self, parts: Sequence[Buffer], out: memoryview) -> None:
        """Encrypt a whole member into memory that the caller holds.

        Nothing is copied but the few bytes of segments that lie across two parts.

        Args:
            parts: the plaintext, in order; may be empty.
            out: writable, exactly `ciphertext_size(sum of the parts' lengths)` bytes.

        Raises:
            ValueError: `out` has another length.
        """
        total = sum(len(part) for part in parts)
        if len(out) != ciphertext_size(total):
            raise ValueError(f"{ciphertext_size(total)} bytes of room needed, got {len(out)}")
        out[:HEADER_BYTES] = self._header
        encrypt, prefix = self._cipher.encrypt_into, self._prefix
        segments = _segment_count(len(out))
        start = HEADER_BYTES
        for segment, plaintext in enumerate(_cut(parts, segments)):
            end = min((segment + 1) * SEGMENT_BYTES, len(out))
            nonce = _nonce(prefix, segment, last=segment == segments - 1)
            encrypt(nonce, plaintext, None, out[start:end])
            start = end

    def update(self, plaintext: Buffer, out: bytearray) -> None:
        """Take the next chunk, of any length, and append every segment that is now complete.

        A full segment is held back until more comes, because the last one is encrypted otherwise;
        at most 64 KiB of plaintext stay here.
        """
        view = memoryview(plaintext)
        while view:
            room = self._room() - len(self._pending)
            if room == 0:
                self._emit(self._pending, out, last=False)
                self._pending.clear()
                continue
            if not self._pending and len(view) > room:
                self._emit(view[:room], out, last=False)
            else:
                self._pending += view[:room]
            view = view[room:]

    def finish(self, out: bytearray) -> None:
        """Append the last segment. The member is complete; the encryptor must not be used again."""
        self._emit(self._pending, out, last=True)
        self._pending.clear()

    def _room(self) -> int:
        return _FIRST_PLAIN_BYTES if self._segment == 0 else _PLAIN_SEGMENT_BYTES

    def _emit(self, plaintext: bytearray | memoryview, out: bytearray, *, last: bool) -> None:
        if self._segment == 0:
            out += self._header
        if not self._scratch:
            self._scratch = bytearray(SEGMENT_BYTES)
        nonce = _nonce(self._prefix, self._segment, last=last)
        with memoryview(self._scratch) as scratch, scratch[: len(plaintext) + TAG_BYTES] as segment:
            self._cipher.encrypt_into(nonce, plaintext, None, segment)
            out += segment
        self._segment += 1


def _cut(parts: Sequence[Buffer], segments: int) -> Iterator[Buffer]:
    """Cut the joined parts into the plaintexts of the segments, copying only across joints."""
    views = iter([memoryview(part) for part in parts if len(part)])
    rest = memoryview(b"")
    for segment in range(segments):
        room = _FIRST_PLAIN_BYTES if segment == 0 else _PLAIN_SEGMENT_BYTES
        if not rest:
            rest = next(views, rest)
        if len(rest) >= room:
            yield rest[:room]
            rest = rest[room:]
            continue
        joined = bytearray(rest)
        rest = memoryview(b"")
        while len(joined) < room and (following := next(views, None)) is not None:
            rest = following[room - len(joined) :]
            joined += following[: room - len(joined)]
        yield joined


def encrypt(
    parts: Sequence[Buffer],
    *,
    data_key: bytes,
    associated_data: bytes,
    salt: bytes,
    nonce_prefix: bytes,
    lead: int = 0,
    pad: int = 0,
) -> bytearray:
    """Encrypt a whole member into one new buffer, with room around it.

    Args:
        parts: the plaintext, in order; may be empty.
        data_key: the 32 bytes of the pack's (or event's) data key.
        associated_data: what the member is bound to.
        salt: 32 random bytes, fresh for each member.
        nonce_prefix: 7 random bytes, fresh for each member.
        lead: bytes to leave free before the ciphertext, for a tar header.
        pad: zero bytes to leave after it, for the padding of tar.

    Returns:
        `lead` zero bytes, the ciphertext, `pad` zero bytes.
    """
    size = ciphertext_size(sum(len(part) for part in parts))
    out = bytearray(lead + size + pad)
    encryptor = Encryptor(
        data_key=data_key, associated_data=associated_data, salt=salt, nonce_prefix=nonce_prefix
    )
    with memoryview(out) as view, view[lead : lead + size] as room:
        encryptor.encrypt_into(parts, room)
    return out


class Decryptor:
    """Opens the segments of one member, in any order; immutable once made.

    Segment `i` lies at `segment_range(i)` of the ciphertext. Nothing that `open` returns may leave
    before `open` has returned; who reads a whole member compares the SHA-256 of the plaintext too.

    Args:
        data_key: the 32 bytes of the pack's (or event's) data key.
        associated_data: what the member must be bound to (pack.associated_data).
        header: the first 40 bytes of the ciphertext.
        ciphertext_size: the length of the whole ciphertext, from the tar header or the index.

    Raises:
        Damaged: the header or the length cannot be that of a member.
    """

    __slots__ = ("_cipher", "_ciphertext_size", "_prefix", "plaintext_size", "segments")

    def __init__(
        self, *, data_key: bytes, associated_data: bytes, header: Buffer, ciphertext_size: int
    ) -> None:
        _require("data key", data_key, KEY_BYTES)
        head = bytes(header)
        if len(head) != HEADER_BYTES or head[0] != HEADER_BYTES:
            raise Damaged("an encrypted member does not begin with its header; use another copy")
        self.segments: Final = _segment_count(ciphertext_size)
        self.plaintext_size: Final = plaintext_size(ciphertext_size)
        self._ciphertext_size = ciphertext_size
        self._prefix = head[1 + SALT_BYTES :]
        self._cipher = _cipher(
            data_key=data_key, salt=head[1 : 1 + SALT_BYTES], associated_data=associated_data
        )

    def segment_range(self, segment: int) -> tuple[int, int]:
        """Offset and length, in the ciphertext, of a segment without the header before it."""
        start = segment * SEGMENT_BYTES if segment else HEADER_BYTES
        return start, min((segment + 1) * SEGMENT_BYTES, self._ciphertext_size) - start

    def plaintext_range(self, segment: int) -> tuple[int, int]:
        """Offset and length, in the plaintext, of what a segment holds."""
        start, length = self.segment_range(segment)
        return start - HEADER_BYTES - segment * TAG_BYTES, length - TAG_BYTES

    def locate(self, plaintext_offset: int) -> tuple[int, int]:
        """The segment that holds a byte of the plaintext, and the byte's offset within it."""
        segment = (plaintext_offset + HEADER_BYTES) // _PLAIN_SEGMENT_BYTES
        return segment, plaintext_offset - self.plaintext_range(segment)[0]

    def open(self, segment: int, ciphertext: Buffer) -> bytes:
        """Authenticate and decrypt one segment.

        Args:
            segment: its number, 0 to `segments` - 1.
            ciphertext: the bytes at `segment_range(segment)`.

        Raises:
            Damaged: these are not the bytes that were written, or not with this key for this place.
        """
        room = bytearray(max(0, len(ciphertext) - TAG_BYTES))
        with memoryview(room) as view:
            self.open_into(segment, ciphertext, view)
        return bytes(room)

    def open_into(self, segment: int, ciphertext: Buffer, out: memoryview) -> int:
        """Like `open`, into memory that the caller holds.

        Args:
            segment: its number.
            ciphertext: the bytes at `segment_range(segment)`.
            out: writable, exactly 16 bytes shorter than `ciphertext`. Its content is undefined
                after an error and must not be used.

        Returns:
            The number of bytes of plaintext.

        Raises:
            Damaged: see `open`.
        """
        if not 0 <= segment < self.segments or len(ciphertext) != self.segment_range(segment)[1]:
            raise Damaged(f"segment {segment} of an encrypted member is cut; use another copy")
        nonce = _nonce(self._prefix, segment, last=segment == self.segments - 1)
        try:
            return self._cipher.decrypt_into(nonce, ciphertext, None, out)
        except InvalidTag:
            raise Damaged(
                f"segment {segment} of an encrypted member fails authentication: altered bytes, a"
                " wrong key or a wrong place; use another copy"
            ) from None

    def open_run(self, first: int, ciphertext: Buffer) -> bytearray:
        """Authenticate and decrypt neighbouring segments at once.

        Args:
            first: the number of the first one.
            ciphertext: the bytes from the start of `segment_range(first)` to the end of that or a
                later segment's range. A run that ends early at the end of a segment opens: whoever
                reads counts the bytes.

        Raises:
            Damaged: one of them fails, or there is none; nothing of the run may be used.
        """
        out = bytearray(len(ciphertext))
        with memoryview(out) as room:
            size_bytes = self.open_run_into(first, ciphertext, room)
        del out[size_bytes:]
        return out

    def open_run_into(self, first: int, ciphertext: Buffer, out: memoryview) -> int:
        """Like `open_run`, into memory that the caller holds.

        Args:
            first: the number of the first segment.
            ciphertext: as for `open_run`.
            out: writable, at least as long as `ciphertext`. Its content is undefined after an
                error and must not be used.

        Returns:
            The number of bytes of plaintext.

        Raises:
            Damaged: see `open_run`.
        """
        view = memoryview(ciphertext)
        if not view:
            raise Damaged(f"an encrypted member ends before segment {first}; use another copy")
        end = self.segment_range(first)[0] + len(view)
        count = -(-end // SEGMENT_BYTES) - first
        taken = filled = 0
        for segment in range(first, first + count):
            length = min(self.segment_range(segment)[1], len(view) - taken)
            stop = filled + max(0, length - TAG_BYTES)
            self.open_into(segment, view[taken : taken + length], out[filled:stop])
            taken, filled = taken + length, stop
        return filled


def decrypt(ciphertext: Buffer, *, data_key: bytes, associated_data: bytes) -> bytearray:
    """Authenticate and decrypt a whole member.

    Raises:
        Damaged: any part of it is not what was written.
    """
    view = memoryview(ciphertext)
    decryptor = Decryptor(
        data_key=data_key,
        associated_data=associated_data,
        header=view[:HEADER_BYTES],
        ciphertext_size=len(view),
    )
    return decryptor.open_run(0, view[HEADER_BYTES:])


def _require(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"a {what} has {size} bytes, not {len(value)}")
