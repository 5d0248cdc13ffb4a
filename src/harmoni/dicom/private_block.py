"""Our private block (PS3.5 7.8.1), which small data sets between our own nodes also carry.

An element (0009,00bb) with our creator reserves (0009,bb00) to (0009,bbFF). Where we write, bb is
10; where we read, it is wherever the creator stands. Other peers neither send it nor mind it.
"""

from typing import Final

from harmoni.dicom.dataset import DataSet
from harmoni.model.header import Element

CREATOR: Final = "HARMONI"
SHA256: Final = 0x01
"""OB, 32 bytes: SHA-256 of a data set as it was received."""
COPIES: Final = 0x04
"""US: how many verified copies there are."""
SITES: Final = 0x05
"""LO, several values: the sites that have them."""
TRANSFER_SYNTAX: Final = 0x06
"""UI: the transfer syntax in which that data set was received."""
SHA256_BYTES: Final = 32
DATASET_SHA256: Final = 0x0009_1001
"""SHA-256 of a data set where answers are mappings from tag to text: as hexadecimal digits."""

_GROUP: Final = 0x0009
_FIRST_BLOCK: Final = 0x10
_LAST_BLOCK: Final = 0xFF


def tag(number: int, block: int = _FIRST_BLOCK) -> int:
    """The tag of an element of a block, (0009,bbxx).

    Args:
        number: xx, such as `SHA256`.
        block: bb, from `find`; without it, that of the block that we write.
    """
    return _GROUP << 16 | block << 8 | number


def creator(block: int = _FIRST_BLOCK) -> Element:
    """The element that reserves a block; without it the others mean nothing."""
    return Element(_creator_tag(block), "LO", CREATOR.encode("ascii"))


def is_private(a_tag: int) -> bool:
    """Whether a tag is a private one, whoever's: those of odd groups (PS3.5 7.8)."""
    return bool(a_tag >> 16 & 1)


def find(data_set: DataSet) -> int | None:
    """The number of our block in a data set or an item, the first of several; None without one."""
    for found, element in data_set.items():
        block = found - _creator_tag(0)
        if not _FIRST_BLOCK <= block <= _LAST_BLOCK or not isinstance(element, Element):
            continue
        if element.value.rstrip(b" \0") == CREATOR.encode("ascii"):
            return block
    return None


def value(data_set: DataSet, number: int, block: int) -> bytes | None:
    """The raw value of an element of a block; None when it is absent or a sequence."""
    element = data_set.get(tag(number, block))
    return element.value if isinstance(element, Element) else None


def _creator_tag(block: int) -> int:
    return _GROUP << 16 | block
