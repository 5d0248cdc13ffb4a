"""The audit trail of one association: gathered while it runs, written when it ends.

One message per patient and study of what was stored or given back, since instance-bearing messages
are per patient (PS3.15 A.5.3.7); a query is written, and flushed, when it is asked.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Self

from harmoni.audit.event import Act, Action, AuditEvent, Participant
from harmoni.audit.spool import Spool
from harmoni.dicom import identifier, text, uids
from harmoni.dicom.identifier import Query
from harmoni.model.header import PATIENT_ID, STUDY_INSTANCE_UID, Header
from harmoni.net.driver import PeerFacts
from harmoni.runtime.clock import Clock

_Key = tuple[Action, str, str]


class AuditDoor:
    """The spool of one process, shared by its associations; closed at the end of a with block.

    A spool on which a write failed is never used again. Another one is opened for the next event,
    so that a disk that was full serves again as soon as there is space.

    Args:
        open_spool: makes a new spool: durable, encrypted, chained.
        clock: the time.

    Raises:
        OutOfResources, StorageFailed: no spool can be made; nothing may happen unaudited.
    """

    def __init__(self, open_spool: Callable[[], Spool], clock: Clock) -> None:
        self._open_spool = open_spool
        self._clock = clock
        self._lock = threading.Lock()
        self._spool = open_spool()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def now_ms(self) -> int:
        """The time of an event."""
        return self._clock.now_ms()

    def write(self, events: list[AuditEvent]) -> None:
        """Append events and make them durable.

        Raises:
            OutOfResources, StorageFailed: they are not recorded; what they tell must not go on.
        """
        if not events:
            return
        with self._lock:
            if self._spool.fenced:
                self._spool.close()
                self._spool = self._open_spool()
            for event in events:
                self._spool.append(event)
            self._spool.flush()


def participant(facts: PeerFacts, *, hospital: str, calling: str, called: str) -> Participant:
    """The peer of an association as the audit trail names it."""
    certificate = facts.certificate
    return Participant(
        hospital=hospital,
        calling_ae_title=calling,
        called_ae_title=called,
        address=facts.address,
        certificate_sha256="" if certificate is None else certificate.fingerprint,
    )


class Trail:
    """What one association did.

    Args:
        door: where it is written.
        who: the peer.
    """

    def __init__(self, door: AuditDoor, who: Participant) -> None:
        self._door = door
        self._who = who
        self._transfers: defaultdict[_Key, Counter[str]] = defaultdict(Counter)

    def stored(self, header: Header, sop_class_uid: str) -> None:
        """An instance came in and is durable."""
        key: _Key = ("C", header.uid(STUDY_INSTANCE_UID), _patient_id(header))
        self._transfers[key][sop_class_uid] += 1

    def given(self, study_uid: str, sop_class_uid: str) -> None:
        """An instance was opened to be given back."""
        self._transfers["R", study_uid, ""][sop_class_uid] += 1

    def asked(self, query: Query) -> None:
        """A query is answered: written before its first answer.

        Raises:
            OutOfResources, StorageFailed: it cannot be audited, so it is not answered.
        """
        self._door.write(
            [
                AuditEvent(
                    act=Act.QUERY,
                    at_ms=self._door.now_ms(),
                    who=self._who,
                    query=identifier.encode_query(query, uids.EXPLICIT_VR_LITTLE_ENDIAN),
                )
            ]
        )

    def close(self) -> None:
        """The association is over: write what it transferred."""
        now_ms = self._door.now_ms()
        events = [
            AuditEvent(
                act=Act.INSTANCES_TRANSFERRED,
                at_ms=now_ms,
                action=action,
                who=self._who,
                study_uids=(study_uid,) if study_uid else (),
                patient_ids=(patient_id,) if patient_id else (),
                instances=dict(instances),
            )
            for (action, study_uid, patient_id), instances in self._transfers.items()
        ]
        self._transfers.clear()
        self._door.write(events)


def _patient_id(header: Header) -> str:
    """The Patient ID of a scanned header, as text."""
    for element in header.patient:
        if element.tag == PATIENT_ID:
            return text.decode(element, header.character_set)
    return ""
