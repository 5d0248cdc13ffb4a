"""The seven PDUs of the DICOM upper layer (PS3.8 9.3), both ways.

A PDU is type (1 byte), reserved (1 byte), length of the rest (4 bytes, big endian), the rest.
`decode` takes the rest as a whole, so it serves the small control PDUs; P-DATA-TF on the way of a
stored object is never materialised, `reception` and `fragmentation` see to it.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harmoni.dicom.items import (
    ItemType,
    UserInformation,
    decode_uid,
    decode_user_information,
    encode_uid,
    encode_user_information,
    item,
    malformed,
    split_items,
)
from harmoni.dicom.uids import APPLICATION_CONTEXT
from harmoni.model.errors import LocalProtocolError

Buffer = bytes | bytearray | memoryview

HEADER: Final = struct.Struct(">BxI")
"""Type and length in front of every PDU; 6 bytes."""

PDV_HEADER: Final = struct.Struct(">IBB")
"""Length (context id and control header included), context id, control header; 6 bytes."""

COMMAND_FRAGMENT: Final = 0x01
LAST_FRAGMENT: Final = 0x02
"""The bits of the message control header (PS3.8 Annex E.2)."""

PROTOCOL_VERSION: Final = 0x0001
MAX_CONTEXTS: Final = 128
MAX_AE_TITLE_CHARACTERS: Final = 16

_ASSOCIATE: Final = struct.Struct(">H2x16s16s32x")
_FOUR: Final = struct.Struct(">xBBB")
_CONTEXT: Final = struct.Struct(">BxBx")


class PduType(IntEnum):
    """The first byte of a PDU (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class ContextResult(IntEnum):
    """What became of a proposed presentation context (PS3.8 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class AbortSource(IntEnum):
    """Who aborts (PS3.8 Table 9-26)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Why the service provider aborts (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_VALUE = 6


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of a request (PS3.8 9.3.2.2).

    Attributes:
        id: odd, 1 to 255, unique in its request.
        abstract_syntax: a SOP class UID.
        transfer_syntaxes: UIDs in the requestor's order; at least one.
    """

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """One presentation context of an answer (PS3.8 9.3.3.2).

    Attributes:
        id: that of the proposed context.
        result: see `ContextResult`; other values may come from peers and mean rejection.
        transfer_syntax: the chosen one; means nothing, and may be empty, unless accepted.
    """

    id: int
    result: int
    transfer_syntax: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRQ:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ProposedContext, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAC:
    """A-ASSOCIATE-AC (PS3.8 9.3.3); the titles are echoed and not to be tested."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[AnsweredContext, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4, Table 9-21).

    Attributes:
        result: 1 permanent, 2 transient.
        source: 1 service user, 2 service provider (ACSE), 3 service provider (presentation).
        reason: its meaning depends on the source.
    """

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class PresentationDataValue:
    """One fragment of a message (PS3.8 9.3.5.1)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: Buffer


@dataclass(frozen=True, slots=True)
class DataTF:
    """P-DATA-TF (PS3.8 9.3.5) as a value."""

    values: tuple[PresentationDataValue, ...]


@dataclass(frozen=True, slots=True)
class ReleaseRQ:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseRP:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8); see `AbortSource` and `AbortReason`."""

    source: int
    reason: int


Pdu = AssociateRQ | AssociateAC | AssociateRJ | DataTF | ReleaseRQ | ReleaseRP | Abort


def encode(pdu: Pdu) -> bytes:  # noqa: PLR0911 - one return per PDU
    """Encode a PDU, its 6-byte header included.

    Raises:
        LocalProtocolError: a value does not fit its field.
    """
    match pdu:
        case AssociateRQ():
            return _framed(PduType.ASSOCIATE_RQ, _encode_request(pdu))
        case AssociateAC():
            return _framed(PduType.ASSOCIATE_AC, _encode_answer(pdu))
        case AssociateRJ():
            body = _FOUR.pack(pdu.result, pdu.source, pdu.reason)
            return _framed(PduType.ASSOCIATE_RJ, body)
        case DataTF():
            return _framed(PduType.DATA_TF, b"".join(map(_encode_value, pdu.values)))
        case ReleaseRQ():
            return _framed(PduType.RELEASE_RQ, bytes(4))
        case ReleaseRP():
            return _framed(PduType.RELEASE_RP, bytes(4))
        case Abort():
            return _framed(PduType.ABORT, _FOUR.pack(0, pdu.source, pdu.reason))


def decode(pdu_type: int, body: Buffer) -> Pdu:  # noqa: PLR0911 - one return per PDU
    """Decode a PDU from its type and what follows its 6-byte header.

    The caller has bounded the length of the body before it was gathered.

    Raises:
        RemoteProtocolError: the type is unknown or the body breaks PS3.8.
    """
    view = memoryview(body)
    match pdu_type:
        case PduType.ASSOCIATE_RQ:
            return _decode_request(view)
        case PduType.ASSOCIATE_AC:
            return _decode_answer(view)
        case PduType.ASSOCIATE_RJ:
            return AssociateRJ(*_FOUR.unpack(_four(view)))
        case PduType.DATA_TF:
            return DataTF(_decode_values(view))
        case PduType.RELEASE_RQ:
            _four(view)
            return ReleaseRQ()
        case PduType.RELEASE_RP:
            _four(view)
            return ReleaseRP()
        case PduType.ABORT:
            _, source, reason = _FOUR.unpack(_four(view))
            return Abort(source, reason)
        case _:
            raise malformed(f"PDU type {pdu_type:02X}H", AbortReason.UNRECOGNIZED_PDU)


def _framed(pdu_type: PduType, body: bytes) -> bytes:
    return HEADER.pack(pdu_type, len(body)) + body


def _four(body: memoryview) -> memoryview:
    if len(body) != _FOUR.size:
        raise malformed(f"a control PDU of {len(body)} bytes instead of 4")
    return body


def encode_ae_title(title: str) -> bytes:
    """Encode an AE title in its 16 bytes, padded with spaces (PS3.8 9.3.2).

    Raises:
        LocalProtocolError: it is longer than 16 characters or not of the default repertoire.
    """
    if len(title) > MAX_AE_TITLE_CHARACTERS or not title.isascii():
        raise LocalProtocolError(f"{title!r} cannot be an AE title: at most 16 ASCII characters")
    return title.ljust(MAX_AE_TITLE_CHARACTERS).encode("ascii")


def _decode_ae_title(raw: bytes) -> str:
    # Latin-1 cannot fail; what is no AE title in our registry is refused there, with its name.
    return raw.decode("latin-1").strip(" \0")


def _encode_fixed(pdu: AssociateRQ | AssociateAC) -> bytes:
    return _ASSOCIATE.pack(
        pdu.protocol_version,
        encode_ae_title(pdu.called_ae_title),
        encode_ae_title(pdu.calling_ae_title),
    ) + item(ItemType.APPLICATION_CONTEXT, encode_uid(pdu.application_context))


def _encode_request(pdu: AssociateRQ) -> bytes:
    ids = [context.id for context in pdu.presentation_contexts]
    if len(set(ids)) != len(ids) or not all(_is_context_id(number) for number in ids):
        raise LocalProtocolError(f"presentation context ids {ids}: they must be odd and unique")
    parts = [_encode_fixed(pdu)]
    for context in pdu.presentation_contexts:
        value = _CONTEXT.pack(context.id, 0)
        value += item(ItemType.ABSTRACT_SYNTAX, encode_uid(context.abstract_syntax))
        for uid in context.transfer_syntaxes:
            value += item(ItemType.TRANSFER_SYNTAX, encode_uid(uid))
        parts.append(item(ItemType.PRESENTATION_CONTEXT_RQ, value))
    parts.append(item(ItemType.USER_INFORMATION, encode_user_information(pdu.user_information)))
    return b"".join(parts)


def _encode_answer(pdu: AssociateAC) -> bytes:
    parts = [_encode_fixed(pdu)]
    for context in pdu.presentation_contexts:
        # A rejected context carries the item too, not to be tested; peers expect it to be there.
        uid = encode_uid(context.transfer_syntax) if context.transfer_syntax else b""
        value = _CONTEXT.pack(context.id, context.result) + item(ItemType.TRANSFER_SYNTAX, uid)
        parts.append(item(ItemType.PRESENTATION_CONTEXT_AC, value))
    parts.append(item(ItemType.USER_INFORMATION, encode_user_information(pdu.user_information)))
    return b"".join(parts)


def _is_context_id(number: int) -> bool:
    return number % 2 == 1 and 0 < number < 2 * MAX_CONTEXTS


def _decode_fixed(body: memoryview) -> tuple[int, str, str]:
    if len(body) < _ASSOCIATE.size:
        raise malformed(f"{len(body)} bytes, at least {_ASSOCIATE.size} are needed")
    version, called, calling = _ASSOCIATE.unpack_from(body)
    return version, _decode_ae_title(called), _decode_ae_title(calling)


def _decode_request(body: memoryview) -> AssociateRQ:
    version, called, calling = _decode_fixed(body)
    name, information, values = _decode_variable(body, ItemType.PRESENTATION_CONTEXT_RQ)
    contexts = tuple(map(_decode_proposed, values))
    _require_unique([context.id for context in contexts])
    return AssociateRQ(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=contexts,
        user_information=information,
        application_context=name,
        protocol_version=version,
    )


def _decode_answer(body: memoryview) -> AssociateAC:
    version, called, calling = _decode_fixed(body)
    name, information, values = _decode_variable(body, ItemType.PRESENTATION_CONTEXT_AC)
    contexts = tuple(map(_decode_answered, values))
    _require_unique([context.id for context in contexts])
    return AssociateAC(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=contexts,
        user_information=information,
        application_context=name,
        protocol_version=version,
    )


def _decode_variable(
    body: memoryview, context_item: ItemType
) -> tuple[str, UserInformation, list[memoryview]]:
    """The variable items of A-ASSOCIATE-RQ and -AC: application context, user, contexts."""
    name = ""
    information = UserInformation()
    contexts: list[memoryview] = []
    for kind, value in split_items(body[_ASSOCIATE.size :]):
        if kind == context_item:
            contexts.append(value)
        elif kind == ItemType.APPLICATION_CONTEXT:
            name = decode_uid(value)
        elif kind == ItemType.USER_INFORMATION:
            information = decode_user_information(value)
    if not name:
        raise malformed("no application context name")
    return name, information, contexts


def _require_unique(ids: list[int]) -> None:
    if len(set(ids)) != len(ids):
        raise malformed(f"a presentation context id comes twice: {ids[: MAX_CONTEXTS + 1]}")


def _context_header(value: memoryview) -> tuple[int, int]:
    if len(value) < _CONTEXT.size:
        raise malformed("a presentation context is cut short")
    number, result = _CONTEXT.unpack_from(value)
    if not _is_context_id(number):
        raise malformed(f"presentation context id {number}: it must be odd")
    return number, result


def _decode_proposed(value: memoryview) -> ProposedContext:
    number, _ = _context_header(value)
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, uid in split_items(value[_CONTEXT.size :]):
        match kind:
            case ItemType.ABSTRACT_SYNTAX:
                if abstract_syntax:
                    raise malformed(f"presentation context {number} has two abstract syntaxes")
                abstract_syntax = decode_uid(uid)
            case ItemType.TRANSFER_SYNTAX:
                transfer_syntaxes.append(decode_uid(uid))
            case _:
                pass
    if not abstract_syntax or not transfer_syntaxes:
        raise malformed(f"presentation context {number} lacks an abstract or transfer syntax")
    return ProposedContext(number, abstract_syntax, tuple(transfer_syntaxes))


def _decode_answered(value: memoryview) -> AnsweredContext:
    number, result = _context_header(value)
    transfer_syntax = ""
    for kind, uid in split_items(value[_CONTEXT.size :]):
        # Only the syntax of an accepted context means something; others may hold anything.
        if kind == ItemType.TRANSFER_SYNTAX and result == ContextResult.ACCEPTANCE:
            transfer_syntax = decode_uid(uid)
    if result == ContextResult.ACCEPTANCE and not transfer_syntax:
        raise malformed(f"presentation context {number} is accepted without a transfer syntax")
    return AnsweredContext(number, result, transfer_syntax)


def _encode_value(value: PresentationDataValue) -> bytes:
    control = COMMAND_FRAGMENT * value.is_command | LAST_FRAGMENT * value.is_last
    return PDV_HEADER.pack(len(value.data) + 2, value.context_id, control) + bytes(value.data)


def _decode_values(body: memoryview) -> tuple[PresentationDataValue, ...]:
    values: list[PresentationDataValue] = []
    at = 0
    while at < len(body):
        if len(body) - at < PDV_HEADER.size:
            raise malformed("a presentation data value is cut short")
        length, context_id, control = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        at += PDV_HEADER.size
        if not at <= end <= len(body):
            raise malformed(f"a presentation data value says {length} bytes")
        values.append(
            PresentationDataValue(
                context_id,
                bool(control & COMMAND_FRAGMENT),
                bool(control & LAST_FRAGMENT),
                bytes(body[at:end]),
            )
        )
        at = end
    if not values:
        raise malformed("a P-DATA-TF PDU without a presentation data value")
    return tuple(values)
