"""Headers of tar members, in the one form that packs use (POSIX 1003.1, ustar and pax).

Mode 0400, owner 0, no names, time = receive time. Every header has exactly one valid form, so a
reader builds it anew and compares: a flipped byte is found without any key. GNU tar and Python's
tarfile read the result; docs/reference/pack-format.md has every byte.
"""

from dataclasses import dataclass
from typing import Final

from harmoni.model.errors import Damaged
from harmoni.sealing.streaming import Buffer

BLOCK_BYTES: Final = 512
PAX_HEADER_BYTES: Final = 3 * BLOCK_BYTES
"""Length of a member's header when a pax size record stands before it; the longest there is."""
USTAR_SIZE_LIMIT: Final = 8 << 30
"""From this many bytes on a member needs a pax size record."""

_MAX_NAME: Final = 100


def padding(size_bytes: int) -> int:
    """How many zero bytes follow a body of that length, to the next block of 512."""
    return -size_bytes % BLOCK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberHeader:
    """What the tar header of a member says."""

    name: str
    size_bytes: int
    """Length of the body, without padding."""
    mtime_s: int
    """Receive time in seconds since 1970."""
    header_bytes: int
    """Length of the header itself: 512, or 1,536 with a pax size record."""

    @property
    def next_offset(self) -> int:
        """Offset of the next member's header from the start of this one's."""
        return self.header_bytes + self.size_bytes + padding(self.size_bytes)


def member_header(name: str, size_bytes: int, mtime_s: int, *, always_pax: bool = False) -> bytes:
    """The tar header of a member (POSIX 1003.1, ustar and pax interchange formats).

    Args:
        name: at most 88 ASCII characters.
        size_bytes: length of the body, without padding.
        mtime_s: seconds since 1970.
        always_pax: put a pax size record before it although the length would fit, so that the
            header's own length does not depend on a length that is not known yet.

    Returns:
        512 bytes, or 1,536 with a pax size record (from 8 GiB on, and with `always_pax`).
    """
    if size_bytes < USTAR_SIZE_LIMIT and not always_pax:
        return _ustar(name, size_bytes, mtime_s, b"0")
    record = _pax_record(size_bytes)
    fitting = size_bytes if size_bytes < USTAR_SIZE_LIMIT else 0
    return b"".join(
        (
            _ustar(f"PaxHeaders/{name}", len(record), mtime_s, b"x"),
            record.ljust(BLOCK_BYTES, b"\0"),
            _ustar(name, fitting, mtime_s, b"0"),
        )
    )


def _pax_record(size_bytes: int) -> bytes:
    """One pax record, which begins with its own length in bytes (POSIX 1003.1 pax)."""
    body = f" size={size_bytes}\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return f"{length}{body}".encode("ascii")


def _ustar(name: str, size_bytes: int, mtime_s: int, type_flag: bytes) -> bytes:
    """One header block: mode 0400, owner 0, no names."""
    if size_bytes < 0 or mtime_s < 0:
        raise ValueError("no tar header holds a negative number")
    if len(name) > _MAX_NAME:
        raise ValueError(f"a name in a tar header has at most {_MAX_NAME} characters: {name!r}")
    before = name.encode("ascii").ljust(_MAX_NAME, b"\0") + b"0000400\0" + b"0000000\0" * 2
    numbers = f"{size_bytes:011o}\0{mtime_s:011o}\0".encode("ascii")
    after = type_flag + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    checksum = sum(before) + sum(numbers) + 8 * ord(" ") + sum(after)
    return before + numbers + f"{checksum:06o}\0 ".encode("ascii") + after


def parse_member_header(data: Buffer) -> MemberHeader | None:
    """Read the tar header at the start of `data`.

    Args:
        data: 1,536 bytes from the header on, or what the file still has.

    Returns:
        The header, or None if a block of zeros stands there: the archive ends.

    Raises:
        Damaged: altered bytes, or cut off. At the end of an open pack: a torn write.
    """
    block = bytes(data[:PAX_HEADER_BYTES])
    if len(block) >= BLOCK_BYTES and not any(block[:BLOCK_BYTES]):
        return None
    with_pax = block[156:157] == b"x"
    start = 2 * BLOCK_BYTES if with_pax else 0
    try:
        name = block[start : start + 100].rstrip(b"\0").decode("ascii")
        size_bytes = int(block[start + 124 : start + 135], 8)
        mtime_s = int(block[start + 136 : start + 147], 8)
        if with_pax:
            record = block[BLOCK_BYTES : 2 * BLOCK_BYTES].rstrip(b"\0")
            size_bytes = int(record.removesuffix(b"\n").partition(b" size=")[2][:19])
        expected = member_header(name, size_bytes, mtime_s, always_pax=with_pax)
    except ValueError:
        expected = b""
        name, size_bytes, mtime_s = "", 0, 0
    if not expected or block[: len(expected)] != expected:
        raise Damaged("a tar header in a pack is altered or cut; use another copy")
    return MemberHeader(
        name=name, size_bytes=size_bytes, mtime_s=mtime_s, header_bytes=len(expected)
    )


def plain_member(name: str, body: bytes, mtime_s: int) -> bytes:
    """A member that is not encrypted: tar header | body | padding."""
    return member_header(name, len(body), mtime_s) + body + bytes(padding(len(body)))
