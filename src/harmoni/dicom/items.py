"""The items inside association PDUs: user information and its sub-items (PS3.8 9.3, PS3.7 Annex D).

Every item is type (1 byte), reserved (1 byte), length (2 bytes, big endian), value. Sub-items of a
type that is not known here are skipped and not kept. No length is believed before it was compared
with the bytes that are there, and the number of items per level is bounded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

type_and_length: Final = struct.Struct(">BxH")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_WINDOW: Final = struct.Struct(">HH")

MAX_ITEMS: Final = 1024
"""How many items one level may hold: eight for each of the 128 presentation contexts."""

MAX_UID_CHARACTERS: Final = 64
_MAX_FIELD_BYTES: Final = 0xFFFF

INVALID_VALUE: Final = 6
"""The A-ABORT reason "invalid PDU parameter value" (PS3.8 Table 9-26)."""


class ItemType(IntEnum):
    """The item types that we know (PS3.8 Tables 9-12 to 9-18, PS3.7 Annex D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAX_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ASYNCHRONOUS_OPERATIONS_WINDOW = 0x53
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55
    SOP_CLASS_EXTENDED = 0x56
    SOP_CLASS_COMMON_EXTENDED = 0x57
    USER_IDENTITY_RQ = 0x58
    USER_IDENTITY_AC = 0x59


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousOperationsWindow:
    """How many operations may be outstanding (PS3.7 D.3.3.3); both from the requestor's view.

    Attributes:
        invoked: operations that the association requestor may invoke; 0 means unlimited.
        performed: operations that the association requestor may have to perform; 0 unlimited.
    """

    invoked: int
    performed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSelection:
    """The roles of the association *requestor* for one SOP class (PS3.7 D.3.3.4).

    In a request: what the requestor proposes to be. In an answer: what the acceptor allows it.
    """

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SopClassExtended:
    """Service-class application information for one SOP class (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SopClassCommonExtended:
    """The service class and related general SOP classes of one SOP class (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """Who the requestor's user says to be (PS3.7 D.3.3.7); names and secrets are in no repr.

    Attributes:
        kind: 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token.
        response_requested: the requestor wants a `UserIdentityResponse`.
        primary: user name, ticket, assertion or token.
        secondary: the passcode of kind 2, otherwise empty.
    """

    kind: int
    response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentityResponse:
    """The acceptor's answer to a user identity (PS3.7 D.3.3.7.2)."""

    server_response: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInformation:
    """The user information item of A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2.3, PS3.7 Annex D.3.3).

    Attributes:
        max_length: the longest variable field of a P-DATA-TF PDU that the sender of this item
            takes, in bytes; 0 means no limit. `Association` puts its own limit here.
        implementation_class_uid: who wrote the software; empty if a peer leaves it out.
        implementation_version_name: at most 16 characters, or None.
    """

    max_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str | None = None
    window: AsynchronousOperationsWindow | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[SopClassExtended, ...] = ()
    common_extended: tuple[SopClassCommonExtended, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: UserIdentityResponse | None = None


def split_items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Cut a sequence of items into (type, value) pairs.

    Raises:
        RemoteProtocolError: an item is longer than what is there, or there are too many.
    """
    at = 0
    for _ in range(MAX_ITEMS):
        if at == len(data):
            return
        if len(data) - at < type_and_length.size:
            raise malformed("an item header is cut short")
        kind, length = type_and_length.unpack_from(data, at)
        at += type_and_length.size
        if length > len(data) - at:
            raise malformed(f"item {kind:02X}H says {length} bytes, {len(data) - at} are there")
        yield kind, data[at : at + length]
        at += length
    if at != len(data):
        raise malformed(f"more than {MAX_ITEMS} items in one place")


def item(kind: ItemType, value: bytes) -> bytes:
    """Encode one item.

    Raises:
        LocalProtocolError: the value exceeds the 65,535 bytes that the length field can say.
    """
    if len(value) > _MAX_FIELD_BYTES:
        raise LocalProtocolError(f"item {kind.name} of {len(value)} bytes: 65,535 is the most")
    return type_and_length.pack(kind, len(value)) + value


def malformed(message: str, reason: int = INVALID_VALUE) -> RemoteProtocolError:
    """Build the error for bytes that break PS3.8 or PS3.7; the caller raises it."""
    return RemoteProtocolError(f"malformed association PDU: {message}", reason)


def encode_uid(uid: str) -> bytes:
    """Encode a UID as items do: ASCII, no padding (PS3.8 Annex F).

    Raises:
        LocalProtocolError: it is empty, longer than 64 characters or not ASCII.
    """
    if not (0 < len(uid) <= MAX_UID_CHARACTERS and uid.isascii()):
        raise LocalProtocolError(f"{uid!r} cannot be sent as a UID: 1 to 64 ASCII characters")
    return uid.encode("ascii")


def decode_uid(value: memoryview) -> str:
    """Decode a UID from an item; trailing NUL and blanks, which some peers send, are dropped.

    Raises:
        RemoteProtocolError: what remains is empty, longer than 64 or not printable ASCII.
    """
    raw = bytes(value).rstrip(b"\0 ")
    if not 0 < len(raw) <= MAX_UID_CHARACTERS:
        raise malformed(f"a UID of {len(raw)} characters")
    text = raw.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise malformed("a UID with characters that are not printable ASCII")
    return text


def _prefixed(value: bytes) -> bytes:
    if len(value) > _MAX_FIELD_BYTES:
        raise LocalProtocolError(f"a field of {len(value)} bytes: 65,535 is the most")
    return _U16.pack(len(value)) + value


def _cut(value: memoryview, at: int) -> tuple[memoryview, int]:
    """A field with a 2-byte length before it, and where the next one begins."""
    if len(value) - at < _U16.size:
        raise malformed("a length field is cut short")
    (length,) = _U16.unpack_from(value, at)
    at += _U16.size
    if length > len(value) - at:
        raise malformed(f"a field says {length} bytes, {len(value) - at} are there")
    return value[at : at + length], at + length


def encode_user_information(information: UserInformation) -> bytes:
    """Encode the sub-items of a user information item, in the order of their types.

    Raises:
        LocalProtocolError: a value does not fit its field.
    """
    parts = [item(ItemType.MAX_LENGTH, _U32.pack(information.max_length))]
    if information.implementation_class_uid:
        value = encode_uid(information.implementation_class_uid)
        parts.append(item(ItemType.IMPLEMENTATION_CLASS_UID, value))
    if (window := information.window) is not None:
        value = _WINDOW.pack(window.invoked, window.performed)
        parts.append(item(ItemType.ASYNCHRONOUS_OPERATIONS_WINDOW, value))
    for role in information.roles:
        value = _prefixed(encode_uid(role.sop_class_uid)) + bytes((role.scu, role.scp))
        parts.append(item(ItemType.ROLE_SELECTION, value))
    if (name := information.implementation_version_name) is not None:
        parts.append(item(ItemType.IMPLEMENTATION_VERSION_NAME, name.encode("latin-1")))
    for extended in information.extended:
        value = _prefixed(encode_uid(extended.sop_class_uid)) + extended.information
        parts.append(item(ItemType.SOP_CLASS_EXTENDED, value))
    for common in information.common_extended:
        related = b"".join(_prefixed(encode_uid(uid)) for uid in common.related_sop_class_uids)
        value = (
            _prefixed(encode_uid(common.sop_class_uid))
            + _prefixed(encode_uid(common.service_class_uid))
            + _prefixed(related)
        )
        parts.append(item(ItemType.SOP_CLASS_COMMON_EXTENDED, value))
    if (identity := information.user_identity) is not None:
        value = (
            bytes((identity.kind, identity.response_requested))
            + _prefixed(identity.primary)
            + _prefixed(identity.secondary)
        )
        parts.append(item(ItemType.USER_IDENTITY_RQ, value))
    if (response := information.user_identity_response) is not None:
        value = _prefixed(response.server_response)
        parts.append(item(ItemType.USER_IDENTITY_AC, value))
    return b"".join(parts)


def decode_user_information(  # noqa: C901 - one case per sub-item
    data: memoryview,
) -> UserInformation:
    """Decode the sub-items of a user information item; of a repeated single one the last counts.

    Raises:
        RemoteProtocolError: a sub-item breaks its own rules.
    """
    max_length = 0
    implementation_class_uid = ""
    implementation_version_name = None
    window = identity = response = None
    roles: list[RoleSelection] = []
    extended: list[SopClassExtended] = []
    common_extended: list[SopClassCommonExtended] = []
    for kind, value in split_items(data):
        match kind:
            case ItemType.MAX_LENGTH:
                (max_length,) = _U32.unpack(_of_size(value, _U32.size, "maximum length"))
            case ItemType.IMPLEMENTATION_CLASS_UID:
                implementation_class_uid = decode_uid(value)
            case ItemType.ASYNCHRONOUS_OPERATIONS_WINDOW:
                pair = _WINDOW.unpack(_of_size(value, _WINDOW.size, "operations window"))
                window = AsynchronousOperationsWindow(invoked=pair[0], performed=pair[1])
            case ItemType.ROLE_SELECTION:
                roles.append(_decode_role(value))
            case ItemType.IMPLEMENTATION_VERSION_NAME:
                implementation_version_name = bytes(value).decode("latin-1")
            case ItemType.SOP_CLASS_EXTENDED:
                uid, at = _cut(value, 0)
                extended.append(
                    SopClassExtended(sop_class_uid=decode_uid(uid), information=bytes(value[at:]))
                )
            case ItemType.SOP_CLASS_COMMON_EXTENDED:
                common_extended.append(_decode_common_extended(value))
            case ItemType.USER_IDENTITY_RQ:
                identity = _decode_identity(value)
            case ItemType.USER_IDENTITY_AC:
                answer, _ = _cut(value, 0)
                response = UserIdentityResponse(server_response=bytes(answer))
            case _:
                pass
    return UserInformation(
        max_length=max_length,
        implementation_class_uid=implementation_class_uid,
        implementation_version_name=implementation_version_name,
        window=window,
        roles=tuple(roles),
        extended=tuple(extended),
        common_extended=tuple(common_extended),
        user_identity=identity,
        user_identity_response=response,
    )


def _of_size(value: memoryview, size: int, what: str) -> memoryview:
    if len(value) != size:
        raise malformed(f"a {what} of {len(value)} bytes instead of {size}")
    return value


def _decode_role(value: memoryview) -> RoleSelection:
    uid, at = _cut(value, 0)
    flags = _of_size(value[at:], 2, "pair of roles")
    return RoleSelection(sop_class_uid=decode_uid(uid), scu=flags[0] == 1, scp=flags[1] == 1)


def _decode_common_extended(value: memoryview) -> SopClassCommonExtended:
    sop_class, at = _cut(value, 0)
    service_class, at = _cut(value, at)
    related, _ = _cut(value, at)
    uids: list[str] = []
    at = 0
    while at < len(related):
        uid, at = _cut(related, at)
        uids.append(decode_uid(uid))
    return SopClassCommonExtended(
        sop_class_uid=decode_uid(sop_class),
        service_class_uid=decode_uid(service_class),
        related_sop_class_uids=tuple(uids),
    )


def _decode_identity(value: memoryview) -> UserIdentity:
    if len(value) < 2:  # noqa: PLR2004 - the type and the response flag
        raise malformed("a user identity is cut short")
    primary, at = _cut(value, 2)
    secondary, _ = _cut(value, at)
    return UserIdentity(
        kind=value[0],
        response_requested=value[1] == 1,
        primary=bytes(primary),
        secondary=bytes(secondary),
    )
