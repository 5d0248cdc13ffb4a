"""DIMSE command sets (PS3.7 6.3, 9.3, 10.3, Annex E): one value for every message, both ways.

A command set is group 0000 in Implicit VR Little Endian, tags ascending, group length first. It
comes with every stored object, so it is coded here by hand instead of by a data set library.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

Buffer = bytes | bytearray | memoryview

_ELEMENT: Final = struct.Struct("<HHI")
_GROUP_LENGTH: Final = struct.Struct("<HHII")
_US_ELEMENT: Final = struct.Struct("<HHIH")
_U16: Final = struct.Struct("<H")
_TAG: Final = struct.Struct("<HH")
_RESPONSE_BIT: Final = 0x8000
_NO_DATA_SET: Final = 0x0101
_DATA_SET: Final = 0x0001
_MAX_ATTRIBUTES: Final = 1024
_MAX_UID_BYTES: Final = 64
_MAX_AE_BYTES: Final = 16
_MAX_LO_BYTES: Final = 64
_ERROR_COMMENT: Final = 0x0902
_INVALID_VALUE: Final = 6

_NUMBERS: Final = frozenset(
    (
        *(0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x0903, 0x1002, 0x1008),
        *(0x1020, 0x1021, 0x1022, 0x1023, 0x1031),
    )
)
_TAG_LISTS: Final = frozenset((0x0901, 0x1005))
_TEXT_LIMITS: Final = {
    0x0002: _MAX_UID_BYTES,
    0x0003: _MAX_UID_BYTES,
    0x0600: _MAX_AE_BYTES,
    # Some peers explain themselves at length; what they say is only shown.
    _ERROR_COMMENT: 1024,
    0x1000: _MAX_UID_BYTES,
    0x1001: _MAX_UID_BYTES,
    0x1030: _MAX_AE_BYTES,
}


class CommandField(IntEnum):
    """(0000,0100): which message it is (PS3.7 Table E.1-1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF

    @property
    def is_response(self) -> bool:
        """Whether the message answers a request."""
        return bool(self & _RESPONSE_BIT)


_FIELDS: Final = {int(field): field for field in CommandField}


class Priority(IntEnum):
    """(0000,0700) of C-STORE, C-FIND, C-MOVE and C-GET requests."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command set; an attribute that is None is absent (PS3.7 Annex E.1).

    `message_id` is there in every request but C-CANCEL; `message_id_responded_to` in every
    response and in C-CANCEL; `status` in every response. `decode_command` sees to it.
    Attribute names are the keywords of PS3.6; counts of sub-operations are 0 to 65,535.
    """

    field: CommandField
    has_data_set: bool = False
    message_id: int | None = None
    message_id_responded_to: int | None = None
    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    priority: int | None = None
    status: int | None = None
    offending_element: tuple[int, ...] = ()
    error_comment: str | None = None
    error_id: int | None = None
    move_destination: str | None = None
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    attribute_identifier_list: tuple[int, ...] = ()


def response(
    request: Command,
    status: int,
    *,
    has_data_set: bool = False,
    error_comment: str | None = None,
    number_of_remaining_suboperations: int | None = None,
    number_of_completed_suboperations: int | None = None,
    number_of_failed_suboperations: int | None = None,
    number_of_warning_suboperations: int | None = None,
) -> Command:
    """Build the response to a request: message id, SOP class and instance, types carried over.

    Args:
        request: any request but C-CANCEL.
        status: see `harmoni.dicom.status`.
        has_data_set: an identifier or a reply follows.
        error_comment: cut to 64 ASCII characters, the most that the element takes.
        number_of_remaining_suboperations: of C-MOVE and C-GET, as the other three.
        number_of_completed_suboperations: likewise.
        number_of_failed_suboperations: likewise.
        number_of_warning_suboperations: likewise.

    Raises:
        LocalProtocolError: the message takes no response.
    """
    if request.field.is_response or request.field is CommandField.C_CANCEL_RQ:
        raise LocalProtocolError(f"{request.field.name} takes no response")
    return Command(
        field=CommandField(request.field | _RESPONSE_BIT),
        has_data_set=has_data_set,
        message_id_responded_to=request.message_id,
        affected_sop_class_uid=request.affected_sop_class_uid or request.requested_sop_class_uid,
        affected_sop_instance_uid=(
            request.affected_sop_instance_uid or request.requested_sop_instance_uid
        ),
        status=status,
        error_comment=None if error_comment is None else _comment(error_comment),
        event_type_id=request.event_type_id,
        action_type_id=request.action_type_id,
        number_of_remaining_suboperations=number_of_remaining_suboperations,
        number_of_completed_suboperations=number_of_completed_suboperations,
        number_of_failed_suboperations=number_of_failed_suboperations,
        number_of_warning_suboperations=number_of_warning_suboperations,
    )


def _comment(text: str) -> str:
    """What of a text can stand in (0000,0902): 64 characters of the default repertoire."""
    return text[:_MAX_LO_BYTES].encode("ascii", "replace").decode("ascii")


def encode_command(command: Command) -> bytes:
    """Encode a command set, group length first.

    Raises:
        LocalProtocolError: a value does not fit its element.
    """
    body = b"".join(
        (
            _ui(0x0002, command.affected_sop_class_uid),
            _ui(0x0003, command.requested_sop_class_uid),
            _us(0x0100, command.field),
            _us(0x0110, command.message_id),
            _us(0x0120, command.message_id_responded_to),
            _ae(0x0600, command.move_destination),
            _us(0x0700, command.priority),
            _us(0x0800, _DATA_SET if command.has_data_set else _NO_DATA_SET),
            _us(0x0900, command.status),
            _at(0x0901, command.offending_element),
            _lo(0x0902, command.error_comment),
            _us(0x0903, command.error_id),
            _ui(0x1000, command.affected_sop_instance_uid),
            _ui(0x1001, command.requested_sop_instance_uid),
            _us(0x1002, command.event_type_id),
            _at(0x1005, command.attribute_identifier_list),
            _us(0x1008, command.action_type_id),
            _us(0x1020, command.number_of_remaining_suboperations),
            _us(0x1021, command.number_of_completed_suboperations),
            _us(0x1022, command.number_of_failed_suboperations),
            _us(0x1023, command.number_of_warning_suboperations),
            _ae(0x1030, command.move_originator_ae_title),
            _us(0x1031, command.move_originator_message_id),
        )
    )
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _us(element: int, value: int | None) -> bytes:
    if value is None:
        return b""
    try:
        return _US_ELEMENT.pack(0, element, 2, value)
    except struct.error as error:
        raise LocalProtocolError(f"(0000,{element:04X}) cannot be {value}: 0 to 65535") from error


def _ui(element: int, value: str | None) -> bytes:
    return b"" if value is None else _text(element, value, _MAX_UID_BYTES, b"\0")


def _ae(element: int, value: str | None) -> bytes:
    return b"" if value is None else _text(element, value, _MAX_AE_BYTES, b" ")


def _lo(element: int, value: str | None) -> bytes:
    return b"" if value is None else _text(element, value, _MAX_LO_BYTES, b" ")


def _text(element: int, value: str, limit: int, padding: bytes) -> bytes:
    if len(value) > limit or not value.isascii():
        raise LocalProtocolError(
            f"(0000,{element:04X}) cannot be {value!r}: at most {limit} ASCII characters"
        )
    raw = value.encode("ascii")
    if len(raw) & 1:
        raw += padding
    return _ELEMENT.pack(0, element, len(raw)) + raw


def _at(element: int, tags: tuple[int, ...]) -> bytes:
    if not tags:
        return b""
    raw = b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    return _ELEMENT.pack(0, element, len(raw)) + raw


def decode_command(data: Buffer) -> Command:
    """Decode a command set; elements that are not known here are skipped, empty ones are absent.

    The caller has bounded the size. Trailing padding is dropped.

    Raises:
        RemoteProtocolError: it is not a command set, or one without the elements that every
            message of its kind has.
    """
    numbers: dict[int, int] = {}
    texts: dict[int, str] = {}
    tags: dict[int, tuple[int, ...]] = {}
    raw = bytes(data)
    at = 0
    size = len(raw)
    while at < size:
        if size - at < _ELEMENT.size:
            raise _malformed("an element is cut short")
        group, element, length = _ELEMENT.unpack_from(raw, at)
        at += _ELEMENT.size
        end = at + length
        if group or end > size:
            raise _malformed(f"element ({group:04X},{element:04X}) of {length} bytes")
        if not length:
            continue
        if element in _NUMBERS:
            if length != _U16.size:
                raise _malformed(f"(0000,{element:04X}) has {length} bytes instead of 2")
            (numbers[element],) = _U16.unpack_from(raw, at)
        elif element in _TEXT_LIMITS:
            texts[element] = _decode_text(element, raw[at:end])
        elif element in _TAG_LISTS:
            tags[element] = _decode_tags(element, raw[at:end])
        at = end
    command = _assemble(numbers, texts, tags)
    _require_mandatory(command)
    return command


def _assemble(
    numbers: dict[int, int], texts: dict[int, str], tags: dict[int, tuple[int, ...]]
) -> Command:
    field = _FIELDS.get(numbers.get(0x0100, -1))
    data_set_type = numbers.get(0x0800)
    if field is None or data_set_type is None:
        raise _malformed(f"no or unknown Command Field {numbers.get(0x0100)}, or no Data Set Type")
    number = numbers.get
    text = texts.get
    return Command(
        field=field,
        has_data_set=data_set_type != _NO_DATA_SET,
        message_id=number(0x0110),
        message_id_responded_to=number(0x0120),
        affected_sop_class_uid=text(0x0002),
        requested_sop_class_uid=text(0x0003),
        affected_sop_instance_uid=text(0x1000),
        requested_sop_instance_uid=text(0x1001),
        priority=number(0x0700),
        status=number(0x0900),
        offending_element=tags.get(0x0901, ()),
        error_comment=text(0x0902),
        error_id=number(0x0903),
        move_destination=text(0x0600),
        move_originator_ae_title=text(0x1030),
        move_originator_message_id=number(0x1031),
        number_of_remaining_suboperations=number(0x1020),
        number_of_completed_suboperations=number(0x1021),
        number_of_failed_suboperations=number(0x1022),
        number_of_warning_suboperations=number(0x1023),
        event_type_id=number(0x1002),
        action_type_id=number(0x1008),
        attribute_identifier_list=tags.get(0x1005, ()),
    )


_WITHOUT_DATA_SET: Final = frozenset(
    (
        CommandField.C_ECHO_RQ,
        CommandField.C_ECHO_RSP,
        CommandField.C_STORE_RSP,
        CommandField.C_CANCEL_RQ,
    )
)
"""Messages that never have one (PS3.7 9.3): nobody would take it."""


def _require_mandatory(command: Command) -> None:
    if command.field.is_response:
        complete = command.message_id_responded_to is not None and command.status is not None
    elif command.field is CommandField.C_CANCEL_RQ:
        complete = command.message_id_responded_to is not None
    else:
        complete = command.message_id is not None
    if not complete:
        raise _malformed(f"{command.field.name} without its message id or status")
    if command.has_data_set and command.field in _WITHOUT_DATA_SET:
        raise _malformed(f"{command.field.name} that announces a data set")


def _decode_text(element: int, raw: bytes) -> str:
    value = raw.rstrip(b"\0 ")
    if len(value) > _TEXT_LIMITS[element]:
        raise _malformed(f"(0000,{element:04X}) has {len(value)} characters")
    text = value.decode("latin-1")
    # Error comments from peers come in any character set and are only shown.
    if element != _ERROR_COMMENT and not (text.isascii() and text.isprintable()):
        raise _malformed(f"(0000,{element:04X}) is not printable ASCII")
    return text.lstrip(" ")


def _decode_tags(element: int, raw: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(raw), _TAG.size)
    if rest or count > _MAX_ATTRIBUTES:
        raise _malformed(f"(0000,{element:04X}) of {len(raw)} bytes is no list of tags")
    return tuple(group << 16 | number for group, number in _TAG.iter_unpack(raw))


def _malformed(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"malformed command set: {message}", _INVALID_VALUE)
