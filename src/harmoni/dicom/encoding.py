"""How data elements stand in bytes (PS3.5 7): tags, value representations, lengths.

What the scanner, the data set reader and the Part 10 reader have in common. Nothing here raises on
bytes; whoever reads decides what is an error.
"""

import struct
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.uids import TransferSyntax

UNDEFINED_LENGTH: Final = 0xFFFF_FFFF
ITEM: Final = 0xFFFE_E000
ITEM_DELIMITATION: Final = 0xFFFE_E00D
SEQUENCE_DELIMITATION: Final = 0xFFFE_E0DD

TEXT_VRS: Final = frozenset(
    "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()  # noqa: SIM905 -- reads as a list
)
"""Value representations whose value is a string, whatever the byte order."""

SHORT_VRS: Final = frozenset(
    vr.encode() for vr in TEXT_VRS - {"UC", "UR", "UT"} | {"AT", "FD", "FL", "SL", "SS", "UL", "US"}
)
"""Those with a length of 16 bits in explicit VR (PS3.5 Table 7.1-2)."""

LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""Those with two reserved bytes and a length of 32 bits (PS3.5 Table 7.1-1)."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One of the three ways to write an element: its fixed parts, ready to unpack.

    Args:
        explicit_vr: whether two letters of VR follow the tag.
        plain: group, element and a length of 32 bits: implicit VR, and items in any encoding.
        short: group, element, VR and a length of 16 bits.
        long: the length of 32 bits behind the reserved bytes.
    """

    explicit_vr: bool
    plain: struct.Struct
    short: struct.Struct
    long: struct.Struct


def _encoding(order: str, *, explicit_vr: bool) -> Encoding:
    return Encoding(
        explicit_vr,
        struct.Struct(f"{order}HHI"),
        struct.Struct(f"{order}HH2sH"),
        struct.Struct(f"{order}I"),
    )


IMPLICIT_LITTLE: Final = _encoding("<", explicit_vr=False)
EXPLICIT_LITTLE: Final = _encoding("<", explicit_vr=True)
EXPLICIT_BIG: Final = _encoding(">", explicit_vr=True)


def encoding_of(syntax: TransferSyntax) -> Encoding:
    """The encoding of a transfer syntax, once inflated."""
    if not syntax.explicit_vr:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if syntax.little_endian else EXPLICIT_BIG


@dataclass(frozen=True, slots=True)
class ElementHeader:
    """What stands before a value: `vr` is b"" when the bytes do not tell it."""

    tag: int
    vr: bytes
    length: int
    value_position: int


def element_header(
    buffer: bytes | bytearray | memoryview, position: int, encoding: Encoding
) -> ElementHeader | None:
    """Read the header of an element or an item; None when the buffer ends before its end.

    Lenient where vendors err in explicit VR: letters that are no VR are taken for the length of
    implicit VR; an unknown pair of capitals is a long VR when its reserved bytes are zero (as
    PS3.5 7.1.2 foresees for new ones), else a short one.
    """
    available = len(buffer) - position
    if available < encoding.plain.size:
        return None
    group, element, length = encoding.plain.unpack_from(buffer, position)
    tag = group << 16 | element
    value_position = position + encoding.plain.size
    if not encoding.explicit_vr or group == ITEM >> 16:
        return ElementHeader(tag, b"", length, value_position)
    _, _, vr, short_length = encoding.short.unpack_from(buffer, position)
    capitals = vr.isalpha() and vr.isupper()
    if vr in SHORT_VRS or (capitals and vr not in LONG_VRS and short_length != 0):
        return ElementHeader(tag, vr, short_length, value_position)
    if not capitals:
        return ElementHeader(tag, b"", length, value_position)
    if available < encoding.plain.size + encoding.long.size:
        return None
    (long_length,) = encoding.long.unpack_from(buffer, value_position)
    return ElementHeader(tag, vr, long_length, value_position + encoding.long.size)
