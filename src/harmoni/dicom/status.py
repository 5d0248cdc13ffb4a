"""DIMSE status codes (PS3.7 Annex C; per service PS3.4 B.2.3, C.4, J.3): numbers, kinds, texts.

Only what we send has a name. `category` sorts any code, `meaning` explains one for a log. Which
error of ours becomes which status is decided in `services`.
"""

from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final

from harmoni.dicom.dimse import CommandField


class Category(Enum):
    """What a status says about its operation (PS3.7 Annex C)."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


class Status(IntEnum):
    """The codes that we send; others may come from peers, so a received status is an int."""

    SUCCESS = 0x0000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_OPTIONAL_KEYS_UNSUPPORTED = 0xFF01

    # General (PS3.7 Annex C).
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    DUPLICATE_TRANSACTION_UID = 0x0131

    # Storage, query and retrieve (PS3.4 Annexes B and C).
    OUT_OF_RESOURCES = 0xA700
    UNABLE_TO_CALCULATE_MATCHES = 0xA701
    UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_PROCESS = 0xC001
    SUBOPERATIONS_WITH_FAILURES = 0xB000


_WARNINGS: Final = frozenset((0x0001, 0x0107, 0x0116))
_PENDING: Final = frozenset((0xFF00, 0xFF01))
_FIRST_WARNING: Final = 0xB000
_LAST_WARNING: Final = 0xBFFF


def category(status: int) -> Category:
    """Sort a status code (PS3.7 Annex C); what is not known to be better is a failure."""
    if status == Status.SUCCESS:
        return Category.SUCCESS
    if status in _PENDING:
        return Category.PENDING
    if status == Status.CANCEL:
        return Category.CANCEL
    if status in _WARNINGS or _FIRST_WARNING <= status <= _LAST_WARNING:
        return Category.WARNING
    return Category.FAILURE


_GENERAL: Final = {
    0x0000: "success",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0113: "no such event type",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class-instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0123: "no such action type",
    0x0124: "refused: not authorized",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
}
_STORE: Final = {
    0xA700: "refused: out of resources",
    0xA900: "data set does not match SOP class",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class (warning)",
    0xC000: "cannot understand",
}
_FIND: Final = {
    0xA700: "refused: out of resources",
    0xA900: "identifier does not match SOP class",
    0xC000: "unable to process",
    0xFE00: "matching ended by cancel request",
    0xFF00: "matches are continuing",
    0xFF01: "matches are continuing; optional keys were not supported",
}
_GET: Final = {
    0xA701: "refused: unable to calculate the number of matches",
    0xA702: "refused: unable to perform sub-operations",
    0xA900: "identifier does not match SOP class",
    0xB000: "sub-operations complete, with failures or warnings",
    0xC000: "unable to process",
    0xFE00: "sub-operations ended by cancel request",
    0xFF00: "sub-operations are continuing",
}
_MOVE: Final = {**_GET, 0xA801: "refused: move destination unknown"}
_ACTION: Final = {0x0131: "duplicate transaction UID"}

SERVICES: Final = MappingProxyType(
    {
        CommandField.C_ECHO_RSP: _GENERAL,
        CommandField.C_STORE_RSP: _GENERAL | _STORE,
        CommandField.C_FIND_RSP: _GENERAL | _FIND,
        CommandField.C_GET_RSP: _GENERAL | _GET,
        CommandField.C_MOVE_RSP: _GENERAL | _MOVE,
        CommandField.N_ACTION_RSP: _GENERAL | _ACTION,
        CommandField.N_EVENT_REPORT_RSP: _GENERAL,
    }
)
"""The codes of each service by its response; a code may stand for its family, see `meaning`."""

_FAMILIES: Final = ((0xFF00, 0xA700), (0xFF00, 0xA900), (0xF000, 0xC000))
"""Mask and code of the families A7xx, A9xx and Cxxx (PS3.4 Table B.2-1)."""


def meaning(field: CommandField, status: int) -> str:
    """Explain a status for a log: a code without a text of its own gets that of its family.

    Args:
        field: of the response that carries it.
        status: any code.
    """
    texts = SERVICES.get(field, _GENERAL)
    if status in texts:
        return texts[status]
    for mask, family in _FAMILIES:
        if status & mask == family and family in texts:
            return texts[family]
    return f"{category(status).value} {status:04X}H"
