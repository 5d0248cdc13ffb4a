"""The beginning of a DICOM file: preamble and File Meta Information (PS3.10 7.1).

Written before every data set that is stored, so that a member of a pack is a valid `.dcm` file;
read from members and from any vendor's files.
"""

import struct
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.encoding import (
    EXPLICIT_LITTLE,
    LONG_VRS,
    UNDEFINED_LENGTH,
    ElementHeader,
    element_header,
)
from harmoni.dicom.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PRIVATE_INFORMATION_CREATOR_UID,
    is_acceptable_uid,
)
from harmoni.model.errors import InvalidInput

MAX_PREFIX_BYTES: Final = 1024 * 1024
"""A prefix that is longer is refused, both ways."""

_PREAMBLE_BYTES: Final = 128
_MAGIC: Final = b"DICM"
_META_GROUP: Final = 0x0002
_GROUP_LENGTH: Final = 0x0002_0000
_VERSION: Final = 0x0002_0001
_SOP_CLASS_UID: Final = 0x0002_0002
_SOP_INSTANCE_UID: Final = 0x0002_0003
_TRANSFER_SYNTAX_UID: Final = 0x0002_0010
_IMPLEMENTATION_CLASS_UID: Final = 0x0002_0012
_IMPLEMENTATION_VERSION_NAME: Final = 0x0002_0013
_PRIVATE_CREATOR_UID: Final = 0x0002_0100
_PRIVATE_INFORMATION: Final = 0x0002_0102


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """What the beginning of a file says, and where its data set starts."""

    sop_class_uid: str
    """Media Storage SOP Class UID, "" when absent."""
    sop_instance_uid: str
    """Media Storage SOP Instance UID, "" when absent."""
    transfer_syntax_uid: str
    private_information: bytes | None
    """Private Information (0002,0102) when we wrote the file, else None. With its padding: one
    zero byte may follow what was given to `file_meta`."""
    dataset_offset: int
    prefix: bytes
    """Everything before the data set, as it was."""


def file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    private_information: bytes,
) -> bytes:
    """Preamble, `DICM` and File Meta Information in front of a data set (PS3.10 Table 7.1-1).

    Args:
        sop_class_uid: SOP Class UID of the data set.
        sop_instance_uid: SOP Instance UID of the data set.
        transfer_syntax_uid: how the data set is encoded.
        private_information: the value of (0002,0102); padded with a zero byte to an even length.

    Raises:
        InvalidInput: a UID cannot be written, or the result would exceed `MAX_PREFIX_BYTES`.
    """
    elements = b"".join(
        (
            _element(_VERSION, b"OB", b"\0\1"),
            _uid(_SOP_CLASS_UID, sop_class_uid),
            _uid(_SOP_INSTANCE_UID, sop_instance_uid),
            _uid(_TRANSFER_SYNTAX_UID, transfer_syntax_uid),
            _uid(_IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID),
            _element(_IMPLEMENTATION_VERSION_NAME, b"SH", _VERSION_NAME),
            _uid(_PRIVATE_CREATOR_UID, PRIVATE_INFORMATION_CREATOR_UID),
            _element(_PRIVATE_INFORMATION, b"OB", private_information),
        )
    )
    group_length = _element(_GROUP_LENGTH, b"UL", struct.pack("<I", len(elements)))
    prefix = bytes(_PREAMBLE_BYTES) + _MAGIC + group_length + elements
    if len(prefix) > MAX_PREFIX_BYTES:
        raise InvalidInput(
            f"the file meta information would have {len(prefix)} bytes, more than "
            f"{MAX_PREFIX_BYTES}; shorten the private information"
        )
    return prefix


def read_prefix(data: bytes | bytearray | memoryview) -> FileMeta:
    """Read the beginning of a DICOM file, of any vendor.

    Forgiven are a missing preamble, a missing or wrong group length, elements of implicit VR and
    odd lengths: the group ends where another group begins.

    Args:
        data: the file, or at least its first bytes up to the data set.

    Raises:
        InvalidInput: there is no file meta information, it is cut or too long, or it does not
            name the transfer syntax. Such a file can only be sent by an association.
    """
    start = _start(bytes(data[: _PREAMBLE_BYTES + len(_MAGIC)]))
    head = memoryview(data)[: MAX_PREFIX_BYTES + 1]
    values: dict[int, bytes] = {}
    position = start
    while (header := _meta_element(head, position)) is not None:
        position = header.value_position + header.length
        if header.length == UNDEFINED_LENGTH or position > len(head):
            raise InvalidInput(
                f"element {header.tag:08X} of the file meta information is cut off or longer than "
                f"{MAX_PREFIX_BYTES} bytes; the file is incomplete or none of DICOM"
            )
        values[header.tag] = bytes(head[header.value_position : position])
    if position > MAX_PREFIX_BYTES:
        raise InvalidInput(
            f"the file meta information has more than {MAX_PREFIX_BYTES} bytes; it is refused"
        )
    transfer_syntax_uid = _text(values.get(_TRANSFER_SYNTAX_UID, b""))
    if not transfer_syntax_uid:
        raise InvalidInput(
            "the file meta information does not name a transfer syntax, so the data set cannot be "
            "read; repair the file with its vendor's tools"
        )
    ours = _text(values.get(_PRIVATE_CREATOR_UID, b"")) == PRIVATE_INFORMATION_CREATOR_UID
    return FileMeta(
        sop_class_uid=_text(values.get(_SOP_CLASS_UID, b"")),
        sop_instance_uid=_text(values.get(_SOP_INSTANCE_UID, b"")),
        transfer_syntax_uid=transfer_syntax_uid,
        private_information=values.get(_PRIVATE_INFORMATION) if ours else None,
        dataset_offset=position,
        prefix=bytes(head[:position]),
    )


def _start(head: bytes) -> int:
    if head[_PREAMBLE_BYTES:] == _MAGIC:
        return _PREAMBLE_BYTES + len(_MAGIC)
    if head.startswith(_MAGIC):
        return len(_MAGIC)
    if head.startswith(struct.pack("<H", _META_GROUP)):
        return 0
    raise InvalidInput(
        "there is neither DICM after 128 bytes nor file meta information at the start: this is no "
        "DICOM file (PS3.10 7.1)"
    )


def _meta_element(head: memoryview, position: int) -> ElementHeader | None:
    """The header of the next element of group 0002; None when the group ends here."""
    if head[position : position + 2] != struct.pack("<H", _META_GROUP):
        return None
    header = element_header(head, position, EXPLICIT_LITTLE)
    if header is None:
        raise InvalidInput("the file meta information is cut off; the file is incomplete")
    return header


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) & 1)
    group, element = tag >> 16, tag & 0xFFFF
    if vr in LONG_VRS:
        return struct.pack("<HH2sHI", group, element, vr, 0, len(value)) + value
    return EXPLICIT_LITTLE.short.pack(group, element, vr, len(value)) + value


def _uid(tag: int, uid: str) -> bytes:
    if not is_acceptable_uid(uid):
        raise InvalidInput(f"{uid!r} cannot be written as a UID: 1 to 64 printable characters")
    return _element(tag, b"UI", uid.encode("ascii"))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


# Padded with a space, as every string but a UID is (PS3.5 6.2).
_VERSION_NAME: Final = IMPLEMENTATION_VERSION_NAME.encode().ljust(
    len(IMPLEMENTATION_VERSION_NAME) + len(IMPLEMENTATION_VERSION_NAME) % 2
)
