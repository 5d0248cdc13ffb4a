"""One audit event: the values that a DICOM audit message needs (PS3.15 A.5).

Events hold patient data on purpose (ids, study UIDs, query keys). They go to the encrypted spool
and from there to an audit record repository, never to a log. Rendering as XML is not done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final, Literal

from harmoni.model.errors import Damaged
from harmoni.sealing import document
from harmoni.sealing.document import Fields, Json

VERSION: Final = 1
"""Of an event in the spool. Frozen."""
Action = Literal["C", "R", "U", "D", "E"]
"""Event Action Code (PS3.15 A.5.2): create, read, update, delete, execute."""
_ACTIONS: Final[dict[str, Action]] = {"C": "C", "R": "R", "U": "U", "D": "D", "E": "E"}


class Act(Enum):
    """What happened: Event ID and Event Type Code, both of the DCM scheme (PS3.16 CID 400, 401).

    The value is (name in the spool, Event ID, Event Type Code or "").
    """

    APPLICATION_START = ("application-start", "110100", "110120")
    APPLICATION_STOP = ("application-stop", "110100", "110121")
    BEGIN_TRANSFERRING = ("begin-transferring", "110102", "")
    INSTANCES_TRANSFERRED = ("instances-transferred", "110104", "")
    QUERY = ("query", "110112", "")
    NODE_AUTHENTICATION = ("node-authentication", "110113", "110126")
    RESTRICTED_FUNCTION = ("restricted-function", "110113", "110132")
    SECURITY_CONFIGURATION = ("security-configuration", "110113", "110129")
    KEY_CHANGE = ("key-change", "110113", "110135")

    @property
    def label(self) -> str:
        """The name under which the act stands in the spool."""
        return self.value[0]

    @property
    def event_id(self) -> str:
        """The Event ID's code value in the DCM scheme."""
        return self.value[1]

    @property
    def event_type(self) -> str:
        """The Event Type Code's value in the DCM scheme, or "" when the event has no type."""
        return self.value[2]


_ACT_OF_LABEL: Final = {act.label: act for act in Act}


class Outcome(IntEnum):
    """Event Outcome Indicator (PS3.15 A.5.2)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Who acted, as far as it is known; "" for what is not."""

    hospital: str = ""
    """Id of the hospital that the peer was bound to; "" before it is bound."""
    user: str = ""
    """The operator at the command line or the console."""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    certificate_sha256: str = ""
    """Fingerprint of the peer's certificate, in hexadecimal."""


_PARTICIPANT_FIELDS: Final = tuple(field.name for field in fields_of(Participant))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Who did what, to which studies of which patients, and how it ended."""

    act: Act
    at_ms: int
    """When it happened, in milliseconds since 1970, UTC."""
    action: Action = "E"
    who: Participant = Participant()
    other: Participant = Participant()
    """The other end where there is one: the destination of a C-MOVE."""
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    """Why it did not succeed, or what an operator said, in a sentence."""
    study_uids: tuple[str, ...] = ()
    patient_ids: tuple[str, ...] = ()
    instances: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Number of instances per SOP Class UID."""
    query: bytes = b""
    """The identifier of a query as received (PS3.15 A.5.3.10)."""

    def encode(self) -> bytes:
        """The event as JSON: UTF-8, sorted keys, RFC 3339 time, empty values left out."""
        members: dict[str, Json] = {
            "act": self.act.label,
            "action": self.action,
            "at": document.time_text(self.at_ms),
            "instances": dict(self.instances),
            "other": _participant(self.other),
            "outcome": int(self.outcome),
            "patient_ids": list(self.patient_ids),
            "query": document.octets_text(self.query),
            "reason": self.reason,
            "study_uids": list(self.study_uids),
            "version": VERSION,
            "who": _participant(self.who),
        }
        always = {"act", "action", "at", "outcome", "version"}
        kept = {name: value for name, value in members.items() if value or name in always}
        return document.encode(kept)

    @classmethod
    def decode(cls, data: bytes) -> "AuditEvent":
        """Read what `encode` wrote.

        Raises:
            Damaged: it is no audit event of a version that we know.
        """
        fields = document.decode(data, "an audit event", VERSION)
        counts = fields.inner("instances") if fields.has("instances") else Fields({}, "")
        return cls(
            act=_ACT_OF_LABEL[fields.choice("act", tuple(_ACT_OF_LABEL))],
            at_ms=fields.time_ms("at"),
            action=_ACTIONS[fields.choice("action", tuple(_ACTIONS))],
            who=_read_participant(fields, "who"),
            other=_read_participant(fields, "other"),
            outcome=_outcome(fields.number("outcome", Outcome.MAJOR_FAILURE)),
            reason=fields.text("reason") if fields.has("reason") else "",
            study_uids=_texts(fields, "study_uids"),
            patient_ids=_texts(fields, "patient_ids"),
            instances=MappingProxyType({uid: counts.number(uid) for uid in counts.names()}),
            query=fields.octets("query") if fields.has("query") else b"",
        )


def _outcome(number: int) -> Outcome:
    if number not in set(Outcome):
        raise Damaged(f"an audit event has the outcome {number}, which is none of PS3.15 A.5.2")
    return Outcome(number)


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    return tuple(str(entry) for entry in fields.entries(name)) if fields.has(name) else ()


def _read_participant(fields: Fields, name: str) -> Participant:
    if not fields.has(name):
        return Participant()
    told = fields.inner(name)
    return Participant(
        **{
            attribute: told.text(attribute)
            for attribute in _PARTICIPANT_FIELDS
            if told.has(attribute)
        }
    )


def _participant(participant: Participant) -> dict[str, str]:
    values = {name: str(getattr(participant, name)) for name in _PARTICIPANT_FIELDS}
    return {name: value for name, value in values.items() if value}
