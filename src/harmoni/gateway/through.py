"""Through the gateway to the centre: queries and retrievals answered as if all of it were here.

Own rows, stubs of what was let go, and the centre's answers are one. What is here is given from
here; the rest is planned and fetched from the centre. With the centre away the gateway answers from
what it knows, which is everything that ever passed through it; where that is not enough it says so,
and never that there is nothing.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from harmoni.dicom.identifier import INSTANCE_AVAILABILITY, Key, Query, Universal
from harmoni.dicom.pdu import ProposedContext
from harmoni.gateway import beyond, relay
from harmoni.gateway.catalogue import Catalogue, Listed, catalogue
from harmoni.gateway.centre import Centre
from harmoni.gateway.fetch import Fetch, Fetches
from harmoni.gateway.house import House
from harmoni.gateway.union import COUNTS, NEARLINE, Merged, merge
from harmoni.holdings.holding import Holding
from harmoni.index import lookup, packs
from harmoni.index.lookup import Held
from harmoni.model.errors import HarmoniError, Unreachable
from harmoni.net.driver import AssociationEnded, Channel
from harmoni.policy.access import HospitalEntry, Peer
from harmoni.role.handlers import Alarm, Connect, Finding, Retrievable
from harmoni.role.trail import AuditDoor, Trail
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics
from harmoni.services.storage_scu import Outgoing

_T = TypeVar("_T")

_REST_S: Final = 10.0
"""After the centre did not answer, queries are answered without it for so long."""


class Asker:
    """Asks the centre for those who are served by this process.

    Args:
        house: the gateway.
        centre: opens associations.
        door: the process's audit door.
        log: the process's log.
        metrics: counts answers that the centre had no part in.
    """

    def __init__(
        self, house: House, centre: Centre, door: AuditDoor, log: Log, metrics: Metrics
    ) -> None:
        self.house = house
        self._centre = centre
        self._log = log
        self._rests_until_s = 0.0
        self.fetches = Fetches(house, centre, door, log)
        self._alone = metrics.counter(
            "answered_alone", "Queries and plans that the centre could not be asked about.", []
        )

    def ask(self, act: Callable[[Catalogue], _T], *, at_rest: bool = True) -> _T | None:
        """Ask the centre; None when it is away and what is known here must do.

        Args:
            act: what is asked.
            at_rest: whether it is left alone for a moment after it did not answer somebody else.

        Raises:
            Unreachable: it is away, and the gateway may not answer alone.
            HarmoniError: it is there, and cannot answer this.
        """
        clock, timeout_s = self.house.clock, self.house.config.centre.find_timeout_s
        error: HarmoniError = Unreachable("the centre did not answer a moment ago")
        if not at_rest or clock.monotonic_s() >= self._rests_until_s:
            try:
                with catalogue(self._centre, clock, timeout_s) as asked:
                    return act(asked)
            except (Unreachable, AssociationEnded) as failure:
                error = failure
            self._rests_until_s = clock.monotonic_s() + _REST_S
            self._log.error("the centre is away", why=f"{error.code} {error}")
        self._alone.inc()
        if not self.house.may_answer_alone():
            raise Unreachable(f"the gateway may not answer alone: {error}") from error
        return None

    def relay(self, wanted: Listed) -> Iterator[memoryview]:
        """Give an instance's data set as it comes from the centre; see `relay.relay`."""
        return relay.relay(wanted, self._centre, self.house.clock)


class ThroughFinding(Finding):
    """Answers queries of the house (services.find.FindHandler).

    Args:
        asker: asks the centre.
        holding: what is here.
        trail: the association's audit trail.
        max_answers: how many matches one query may have.
    """

    def __init__(self, asker: Asker, holding: Holding, trail: Trail, max_answers: int) -> None:
        super().__init__(holding, trail, max_answers)
        self._asker = asker
        self._of_house = holding
        self._most = max_answers

    def find(self, query: Query) -> Generator[Mapping[int, str], None, None]:
        """Search here and at the centre; the query is audited before its first answer."""
        here = list(super().find(query))

        def act(asked: Catalogue) -> list[dict[int, str]]:
            there = asked.answers(_with_count(query), self._most)
            return [self._settled(query, each, asked) for each in merge(query, here, there)]

        merged = self._asker.ask(act)
        yield from here if merged is None else merged

    def _settled(self, query: Query, entity: Merged, asked: Catalogue) -> dict[int, str]:
        """The values of an entity, with numbers and availability of the union."""
        wanted = [key.tag for key in query.keys if key.tag in COUNTS and key.tag in entity.values]
        availability = INSTANCE_AVAILABILITY in entity.values
        if entity.there is None or not entity.here or not (wanted or availability):
            return entity.values
        more = beyond.of_entity(query, entity.values, entity.there, asked, self._of_house)
        if not more:
            return entity.values
        values = entity.values | beyond.counts(entity.values, wanted, more, self._of_house)
        return values | ({INSTANCE_AVAILABILITY: NEARLINE} if availability else {})


def _with_count(query: Query) -> Query:
    """A query that has the number of instances told as well, where there is one."""
    tag = beyond.INSTANCES_AT_LEVEL.get(query.level)
    if tag is None or any(key.tag == tag for key in query.keys):
        return query
    return replace(query, keys=(*query.keys, Key(tag, "IS", Universal())))


class ThroughRetrieving:
    """Plans retrievals of the house and reaches its destinations (services.move.MoveHandler).

    Args:
        asker: asks the centre, and fetches.
        holding: what is here.
        entry: the hospital's peers.
        connect: opens an association to one of them.
        trail: the association's audit trail.
        alarm: told of a copy that could not be given back.
    """

    def __init__(
        self,
        *,
        asker: Asker,
        holding: Holding,
        entry: HospitalEntry,
        connect: Connect,
        trail: Trail,
        alarm: Alarm,
    ) -> None:
        self._asker = asker
        self._holding = holding
        self._entry = entry
        self._connect = connect
        self._trail = trail
        self._alarm = alarm

    def plan(self, query: Query, destination: Peer | None = None) -> Sequence[Outgoing]:
        """What a retrieval's identifier names: from here what is here, the rest by fetching it.

        Raises:
            Unreachable: nothing of it is known here, and the centre cannot be asked.
        """
        known = [self._here_or(held) for held in self._holding.plan(query)]
        more = self._asker.ask(
            lambda asked: beyond.named_by(query, asked, self._holding), at_rest=False
        )
        if more is None and not known:
            raise Unreachable("nothing of it is known here, and the centre cannot be asked")
        self._touch({held.study_instance_uid for held in known})
        missing = [_listed(held) for held in known if not held.sound] + (more or [])
        fetches = self._asker.fetches.fetch(missing) if missing else {}
        here = [(_listed(held), held) for held in known if held.sound]
        plan: list[Obtainable] = []
        for wanted, held in (*here, *((each, None) for each in missing)):
            outgoing = Obtainable(
                wanted=wanted,
                held=held,
                fetch=fetches.get(wanted.sop_instance_uid),
                asker=self._asker,
                plan=plan,
                holding=self._holding,
                trail=self._trail,
                alarm=self._alarm,
                destination=destination,
            )
            plan.append(outgoing)
        return plan

    def _here_or(self, held: Held) -> Held:
        """Another version that is here, where the one that is served is not.

        The centre has both, and nobody can say which one it would give.
        """
        if held.sound:
            return held
        with self._holding.index.reader() as connection:
            copies = lookup.versions(connection, held.sop_instance_uid)
        here = [
            copy
            for copy in copies
            if copy.sound and copy.study_instance_uid == held.study_instance_uid
        ]
        return here[-1] if here else held

    def _touch(self, studies: set[str]) -> None:
        """Note what is used, so that it is not the first to be let go of."""
        if studies:
            with self._holding.index.write() as connection:
                packs.touch(connection, studies, self._asker.house.clock.now_ms())

    def destination(self, ae_title: str) -> Peer | None:
        """The hospital's registered destination of that AE title, or None."""
        return self._entry.destination(ae_title)

    def connect(self, destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        """Open an association to a destination; see `Connect`."""
        return self._connect(destination, contexts)


@dataclass(slots=True, kw_only=True, eq=False)
class Obtainable:
    """An instance that is here, or comes from the centre first (services.storage_scu.Outgoing)."""

    wanted: Listed
    held: Held | None
    """The copy here, for as long as it stays."""
    fetch: Fetch | None
    asker: Asker
    plan: Sequence["Obtainable"]
    """Everything that the same retrieval gives, in its order."""
    holding: Holding
    trail: Trail
    alarm: Alarm
    destination: Peer | None

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return self.wanted.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return self.wanted.sop_instance_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax in which it is held, here or at the centre."""
        return self.wanted.transfer_syntax_uid

    @property
    def size_bytes(self) -> int:
        """Size of its data set in bytes; 0 where only the centre knows it."""
        return self.wanted.size_bytes

    @property
    def gone(self) -> bool:
        """Whether it was here when the retrieval was planned and was let go of since."""
        return self.fetch is None and self.held is not None and not self.holding.is_here(self.held)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is here, or will not come."""
        if self.gone:
            self._fetch_what_is_gone()
        return self.fetch is None or self.fetch.wait(self.sop_instance_uid, timeout_s)

    def open(self) -> Iterator[memoryview]:
        """Give the data set from the local copy, in verified chunks.

        Without room for a copy it goes from the centre straight to the receiver, and stays nowhere.

        Raises:
            Unreachable, NotHeld, Damaged: it did not come, or cannot be given.
        """
        if self.fetch is not None and self.fetch.lacks_room(self.sop_instance_uid):
            wanted = self.wanted
            self.trail.given(wanted.study_instance_uid, wanted.sop_class_uid, self.destination)
            yield from self.asker.relay(wanted)
            return
        held = self.held if self.fetch is None else self.fetch.held(self.sop_instance_uid)
        assert held is not None
        yield from Retrievable(self.holding, held, self.trail, self.alarm, self.destination).open()

    def _fetch_what_is_gone(self) -> None:
        """Fetch this one and its followers that were let go of, too, all at once."""
        rest = self.plan[self.plan.index(self) :]
        gone = [each for each in rest if each.gone]
        fetches = self.asker.fetches.fetch([each.wanted for each in gone])
        for each in gone:
            each.fetch = fetches[each.sop_instance_uid]


def _listed(held: Held) -> Listed:
    """A row as what is to be fetched: the stub knows everything."""
    return Listed(
        study_instance_uid=held.study_instance_uid,
        series_instance_uid=held.series_instance_uid,
        sop_class_uid=held.sop_class_uid,
        sop_instance_uid=held.sop_instance_uid,
        transfer_syntax_uid=held.identity.transfer_syntax_uid,
        sha256=held.identity.sha256,
        size_bytes=held.identity.size_bytes,
    )
