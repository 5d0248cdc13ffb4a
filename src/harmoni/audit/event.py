"""One audit event: the values that a DICOM audit message needs (PS3.15 A.5).

Events hold patient data on purpose (ids, study UIDs, query keys). They go to the encrypted spool
and from there to an audit record repository, never to a log. Rendering as XML is not done here.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final, Literal

from harmoni.model.errors import Damaged

VERSION: Final = 0

Action = Literal["C", "R", "U", "D", "E"]
"""Event Action Code (PS3.15 A.5.2): create, read, update, delete, execute."""
_ACTIONS: Final[tuple[Action, ...]] = ("C", "R", "U", "D", "E")


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
        seconds, milliseconds = divmod(self.at_ms, 1000)
        at = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        members: dict[str, object] = {
            "act": self.act.label,
            "action": self.action,
            "at": f"{at}.{milliseconds:03d}Z",
            "instances": dict(self.instances),
            "other": _participant(self.other),
            "outcome": int(self.outcome),
            "patient_ids": list(self.patient_ids),
            "query": base64.b64encode(self.query).decode(),
            "reason": self.reason,
            "study_uids": list(self.study_uids),
            "version": VERSION,
            "who": _participant(self.who),
        }
        always = {"act", "action", "at", "outcome", "version"}
        kept = {name: value for name, value in members.items() if value or name in always}
        return json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogateescape"
        )

    @classmethod
    def decode(cls, data: bytes) -> "AuditEvent":
        """Read what `encode` wrote.

        Raises:
            Damaged: it is no audit event of a version that we know.
        """
        try:
            members = _members(data)
            action = str(members["action"])
            return cls(
                act=_ACT_OF_LABEL[str(members["act"])],
                at_ms=_milliseconds(str(members["at"])),
                action=next(known for known in _ACTIONS if known == action),
                who=Participant(**_texts(members.get("who"))),
                other=Participant(**_texts(members.get("other"))),
                outcome=Outcome(int(str(members["outcome"]))),
                reason=str(members.get("reason", "")),
                study_uids=_list(members.get("study_uids")),
                patient_ids=_list(members.get("patient_ids")),
                instances=MappingProxyType(
                    {uid: int(count) for uid, count in _texts(members.get("instances")).items()}
                ),
                query=base64.b64decode(str(members.get("query", "")), validate=True),
            )
        except (ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
            raise Damaged(
                f"not an audit event of version {VERSION}: {type(error).__name__} {error}; "
                "it was written by another version or altered"
            ) from error


def _members(data: bytes) -> dict[str, object]:
    members: object = json.loads(data.decode("utf-8", "surrogateescape"))
    if not isinstance(members, dict) or members.get("version") != VERSION:
        raise ValueError("no object, or another version")
    return {str(name): value for name, value in members.items()}


def _list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | None):
        raise TypeError("not a list")
    return tuple(str(item) for item in value or ())


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict | None):
        raise TypeError("not an object")
    return {str(name): str(item) for name, item in (value or {}).items()}


def _participant(participant: Participant) -> dict[str, str]:
    values = {
        "hospital": participant.hospital,
        "user": participant.user,
        "calling_ae_title": participant.calling_ae_title,
        "called_ae_title": participant.called_ae_title,
        "address": participant.address,
        "certificate_sha256": participant.certificate_sha256,
    }
    return {name: value for name, value in values.items() if value}


def _milliseconds(text: str) -> int:
    at = datetime.fromisoformat(text)
    return int(at.replace(microsecond=0).timestamp()) * 1000 + at.microsecond // 1000
