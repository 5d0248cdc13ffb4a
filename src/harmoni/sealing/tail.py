"""The tail that makes a pack a sealed one: manifest, public.json, footer and the end of the tar.

The footer's SHA-256 is over everything before the footer's body, the footer's own tar header
included. The footer carries a SHA-256 of its own fields besides, so that its offsets can be
believed before the whole file was read. A reader fetches the last END_BYTES, asks `parse_footer`,
fetches from `tail_offset` on and asks `parse_tail`. See docs/reference/pack-format.md.
"""

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

from harmoni.model.errors import Damaged
from harmoni.sealing import document
from harmoni.sealing.pack import (
    FOOTER_NAME,
    MANIFEST_NAME,
    PUBLIC_NAME,
    VERSION,
    PublicMember,
    PublicTable,
)
from harmoni.sealing.streaming import Buffer
from harmoni.sealing.tar import (
    BLOCK_BYTES,
    PAX_HEADER_BYTES,
    member_header,
    padding,
    parse_member_header,
    plain_member,
)

FOOTER_BYTES: Final = BLOCK_BYTES
FOOTER_FROM_END: Final = FOOTER_BYTES + 2 * BLOCK_BYTES
"""The footer's body begins so many bytes before the end of the file."""
END_BYTES: Final = FOOTER_FROM_END + BLOCK_BYTES
"""Length of the fixed end of every pack: the footer's header, its body, two blocks of zeros."""


class Hash(Protocol):
    """A running SHA-256, such as hashlib.sha256()."""

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """The hash of what was taken so far."""

    def copy(self) -> "Hash":
        """An independent copy of the state."""


_FOOTER: Final = struct.Struct(">16sII4Q32s")
_FOOTER_MAGIC: Final = b"HARMONI footer\0\0"
_FOOTER_SUM_OFFSET: Final = FOOTER_BYTES - 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The last member's 512 bytes: where the readable tail lies, and the hash of all before.

    Its own last 32 bytes are the SHA-256 of the 480 before them, so that the offsets can be
    believed before the whole file was read.
    """

    manifest_offset: int
    """Offset of the manifest's ciphertext from the start of the file."""
    manifest_size: int
    public_offset: int
    """Offset of public.json's body from the start of the file."""
    public_size: int
    sha256: bytes
    """SHA-256 of everything before the footer's body, the footer's tar header included."""

    @property
    def tail_offset(self) -> int:
        """Where the manifest's tar header begins; `parse_tail` wants the bytes from here on."""
        return self.manifest_offset - BLOCK_BYTES

    @property
    def pack_size(self) -> int:
        """The length that the file must have."""
        return self.public_offset + self.public_size + padding(self.public_size) + END_BYTES

    def pack(self) -> bytes:
        """The 512 bytes."""
        fields = _FOOTER.pack(
            _FOOTER_MAGIC,
            VERSION,
            0,
            self.manifest_offset,
            self.manifest_size,
            self.public_offset,
            self.public_size,
            self.sha256,
        ).ljust(_FOOTER_SUM_OFFSET, b"\0")
        return fields + hashlib.sha256(fields).digest()

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        """Read the 512 bytes.

        Raises:
            Damaged: altered, or the file does not end as a sealed pack does.
            UnknownFormat: of another version.
        """
        body = bytes(data)
        fields = body[:_FOOTER_SUM_OFFSET]
        if len(body) != FOOTER_BYTES or hashlib.sha256(fields).digest() != body[len(fields) :]:
            raise Damaged(f"{_NO_TAIL}: the footer is altered or missing")
        magic, version, _, manifest_offset, manifest_size, public_offset, public_size, sha256 = (
            _FOOTER.unpack_from(body)
        )
        footer = cls(
            manifest_offset=manifest_offset,
            manifest_size=manifest_size,
            public_offset=public_offset,
            public_size=public_size,
            sha256=sha256,
        )
        if magic == _FOOTER_MAGIC:
            document.require_version(version, "a pack", VERSION)
        if footer.pack() != body:
            raise Damaged(f"{_NO_TAIL}: the footer is of another format")
        if manifest_offset % BLOCK_BYTES or manifest_offset < 2 * BLOCK_BYTES:
            raise Damaged(f"{_NO_TAIL}: no member begins where the footer says")
        if public_offset != manifest_offset + manifest_size + padding(manifest_size) + BLOCK_BYTES:
            raise Damaged(f"{_NO_TAIL}: the footer's offsets contradict each other")
        return footer


_NO_TAIL: Final = "this is not a whole sealed pack; use another copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTail:
    """What `tail` made: the bytes to append and what the log records of the whole file."""

    data: bytes
    public: PublicTable
    footer: Footer
    sha256: bytes
    """SHA-256 of the whole file."""

    @property
    def pack_size(self) -> int:
        """Length of the whole file in bytes."""
        return self.footer.pack_size


def tail(
    *,
    manifest_ciphertext: Buffer,
    public: PublicTable,
    offset: int,
    mtime_s: int,
    prefix_hash: Hash,
) -> SealedTail:
    """Build everything that follows the last member: manifest, public.json, footer, end.

    Args:
        manifest_ciphertext: the encrypted manifest, without tar header.
        public: all members but the manifest, which is added here.
        offset: the length of the file so far, a multiple of 512: `data` goes there.
        mtime_s: time of sealing, seconds since 1970.
        prefix_hash: SHA-256 of the file so far; it is copied, not changed.
    """
    ciphertext = bytes(manifest_ciphertext)
    if offset % BLOCK_BYTES:
        raise ValueError(f"no member ends at {offset}: not a multiple of {BLOCK_BYTES}")
    manifest_offset = offset + BLOCK_BYTES
    listed = PublicMember(
        name=MANIFEST_NAME,
        sequence=0,
        offset=manifest_offset,
        size_bytes=len(ciphertext),
        sha256=hashlib.sha256(ciphertext).digest(),
    )
    complete = replace(public, members=(*public.members, listed))
    body = complete.encode()
    before = b"".join(
        (
            plain_member(MANIFEST_NAME, ciphertext, mtime_s),
            plain_member(PUBLIC_NAME, body, mtime_s),
            member_header(FOOTER_NAME, FOOTER_BYTES, mtime_s),
        )
    )
    running = prefix_hash.copy()
    running.update(before)
    footer = Footer(
        manifest_offset=manifest_offset,
        manifest_size=len(ciphertext),
        public_offset=manifest_offset + len(ciphertext) + padding(len(ciphertext)) + BLOCK_BYTES,
        public_size=len(body),
        sha256=running.digest(),
    )
    end = footer.pack() + bytes(2 * BLOCK_BYTES)
    running.update(end)
    return SealedTail(data=before + end, public=complete, footer=footer, sha256=running.digest())


def parse_footer(end: Buffer) -> Footer:
    """Read the fixed end of a sealed pack.

    Args:
        end: the last bytes of the file, at least END_BYTES (2,048).

    Raises:
        Damaged: the file does not end as a sealed pack does: open, cut or altered.
    """
    block = bytes(end[-END_BYTES:])
    if len(block) < END_BYTES or any(block[BLOCK_BYTES + FOOTER_BYTES :]):
        raise Damaged(f"{_NO_TAIL}: its end is missing")
    footer = Footer.unpack(block[BLOCK_BYTES : BLOCK_BYTES + FOOTER_BYTES])
    header = parse_member_header(block[:BLOCK_BYTES])
    if header is None or header.name != FOOTER_NAME or header.size_bytes != FOOTER_BYTES:
        raise Damaged(f"{_NO_TAIL}: the footer's header is altered")
    return footer


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTail:
    """What a tail holds: the manifest, still encrypted, and the public table."""

    manifest_ciphertext: bytes
    public: PublicTable


def parse_tail(data: Buffer, footer: Footer) -> ParsedTail:
    """Take a tail apart and check it as far as that is possible without key or whole file.

    Args:
        data: the bytes of the file from `footer.tail_offset` to its end.
        footer: from `parse_footer`.

    Raises:
        Damaged: anything in it contradicts the footer or itself.
    """
    if len(data) != footer.pack_size - footer.tail_offset or parse_footer(data) != footer:
        raise Damaged(f"{_NO_TAIL}: the tail has another length than the footer says")
    ciphertext, offset = _body(data, 0, MANIFEST_NAME, footer.manifest_size)
    body, _ = _body(data, offset, PUBLIC_NAME, footer.public_size)
    public = PublicTable.decode(body)
    listed = PublicMember(
        name=MANIFEST_NAME,
        sequence=0,
        offset=footer.manifest_offset,
        size_bytes=footer.manifest_size,
        sha256=hashlib.sha256(ciphertext).digest(),
    )
    if not public.members or public.members[-1] != listed:
        raise Damaged(f"{_NO_TAIL}: the manifest is not the one that public.json lists")
    return ParsedTail(manifest_ciphertext=ciphertext, public=public)


def _body(data: Buffer, offset: int, name: str, size_bytes: int) -> tuple[bytes, int]:
    """The body of a plain-headed member at `offset`, and where the next header begins."""
    header = parse_member_header(data[offset : offset + PAX_HEADER_BYTES])
    if header is None or header.name != name or header.size_bytes != size_bytes:
        raise Damaged(f"{_NO_TAIL}: {name} is not where the footer says")
    start = offset + header.header_bytes
    end, following = start + size_bytes, offset + header.next_offset
    if any(data[end:following]):
        raise Damaged(f"{_NO_TAIL}: the padding after {name} is not zero")
    return bytes(data[start:end]), following
