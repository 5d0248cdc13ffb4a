"""What one association may do, bound to one hospital's holding and to its peer.

From here on nothing can name another hospital: the handlers hold one `Holding` and no registry.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harmoni.dicom import uids
from harmoni.dicom.commitment_data import Reference
from harmoni.dicom.identifier import Query
from harmoni.dicom.pdu import ProposedContext
from harmoni.holdings import record
from harmoni.holdings.holding import Holding
from harmoni.index import find
from harmoni.index.lookup import Held
from harmoni.model.errors import HarmoniError, InvalidInput
from harmoni.model.instance import Location, Origin
from harmoni.net.driver import Channel
from harmoni.policy.access import HospitalEntry, Peer
from harmoni.role.trail import Trail
from harmoni.runtime.log import Log
from harmoni.services.storage import Incoming
from harmoni.services.storage_commitment import Report

Alarm = Callable[[Location, HarmoniError], None]
"""Told of a copy that could not be given back, and why."""


Connect = Callable[[Peer, Sequence[ProposedContext]], Channel]
"""Opens an association to a destination of a C-MOVE; raises HarmoniError where that fails."""


def alarm_in(log: Log) -> Alarm:
    """An alarm that is a line in the process's log."""

    def unreadable(location: Location, error: HarmoniError) -> None:
        log.error(
            "instance not given back",
            pack=str(location.pack_id),
            sequence=location.sequence,
            why=f"{error.code} {error}",
        )

    return unreadable


class Storing:
    """Takes instances in for one hospital (services.storage.StoreHandler).

    Args:
        holding: where they go.
        origin: who sends them.
        trail: the association's audit trail.
    """

    def __init__(self, holding: Holding, origin: Origin, trail: Trail) -> None:
        self._holding = holding
        self._origin = origin
        self._trail = trail

    def begin(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Incoming:
        """Prepare for an instance; see services.storage.StoreHandler."""
        syntax = uids.storage_transfer_syntax(transfer_syntax_uid)
        if syntax is None:
            raise InvalidInput(f"transfer syntax {transfer_syntax_uid} is not taken for storage")
        announced = record.Announced(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax=syntax,
            origin=self._origin,
        )
        return _Audited(self._holding.recorder.begin(announced), sop_class_uid, self._trail)


class _Audited:
    """An `Incoming` that tells the audit trail when it is kept."""

    def __init__(self, incoming: record.Incoming, sop_class_uid: str, trail: Trail) -> None:
        # Bound once: these two are called for every P-DATA fragment.
        self.reserve = incoming.reserve
        self.commit = incoming.commit
        self._incoming = incoming
        self._sop_class_uid = sop_class_uid
        self._trail = trail

    def finish(self) -> None:
        """Keep it, then note it."""
        header = self._incoming.finish()
        self._trail.stored(header, self._sop_class_uid)

    def abandon(self) -> None:
        """Forget it."""
        self._incoming.abandon()


class Finding:
    """Answers queries of one hospital (services.find.FindHandler).

    Args:
        holding: what is searched.
        trail: the association's audit trail.
        max_answers: how many matches one query may have.
    """

    def __init__(self, holding: Holding, trail: Trail, max_answers: int) -> None:
        self._max_answers = max_answers
        self._holding = holding
        self._trail = trail

    def supports(self, query: Query) -> bool:
        """Whether every key is known; see services.find.FindHandler."""
        return find.supports(query)

    def find(self, query: Query) -> Generator[Mapping[int, str], None, None]:
        """Search; the query is audited before its first answer."""
        self._trail.asked(query)
        # One more than may be answered: so it is seen that there are more.
        yield from self._holding.find(query, self._max_answers + 1)


@dataclass(frozen=True, slots=True)
class Retrievable:
    """A held instance that can be sent (services.storage_scu.Outgoing)."""

    holding: Holding
    held: Held
    trail: Trail
    alarm: Alarm
    destination: Peer | None
    """Where it is sent; None: to the peer that asked."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return self.held.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return self.held.sop_instance_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax in which it is held."""
        return self.held.identity.transfer_syntax_uid

    @property
    def size_bytes(self) -> int:
        """Size of its data set in bytes."""
        return self.held.identity.size_bytes

    def wait(self, timeout_s: float) -> bool:
        """It is here."""
        del timeout_s
        return True

    def open(self) -> Iterator[memoryview]:
        """Give the data set in verified chunks; what cannot be given raises the alarm."""
        self.trail.given(self.held.study_instance_uid, self.held.sop_class_uid, self.destination)
        try:
            yield from self.holding.recall(self.held)
        except HarmoniError as error:
            self.alarm(self.held.location, error)
            raise


class Retrieving:
    """Plans retrievals of one hospital and reaches its destinations (services.move.MoveHandler).

    Args:
        holding: what is given.
        entry: the hospital's registered destinations.
        connect: opens an association to one of them.
        trail: the association's audit trail.
        alarm: told of a copy that could not be given back, and why.
    """

    def __init__(
        self,
        *,
        holding: Holding,
        entry: HospitalEntry,
        connect: Connect,
        trail: Trail,
        alarm: Alarm,
    ) -> None:
        self._holding = holding
        self._entry = entry
        self._connect = connect
        self._trail = trail
        self._alarm = alarm

    def plan(self, query: Query, destination: Peer | None = None) -> Sequence[Retrievable]:
        """What a retrieval's identifier names, one instance per SOP Instance UID."""
        return [
            Retrievable(self._holding, held, self._trail, self._alarm, destination)
            for held in self._holding.plan(query)
        ]

    def destination(self, ae_title: str) -> Peer | None:
        """The hospital's registered destination of that AE title, or None."""
        return self._entry.destination(ae_title)

    def connect(self, destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        """Open an association to a destination; see `Connect`."""
        return self._connect(destination, contexts)


class Committing:
    """Takes commitment requests of one requester (services.storage_commitment).

    Args:
        holding: what is to be committed.
        requester: the calling AE title.
        our_gateway: one of our gateways asks; it is told at once what is not here.
    """

    def __init__(self, holding: Holding, requester: str, *, our_gateway: bool) -> None:
        self._commitments = holding.commitments
        self._requester = requester
        self._our_gateway = our_gateway

    def request(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        """Accept a transaction; returns when it is durable."""
        self._commitments.accept(
            self._requester, transaction_uid, references, at_once=self._our_gateway
        )

    def reports(self) -> Sequence[Report]:
        """The requester's reports that are ready and not answered yet."""
        return [
            Report(
                transaction_uid=transaction.transaction_uid,
                committed=tuple(
                    reference
                    for reference in transaction.references
                    if reference.failure_reason is None
                ),
                failed=tuple(
                    reference
                    for reference in transaction.references
                    if reference.failure_reason is not None
                ),
            )
            for transaction in self._commitments.due(self._requester)
        ]

    def answered(self, report: Report) -> None:
        """The requester has answered a report with success."""
        self._commitments.answered(self._requester, report.transaction_uid)
