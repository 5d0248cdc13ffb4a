"""The forwarder: sends what is queued to the centre, one study per association, several at a time.

A study is leased, sent in the transfer syntaxes in which it is held, and what became of each
instance is written down. The centre away settles nothing: what was not answered waits.
"""

import random
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from harmoni.gateway.centre import RELEASE_S, Centre, Line
from harmoni.gateway.house import CENTRE, House
from harmoni.holdings.holding import Holding
from harmoni.index import jobs, lookup
from harmoni.index.jobs import Job
from harmoni.index.lookup import Held
from harmoni.model.errors import HarmoniError
from harmoni.net.driver import AssociationEnded, Channel
from harmoni.policy import delivery
from harmoni.policy.delivery import Step, Verdict
from harmoni.role.handlers import Alarm, Retrievable
from harmoni.role.trail import Trail
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics
from harmoni.services import storage_scu
from harmoni.services.storage_scu import Interrupted, Sent

LOOK_S: Final = 1.0
"""How often an idle sender looks for work."""

LINGER_S: Final = 2.0
_LINGER_LOOK_S: Final = 0.2
_MOST: Final = 500
"""Jobs that one lease takes."""
_LEASE_MS: Final = 600_000
"""Frees what was not given back. What is under way is in hand, however long it takes."""
_WRITTEN_EVERY: Final = 64
"""Outcomes that are written down together."""


@dataclass(slots=True)
class _Study:
    """What is under way: the jobs that are not settled, and outcomes not written down yet."""

    open: dict[Job, None]
    sent: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, Verdict]] = field(default_factory=list)

    def settle(self, job: Job, verdict: Verdict) -> None:
        """An outcome is known."""
        self.open.pop(job, None)
        if verdict.step is Step.DELIVERED:
            self.sent.append(job)
        else:
            self.failed.append((job, verdict))

    @property
    def unwritten(self) -> int:
        """Outcomes that are not written down yet."""
        return len(self.sent) + len(self.failed)


class Forwarder:
    """Sends one gateway's instances to its centre.

    Args:
        house: the gateway.
        centre: opens associations.
        line: says whether the centre can be reached.
        trail: the audit trail of what is given to the centre.
        log: the process's log.
        metrics: counts what was sent.
        alarm: told of a copy that could not be read.
        linger_s: how long an association waits for more of its study while nothing else is due.
    """

    def __init__(
        self,
        *,
        house: House,
        centre: Centre,
        line: Line,
        trail: Trail,
        log: Log,
        metrics: Metrics,
        alarm: Alarm,
        linger_s: float = LINGER_S,
    ) -> None:
        self._linger_s = linger_s
        self._house = house
        self._centre = centre
        self._line = line
        self._trail = trail
        self._log = log
        self._alarm = alarm
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self._outcomes = metrics.counter(
            "forwarded", "Instances that were sent to the centre, by outcome.", ["outcome"]
        )
        self._bytes = metrics.counter(
            "forwarded_bytes", "Bytes of data sets that the centre has taken.", []
        )

    def run(self) -> None:
        """Send until `end`; each of several threads does this."""
        tries = 0
        while not self._ended.is_set():
            if not self._line.wait(LOOK_S):
                continue
            try:
                busy = self.round()
                tries = 0
            except HarmoniError as error:
                # The association, the index or the disk: nothing is settled by it.
                self._log.warning("not forwarded", why=f"{error.code} {error}")
                busy, tries = False, tries + 1
            if not busy:
                self._ended.wait(max(LOOK_S, delivery.pause_s(tries, random.random())))  # noqa: S311

    def end(self) -> None:
        """Stop after the studies that are under way."""
        self._ended.set()

    def round(self) -> bool:
        """Send what is due of one study; False when nothing is.

        Raises:
            HarmoniError: the centre could not be reached, or our own index or disk failed.
        """
        holding, now_ms = self._house.own, self._house.clock.now_ms()
        with holding.index.reader() as connection:
            if not jobs.is_due(connection, CENTRE, now_ms, self._others()):
                return False
        with self._lock:
            with holding.index.write() as connection:
                leased = jobs.lease(
                    connection,
                    CENTRE,
                    now_ms=now_ms,
                    until_ms=now_ms + _LEASE_MS,
                    most=_MOST,
                    in_hand=self._in_hand,
                )
            if not leased:
                return False
            study = leased[0].study_instance_uid
            self._in_hand.add(study)
        try:
            self._forward(holding, leased)
        finally:
            with self._lock:
                self._in_hand.discard(study)
        return True

    def _others(self) -> frozenset[str]:
        """The studies that are being sent."""
        with self._lock:
            return frozenset(self._in_hand)

    def _forward(self, holding: Holding, leased: Sequence[Job]) -> None:
        study = _Study(dict.fromkeys(leased))
        try:
            plan = self._plan(holding, study)
            for contexts, batch in storage_scu.batches(plan):
                channel = self._centre.open(contexts, window=True)
                try:
                    self._send(holding, channel, batch, study)
                    while more := self._more(holding, channel, study, leased[0]):
                        self._send(holding, channel, more, study)
                except BaseException:
                    channel.abort()
                    raise
                channel.release(RELEASE_S)
        except AssociationEnded as ended:
            self._interrupted(study, ended)
            raise
        finally:
            try:
                self._write(holding, study)
            finally:
                # Where even this fails, the lease runs out.
                with holding.index.write() as connection:
                    jobs.give_back(connection, CENTRE, list(study.open))

    def _more(
        self, holding: Holding, channel: Channel, study: _Study, first: Job
    ) -> list["_Outgoing"]:
        """More of the same study that the association can carry, if it comes soon.

        A modality stores image by image; not each of them needs an association of its own. Nobody
        is waited for while something else is due.
        """
        self._write(holding, study)
        clock = self._house.clock
        until_s = clock.monotonic_s() + self._linger_s
        while not self._ended.is_set():
            now_ms = clock.now_ms()
            with holding.index.reader() as connection:
                others = self._others() - {first.study_instance_uid}
                is_due = jobs.is_due(connection, CENTRE, now_ms, others)
            if is_due:
                return self._take_more(holding, channel, study, first)
            if clock.monotonic_s() >= until_s:
                break
            self._ended.wait(_LINGER_LOOK_S)
        return []

    def _take_more(
        self, holding: Holding, channel: Channel, study: _Study, first: Job
    ) -> list["_Outgoing"]:
        now_ms = self._house.clock.now_ms()
        with holding.index.write() as connection:
            leased = jobs.lease_more(
                connection,
                CENTRE,
                first.study_instance_uid,
                now_ms=now_ms,
                until_ms=now_ms + _LEASE_MS,
                most=_MOST,
            )
        more = _Study(dict.fromkeys(leased))
        plan = self._plan(holding, more)
        self._write(holding, more)
        carried = [
            outgoing
            for outgoing in plan
            if storage_scu.find_context(
                channel, outgoing.sop_class_uid, outgoing.transfer_syntax_uid
            )
        ]
        # What this association cannot carry is for the next one.
        left = more.open.keys() - {outgoing.job for outgoing in carried}
        with holding.index.write() as connection:
            jobs.give_back(connection, CENTRE, list(left))
        study.open.update(dict.fromkeys(outgoing.job for outgoing in carried))
        return carried

    def _send(
        self, holding: Holding, channel: Channel, batch: Sequence["_Outgoing"], study: _Study
    ) -> None:
        for sent in storage_scu.send(channel, batch, clock=self._house.clock):
            assert isinstance(sent.outgoing, _Outgoing)
            study.settle(sent.outgoing.job, _verdict(sent))
            if sent.status == 0:
                self._bytes.inc(sent.outgoing.size_bytes)
            if study.unwritten >= _WRITTEN_EVERY:
                self._write(holding, study)

    def _interrupted(self, study: _Study, ended: AssociationEnded) -> None:
        """The association ended under way: what was not answered goes again, after a pause.

        If one instance brings that about each time, it and its companions wait ever longer, and no
        other study does. Where it was our own copy that could not be read, that one is settled.
        """
        if isinstance(ended, Interrupted) and isinstance(ended.outgoing, _Outgoing):
            study.settle(ended.outgoing.job, delivery.of_error(ended.fault))
            return
        for job in list(study.open):
            study.settle(job, Verdict(Step.AGAIN, f"{ended.code} {ended.kind}"))

    def _plan(self, holding: Holding, study: _Study) -> list["_Outgoing"]:
        """What is sent: each job's own copy, or a sound one of the same version."""
        plan: list[_Outgoing] = []
        members: dict[object, dict[int, Held]] = {}
        with holding.index.reader() as connection:
            for job in list(study.open):
                if job.pack_id not in members:
                    rows = lookup.members(connection, job.pack_id)
                    members[job.pack_id] = {held.location.sequence: held for held in rows}
                held = members[job.pack_id].get(job.sequence)
                if held is not None and not held.sound:
                    held = _sound(lookup.versions(connection, held.sop_instance_uid), held)
                if held is None:
                    verdict = Verdict(Step.PARKED, "our own copy is damaged or gone (HZ-2002)")
                    study.settle(job, verdict)
                    continue
                plan.append(
                    _Outgoing(holding, held, self._trail, self._alarm, self._centre.peer, job=job)
                )
        return plan

    def _write(self, holding: Holding, study: _Study) -> None:
        """Write down what became of the instances; a job that is parked is flushed."""
        if not study.unwritten:
            return
        now_ms = self._house.clock.now_ms()
        ask_at_ms = now_ms + int(self._house.config.gateway.commit_after_s * 1000)
        parked = [(job, verdict) for job, verdict in study.failed if verdict.step is Step.PARKED]
        with holding.index.write(durable=bool(parked)) as connection:
            jobs.sent(connection, CENTRE, study.sent, ask_at_ms)
            jobs.renew(connection, CENTRE, list(study.open), now_ms + _LEASE_MS)
            for job, verdict in study.failed:
                if verdict.step is Step.PARKED:
                    jobs.park(connection, CENTRE, job, verdict.reason)
                else:
                    pause_s = delivery.pause_s(job.tries, random.random())  # noqa: S311
                    due_at_ms = now_ms + int(pause_s * 1000)
                    jobs.again(connection, CENTRE, job, due_at_ms=due_at_ms, reason=verdict.reason)
        self._count(study)
        for job, verdict in parked:
            self._log.error(
                "instance parked", pack=str(job.pack_id), sequence=job.sequence, why=verdict.reason
            )
        study.sent.clear()
        study.failed.clear()

    def _count(self, study: _Study) -> None:
        self._outcomes.labels(Step.DELIVERED.value).inc(len(study.sent))
        for _, verdict in study.failed:
            self._outcomes.labels(verdict.step.value).inc()


@dataclass(frozen=True, slots=True, eq=False)
class _Outgoing(Retrievable):
    """An instance on its way to the centre, and the job that it settles."""

    job: Job


def _verdict(sent: Sent) -> Verdict:
    if sent.error is not None:
        return delivery.of_error(sent.error)
    assert sent.status is not None
    return delivery.of_store_status(sent.status)


def _sound(copies: Iterable[Held], wanted: Held) -> Held | None:
    """A sound copy of the same version."""
    return next((copy for copy in copies if copy.identity == wanted.identity and copy.sound), None)
