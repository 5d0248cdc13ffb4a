"""Small data sets as a whole: identifiers, commitment requests and reports (PS3.5 7).

Reads and writes every element, sequences too, unlike the scanner. What comes from a peer is
bounded in size and nesting and either read completely or refused; instances never come here.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydicom import datadict

from harmoni.dicom.encoding import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    ElementHeader,
    Encoding,
    element_header,
    encoding_of,
)
from harmoni.dicom.uids import TransferSyntax, storage_transfer_syntax
from harmoni.model.errors import InvalidInput
from harmoni.model.header import Element

MAX_NESTING: Final = 16
MAX_ELEMENTS: Final = 400_000
"""Elements and items together: each takes some hundred bytes of memory."""
MAX_SHORT_VALUE_BYTES: Final = 0xFFFE
"""The longest even value that a length of 16 bits can tell."""

_PADDED_WITH_ZERO: Final = frozenset({"UI", "OB", "UN"})
_INTEGERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}


@dataclass(frozen=True, slots=True)
class Sequence:
    """An element of VR SQ: its items, each a data set of its own (PS3.5 7.5)."""

    tag: int
    items: tuple["DataSet", ...]


DataSet = Mapping[int, Element | Sequence]
"""Elements by tag."""


@lru_cache(maxsize=4096)
def vr_of_tag(tag: int) -> str:
    """The value representation that PS3.6 gives a tag, the first of several; UN when unknown."""
    try:
        return datadict.dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def data_set_syntax(transfer_syntax_uid: str) -> TransferSyntax:
    """How a data set without pixels may be encoded.

    Raises:
        InvalidInput: the syntax is unknown or one of encapsulated pixels.
    """
    syntax = storage_transfer_syntax(transfer_syntax_uid)
    if syntax is None or syntax.encapsulated:
        raise InvalidInput(
            f"a data set without pixels cannot be encoded as {transfer_syntax_uid!r}; negotiate "
            "Implicit or Explicit VR Little Endian"
        )
    return syntax


def decode_data_set(data: bytes, transfer_syntax_uid: str, max_bytes: int) -> DataSet:
    """Read a whole data set.

    The VR of an element is the one of PS3.6 when the tag is known there, whatever the bytes say.

    Args:
        data: as received.
        transfer_syntax_uid: the one of its presentation context.
        max_bytes: how long it may be, inflated too.

    Raises:
        InvalidInput: it is too long, cut off, nested too deep, or breaks PS3.5 7 elsewhere.
    """
    syntax = data_set_syntax(transfer_syntax_uid)
    if len(data) <= max_bytes and syntax.deflated:
        data = _inflate(data, max_bytes)
    if len(data) > max_bytes:
        raise InvalidInput(f"the data set is longer than {max_bytes} bytes; ask for less at once")
    data_set, _ = _Reader(data).elements(0, len(data), encoding_of(syntax), 0)
    return data_set


def encode_data_set(elements: Iterable[Element | Sequence], transfer_syntax_uid: str) -> bytes:
    """Write a data set: ascending tags, even lengths, sequences of defined length.

    Raises:
        InvalidInput: a value is too long for its VR, or the syntax is not for such data sets.
    """
    syntax = data_set_syntax(transfer_syntax_uid)
    encoded = _encode(elements, encoding_of(syntax))
    if not syntax.deflated:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encoded) + deflater.flush()
    return deflated + b"\0" * (len(deflated) & 1)


def encode_integer(
    tag: int, value: int, transfer_syntax_uid: str, *, vr: str | None = None
) -> Element:
    """An element of a binary integer VR, in the byte order of the syntax.

    Args:
        tag: of the element.
        value: one number.
        transfer_syntax_uid: tells the byte order.
        vr: for a private tag; None: the one of PS3.6.

    Raises:
        InvalidInput: the VR is none of US, SS, UL, SL, or cannot hold the value.
    """
    vr = vr_of_tag(tag) if vr is None else vr
    order = "<" if data_set_syntax(transfer_syntax_uid).little_endian else ">"
    try:
        return Element(tag, vr, struct.pack(order + _INTEGERS[vr], value))
    except (KeyError, struct.error) as error:
        raise InvalidInput(f"{value} cannot be a value of {tag:08X}, whose VR is {vr}") from error


def decode_integer(element: Element, transfer_syntax_uid: str) -> int | None:
    """The (first) value of an element of VR US, SS, UL or SL; None when it has none."""
    order = "<" if data_set_syntax(transfer_syntax_uid).little_endian else ">"
    layout = _INTEGERS.get(element.vr)
    if layout is None or len(element.value) < struct.calcsize(order + layout):
        return None
    (value,) = struct.unpack_from(order + layout, element.value)
    return int(value)


def _inflate(data: bytes, max_bytes: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise InvalidInput(f"the deflated data set cannot be inflated: {error}") from error


class _Reader:
    """Reads one buffer; positions are offsets in it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._elements = 0

    def elements(
        self, position: int, end: int | None, encoding: Encoding, depth: int
    ) -> tuple[DataSet, int]:
        """Read elements up to an end, or without one up to Item Delimitation."""
        if depth > MAX_NESTING:
            raise InvalidInput(f"sequences are nested more than {MAX_NESTING} deep; refused")
        found: dict[int, Element | Sequence] = {}
        while end is None or position < end:
            header = self._header(position, end, encoding)
            if end is None and header.tag == ITEM_DELIMITATION:
                return found, header.value_position
            if header.tag >> 16 == ITEM >> 16:
                raise InvalidInput(f"{header.tag:08X} stands where an element belongs")
            element, position = self._element(header, encoding, depth)
            found[header.tag] = element
        return found, position

    def _element(
        self, header: ElementHeader, encoding: Encoding, depth: int
    ) -> tuple[Element | Sequence, int]:
        known = vr_of_tag(header.tag)
        vr = header.vr.decode("ascii") if known == "UN" and header.vr else known
        undefined = header.length == UNDEFINED_LENGTH
        value_end = None if undefined else header.value_position + header.length
        if vr == "SQ" or undefined:
            within = IMPLICIT_LITTLE if header.vr == b"UN" else encoding
            return self._sequence(header, value_end, within, depth)
        value_end = header.value_position + header.length
        return Element(header.tag, vr, self._data[header.value_position : value_end]), value_end

    def _sequence(
        self, header: ElementHeader, end: int | None, encoding: Encoding, depth: int
    ) -> tuple[Sequence, int]:
        items: list[DataSet] = []
        position = header.value_position
        while end is None or position < end:
            item = self._header(position, end, encoding)
            if end is None and item.tag == SEQUENCE_DELIMITATION:
                return Sequence(header.tag, tuple(items)), item.value_position
            if item.tag != ITEM:
                raise InvalidInput(f"{item.tag:08X} stands where an item of a sequence belongs")
            undefined = item.length == UNDEFINED_LENGTH
            item_end = None if undefined else item.value_position + item.length
            content, position = self.elements(item.value_position, item_end, encoding, depth + 1)
            items.append(content)
        return Sequence(header.tag, tuple(items)), position

    def _header(self, position: int, end: int | None, encoding: Encoding) -> ElementHeader:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise InvalidInput(f"the data set has more than {MAX_ELEMENTS} elements; refused")
        header = element_header(self._data, position, encoding)
        limit = len(self._data) if end is None else end
        if header is None or header.value_position > limit:
            raise InvalidInput(f"the data set is cut off at byte {position}; send it anew")
        if header.length != UNDEFINED_LENGTH and header.value_position + header.length > limit:
            raise InvalidInput(
                f"element {header.tag:08X} claims {header.length} bytes, more than there are; the "
                "data set is cut off or in another transfer syntax than its presentation context"
            )
        return header


def _encode(elements: Iterable[Element | Sequence], encoding: Encoding) -> bytes:
    encoded = bytearray()
    for element in sorted(elements, key=_tag):
        if isinstance(element, Sequence):
            vr = "SQ"
            value = b"".join(_item(item, encoding) for item in element.items)
        else:
            vr = element.vr
            value = _padded(element)
        encoded += _header(element.tag, vr, len(value), encoding) + value
    return bytes(encoded)


def _tag(element: Element | Sequence) -> int:
    return element.tag


def _item(item: DataSet, encoding: Encoding) -> bytes:
    content = _encode(item.values(), encoding)
    return encoding.plain.pack(ITEM >> 16, ITEM & 0xFFFF, len(content)) + content


def _padded(element: Element) -> bytes:
    padding = b"\0" if element.vr in _PADDED_WITH_ZERO else b" "
    return element.value + padding * (len(element.value) & 1)


def _header(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if not encoding.explicit_vr:
        return encoding.plain.pack(group, number, length)
    letters = vr.encode("ascii")
    if letters in LONG_VRS:
        return encoding.short.pack(group, number, letters, 0) + encoding.long.pack(length)
    if length > MAX_SHORT_VALUE_BYTES:
        raise InvalidInput(
            f"the value of {tag:08X} has {length} bytes, more than Explicit VR can tell; use "
            "Implicit VR or fewer values"
        )
    return encoding.short.pack(group, number, letters, length)
