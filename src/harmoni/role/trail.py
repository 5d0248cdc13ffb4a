"""The audit trail of one association: begun with its first instance, completed when it ends.

One message per patient and study of what was stored or given back, since instance-bearing messages
are per patient (PS3.15 A.5.3.7): "begin" before the first instance of a study counts, so that a
killed process leaves who touched what, and the numbers at the end or once a minute. A query is
written, and flushed, when it is asked.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Final, Self

from harmoni.audit.event import Act, Action, AuditEvent, Outcome, Participant
from harmoni.audit.spool import Spool
from harmoni.dicom import text
from harmoni.dicom.identifier import Query
from harmoni.model.errors import HarmoniError, OutOfResources, StorageFailed
from harmoni.model.header import PATIENT_ID, STUDY_INSTANCE_UID, Header
from harmoni.net.driver import PeerFacts
from harmoni.policy.access import Peer
from harmoni.runtime.clock import Clock

MAX_REFUSALS: Final = 100
"""Refused handshakes that one process audits in a minute."""

_MINUTE_S: Final = 60.0
# Action, study, patient, and who received it if not the peer itself.
_Key = tuple[Action, str, str, Participant]


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
        self._lost: HarmoniError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()
        self._raise_lost()

    def now_ms(self) -> int:
        """The time of an event."""
        return self._clock.now_ms()

    def monotonic_s(self) -> float:
        """The time that is never set back."""
        return self._clock.monotonic_s()

    def write(self, events: list[AuditEvent]) -> None:
        """Append events and make them durable.

        Raises:
            OutOfResources, StorageFailed: they are not recorded; what they tell must not go on.
        """
        if events:
            # The spool they went to: meanwhile others may have met a fault and opened another.
            self._append(events).flush()

    def append(self, events: list[AuditEvent]) -> None:
        """Append events: they survive the end of this process, and the machine's after `flush`.

        Raises:
            OutOfResources, StorageFailed: they are not recorded; what they tell must not go on.
        """
        self._append(events)

    def flush(self) -> None:
        """Make what was appended durable; called every second, and where an event must be.

        Raises:
            OutOfResources, StorageFailed: it is not; the next event opens a new spool.
        """
        with self._lock:
            spool = self._spool
        # Outside the lock: what arrives meanwhile shares the next flush.
        spool.flush()
        self._raise_lost()

    def _append(self, events: list[AuditEvent]) -> Spool:
        with self._lock:
            if self._spool.fenced:
                try:
                    self._spool.close()
                except (OutOfResources, StorageFailed) as error:
                    self._lost = error
                self._spool = self._open_spool()
            for event in events:
                self._spool.append(event)
            return self._spool

    def _raise_lost(self) -> None:
        """Say once that events of a spool that was given up are not durable."""
        with self._lock:
            lost, self._lost = self._lost, None
        if lost is not None:
            raise lost


class Strangers:
    """Audits peers whose TLS handshake is refused, before it is known who they are.

    Anybody who reaches the port can bring that about, so what it costs is bounded: each address and
    reason is written once a minute, and no more than `MAX_REFUSALS` in all. Every refusal is in the
    log.

    Args:
        door: where it is written.
    """

    def __init__(self, door: AuditDoor) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._minute = 0
        self._written: set[tuple[str, str]] = set()

    def refused(self, address: str, why: str) -> None:
        """A handshake was refused.

        Raises:
            OutOfResources, StorageFailed: it is not recorded.
        """
        minute = int(self._door.monotonic_s() // _MINUTE_S)
        with self._lock:
            if self._minute != minute:
                self._minute = minute
                self._written.clear()
            if (address, why) in self._written or len(self._written) == MAX_REFUSALS:
                return
            self._written.add((address, why))
        self._door.write(
            [
                AuditEvent(
                    act=Act.NODE_AUTHENTICATION,
                    at_ms=self._door.now_ms(),
                    who=Participant(address=address),
                    outcome=Outcome.SERIOUS_FAILURE,
                    reason=why,
                )
            ]
        )


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
        self._lock = threading.Lock()
        self._begun_s: float | None = None
        self._transfers: defaultdict[_Key, Counter[str]] = defaultdict(Counter)

    def stored(self, header: Header, sop_class_uid: str) -> None:
        """An instance came in and is durable; said before it is acknowledged."""
        study_uid, patient_id = header.uid(STUDY_INSTANCE_UID), _patient_id(header)
        self._count(("C", study_uid, patient_id, Participant()), sop_class_uid)

    def given(self, study_uid: str, sop_class_uid: str, destination: Peer | None) -> None:
        """An instance is about to be given: to a destination, or back to the peer itself."""
        other = Participant()
        if destination is not None:
            other = Participant(
                hospital=self._who.hospital,
                called_ae_title=destination.ae_title,
                address=destination.host,
            )
        self._count(("R", study_uid, "", other), sop_class_uid)

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
                    query=query.received,
                )
            ]
        )

    def close(self) -> None:
        """The association is over, or was open for long: write what it transferred."""
        with self._lock:
            transfers, self._transfers = self._transfers, defaultdict(Counter)
            self._begun_s = None
        self._door.write(
            [
                self._event(Act.INSTANCES_TRANSFERRED, key, instances)
                for key, instances in transfers.items()
            ]
        )

    def close_if_old(self) -> None:
        """Write what an association that stays open has transferred, once a minute."""
        begun_s = self._begun_s
        if begun_s is not None and self._door.monotonic_s() - begun_s >= _MINUTE_S:
            self.close()

    def _count(self, key: _Key, sop_class_uid: str) -> None:
        """Count an instance; that a study is touched is on record before its first one counts."""
        with self._lock:
            if key not in self._transfers:
                self._door.append([self._event(Act.BEGIN_TRANSFERRING, key, {})])
                if self._begun_s is None:
                    self._begun_s = self._door.monotonic_s()
            self._transfers[key][sop_class_uid] += 1

    def _event(self, act: Act, key: _Key, instances: Mapping[str, int]) -> AuditEvent:
        action, study_uid, patient_id, other = key
        return AuditEvent(
            act=act,
            at_ms=self._door.now_ms(),
            action=action,
            who=self._who,
            other=other,
            study_uids=(study_uid,) if study_uid else (),
            patient_ids=(patient_id,) if patient_id else (),
            instances=dict(instances),
        )


def _patient_id(header: Header) -> str:
    """The Patient ID of a scanned header, as text."""
    for element in header.patient:
        if element.tag == PATIENT_ID:
            return text.decode(element, header.character_set)
    return ""
