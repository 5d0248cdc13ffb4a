"""Raw elements and UIDs in few bytes, for the columns that hold them.

Attributes of one level: for each element one byte that names it, a length and the value as it was
received, padding included, so that nothing is lost by indexing. Values made of digits and dots
(dates, times, numbers) take half their length. UIDs are packed the same way; equal UIDs have equal
packed forms and different ones different forms, so they can be compared without unpacking.

The codes live in database files: never change one, only add. Elements without a code are dropped.
"""

import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from harmoni.dicom import text
from harmoni.model.header import SPECIFIC_CHARACTER_SET, Element

# Tag: code and value representation (PS3.6). The dictionary's VR is kept, not the one that stood in
# the bytes, because a sender that writes UN or a wrong one still means what the tag says.
_CODES: Final = {
    SPECIFIC_CHARACTER_SET: (0, "CS"),
    0x0008_0008: (1, "CS"),
    0x0008_0020: (2, "DA"),
    0x0008_0021: (3, "DA"),
    0x0008_0022: (4, "DA"),
    0x0008_0023: (5, "DA"),
    0x0008_0030: (6, "TM"),
    0x0008_0031: (7, "TM"),
    0x0008_0032: (8, "TM"),
    0x0008_0033: (9, "TM"),
    0x0008_0050: (10, "SH"),
    0x0008_0060: (11, "CS"),
    0x0008_0070: (12, "LO"),
    0x0008_0080: (13, "LO"),
    0x0008_0090: (14, "PN"),
    0x0008_0201: (15, "SH"),
    0x0008_1010: (16, "SH"),
    0x0008_1030: (17, "LO"),
    0x0008_103E: (18, "LO"),
    0x0008_1050: (19, "PN"),
    0x0008_1060: (20, "PN"),
    0x0008_1090: (21, "LO"),
    0x0010_0010: (22, "PN"),
    0x0010_0020: (23, "LO"),
    0x0010_0021: (24, "LO"),
    0x0010_0030: (25, "DA"),
    0x0010_0032: (26, "TM"),
    0x0010_0040: (27, "CS"),
    0x0010_1010: (28, "AS"),
    0x0010_1020: (29, "DS"),
    0x0010_1030: (30, "DS"),
    0x0010_4000: (31, "LT"),
    0x0018_0015: (32, "CS"),
    0x0018_1030: (33, "LO"),
    0x0020_0010: (34, "SH"),
    0x0020_0011: (35, "IS"),
    0x0020_0013: (36, "IS"),
    0x0020_0060: (37, "CS"),
    0x0028_0008: (38, "IS"),
}
VALUE_REPRESENTATION: Final = {tag: vr for tag, (_, vr) in _CODES.items()}
"""The value representation of every element that the index keeps as an attribute."""

PATIENT_BIRTH_DATE: Final = 0x0010_0030

_ELEMENT: Final = {code: (tag, vr) for tag, (code, vr) in _CODES.items()}
# Added to the code of a value that is packed; so there are at most 128 codes.
_PACKED: Final = 0x80
# A length below this takes one byte; this byte announces four more (a value may have 64 KiB).
_LONG: Final = 0xFF
# Fifteen nibble values are used, the sixteenth fills the last byte of an odd number.
_TO_HEX: Final = bytes.maketrans(b". -", b"abc")
_FROM_HEX: Final = bytes.maketrans(b"abc", b". -")
_PACKABLE: Final = b"0123456789. -"
# The first byte of a UID that is no UID: no packed value begins with the filling nibble.
_VERBATIM: Final = 0xFF


def pack(elements: Iterable[Element]) -> bytes:
    """The packed attributes; elements that have no code are left out."""
    packed = bytearray()
    for element in elements:
        known = _CODES.get(element.tag)
        if known is None:
            continue
        code, value = known[0], element.value
        digits = _digits(value)
        if digits is not None:
            code, value = code | _PACKED, digits
        if len(value) < _LONG:
            packed += bytes((code, len(value)))
        else:
            packed += bytes((code, _LONG)) + len(value).to_bytes(4, "big")
        packed += value
    return bytes(packed)


def unpack(packed: bytes) -> Iterator[Element]:
    """The elements that `pack` was given, in its order."""
    position = 0
    while position < len(packed):
        code, length = packed[position], packed[position + 1]
        position += 2
        if length == _LONG:
            length = int.from_bytes(packed[position : position + 4], "big")
            position += 4
        value = packed[position : position + length]
        position += length
        tag, vr = _ELEMENT[code & ~_PACKED]
        yield Element(tag, vr, _characters(value) if code & _PACKED else value)


def with_character_set(elements: tuple[Element, ...], character_set: bytes) -> tuple[Element, ...]:
    """Raw elements together with the Specific Character Set that their text is written in."""
    if not character_set:
        return elements
    return (Element(SPECIFIC_CHARACTER_SET, "CS", character_set), *elements)


def reader(elements: Iterable[Element]) -> Callable[[int], str]:
    """A function from tag to text: decoded, without padding, "" for an absent element."""
    values = {element.tag: element for element in elements}
    declared = values.get(SPECIFIC_CHARACTER_SET)
    character_set = b"" if declared is None else declared.value

    def value(tag: int) -> str:
        element = values.get(tag)
        return "" if element is None else text.decode(element, character_set)

    return value


def pack_uid(uid: str) -> bytes:
    """A UID in about half its length; whatever is not digits and dots stands as it is."""
    text = uid.encode()
    digits = _digits(text)
    return bytes([_VERBATIM]) + text if digits is None else digits


def unpack_uid(packed: bytes) -> str:
    """The UID that `pack_uid` was given."""
    return (packed[1:] if packed[:1] == bytes([_VERBATIM]) else _characters(packed)).decode()


def uid_hash(uid: str) -> int:
    """64 bits of SHA-256 of a SOP Instance UID, as SQLite's signed integer.

    A look-up by hash must compare the UID as well: 300 million instances have a collision with a
    chance of 0.2 %.
    """
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big", signed=True)


def _digits(value: bytes) -> bytes | None:
    """Two characters per byte, or None where other characters occur."""
    if value.translate(None, _PACKABLE):
        return None
    digits = value.translate(_TO_HEX)
    return binascii.unhexlify(digits + b"f" if len(digits) % 2 else digits)


def _characters(digits: bytes) -> bytes:
    return digits.hex().encode().rstrip(b"f").translate(_FROM_HEX)
