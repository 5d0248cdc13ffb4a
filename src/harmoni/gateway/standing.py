"""The standing association: storage commitment between the gateway and its centre (PS3.4 Annex J).

One association stays open to the centre. On it the gateway asks for the commitment of each study
that has become quiet, naming the hash of every data set, and the centre reports. What the centre
has committed itself to is an event in the store before the report is answered; with it the jobs of
those instances are over. Whether the association stands tells the senders that the centre is there.
"""

import random
import threading
import uuid
from collections.abc import Sequence
from typing import Final

from harmoni.dicom import status, uids
from harmoni.dicom.commitment_data import CommitmentReport, Reference
from harmoni.dicom.identifier import Key, Query, QueryLevel, Universal
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.status import Category
from harmoni.gateway.catalogue import catalogue
from harmoni.gateway.centre import RELEASE_S, Centre, Line
from harmoni.gateway.house import CENTRE, CentreState, House
from harmoni.holdings.holding import Holding
from harmoni.index import jobs, lookup
from harmoni.index.jobs import Job
from harmoni.model.errors import HarmoniError
from harmoni.model.header import STUDY_INSTANCE_UID
from harmoni.model.instance import Identity
from harmoni.net.driver import Channel, Message
from harmoni.policy import delivery
from harmoni.policy.delivery import DestinationTrouble, Step
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics
from harmoni.sealing import event
from harmoni.services import acceptance, exchange, storage_commitment, verification

LOOK_S: Final = 0.5
"""How often an idle standing association looks for studies to ask about."""

_ECHO_S: Final = 60.0
"""So that neither end takes a quiet association for a dead one."""
_AGAIN_MS: Final = 900_000
"""When a report that did not come is asked for anew."""
_REFUSED_S: Final = 30.0
"""How long nothing is asked after the centre did not take a request."""
_STEADY_S: Final = 10.0
"""An association that stood for so long counts as a good one."""
_DAY_MS: Final = 86_400_000
_MOST: Final = 500
"""References of one request."""
_CONTEXTS: Final = (
    ProposedContext(1, uids.STORAGE_COMMITMENT_PUSH, acceptance.SERVICE_SYNTAXES),
    ProposedContext(3, uids.VERIFICATION, acceptance.SERVICE_SYNTAXES),
)


class Standing:
    """Keeps the association and what is said on it.

    Args:
        house: the gateway.
        centre: opens associations.
        line: is told whether the centre can be reached.
        log: the process's log.
        metrics: counts reports, and says whether the association stands.
    """

    def __init__(
        self, *, house: House, centre: Centre, line: Line, log: Log, metrics: Metrics
    ) -> None:
        self._house = house
        self._centre = centre
        self._line = line
        self._log = log
        self._ended = threading.Event()
        self._tries = 0
        self._prepared = False
        self._salt = uuid.uuid4()
        self._noted: tuple[bool, str] | None = None
        self._since_ms = 0
        self._message_id = 0
        self._echoed_s = 0.0
        self._silent_until_s = 0.0
        self._committed = metrics.counter(
            "committed", "Instances that the centre has reported on, by outcome.", ["outcome"]
        )
        self._up = metrics.gauge("centre_up", "Whether the centre can be reached.", [])

    def run(self) -> None:
        """Keep the association until `end`; it is opened again for ever."""
        while not self._ended.is_set():
            try:
                self._stand()
            except HarmoniError as error:
                self._down(error)

    def end(self) -> None:
        """Release the association."""
        self._ended.set()

    def _stand(self) -> None:
        self._prepare()
        channel = self._centre.open(_CONTEXTS)
        began_s = self._house.clock.monotonic_s()
        try:
            self._meet()
            self._went_up()
            while not self._ended.is_set():
                self._turn_on(channel)
                if self._house.clock.monotonic_s() - began_s >= _STEADY_S:
                    self._tries = 0
        except BaseException:
            channel.abort()
            raise
        channel.release(RELEASE_S)

    def _turn_on(self, channel: Channel) -> None:
        """One turn; a report that could not be kept is not the end of the others."""
        try:
            self.turn(channel)
        except HarmoniError as error:
            if channel.ended is not None:
                raise
            self._log.error("a report was not kept", why=f"{error.code} {error}")

    def turn(self, channel: Channel) -> None:
        """Take a report if one comes, or else ask about a study that is due.

        Raises:
            HarmoniError: the association ended, or what came could not be kept.
        """
        if storage_commitment.receive_report(channel, timeout_s=LOOK_S, keep=self.keep):
            return
        self._ask(channel)
        now_s = self._house.clock.monotonic_s()
        if now_s - self._echoed_s >= _ECHO_S:
            self._echoed_s = now_s
            verification.echo(
                channel,
                message_id=self._next_id(),
                on_other=lambda message: self._take(channel, message),
            )

    def _take(self, channel: Channel, message: Message) -> None:
        storage_commitment.take_report(channel, message, self.keep)

    def _ask(self, channel: Channel) -> None:
        """Ask about everything that is due, one study after another."""
        holding = self._house.own
        while self._house.clock.monotonic_s() >= self._silent_until_s:
            now_ms = self._house.clock.now_ms()
            with holding.index.reader() as connection:
                due = jobs.to_ask(connection, CENTRE, now_ms=now_ms, most=_MOST)
            if not due:
                return
            answer = storage_commitment.request_commitment(
                channel,
                self._transaction_uid(due, now_ms),
                [
                    Reference(
                        sop_class_uid=job.sop_class_uid,
                        sop_instance_uid=job.sop_instance_uid,
                        sha256=job.sha256,
                        version_syntax_uid=job.transfer_syntax_uid,
                    )
                    for job in due
                ],
                message_id=self._next_id(),
                keep=self.keep,
            )
            number = exchange.status_in(answer)
            taken = status.category(number) is Category.SUCCESS
            if not taken:
                # They stay as they are; who asks again at once is refused again.
                self._log.warning("commitment not taken", status=f"{number:04X}")
                self._silent_until_s = self._house.clock.monotonic_s() + _REFUSED_S
                return
            with holding.index.write() as connection:
                jobs.asked(connection, CENTRE, due, again_at_ms=now_ms + _AGAIN_MS)

    def keep(self, report: CommitmentReport) -> None:
        """Keep a report: an event per study, then the jobs that it settles.

        Raises:
            OutOfResources, StorageFailed: it is not kept, or not all of it; it comes again.
        """
        holding = self._house.own
        for study, references in self._by_study(holding, report.committed).items():
            holding.events.record_of_held(
                event.COMMITMENT,
                {
                    "by": CENTRE,
                    "copies": min(each.copies or 0 for each in references),
                    "instances": [
                        {
                            "sha256": (each.sha256 or b"").hex(),
                            "sop_instance_uid": each.sop_instance_uid,
                            "transfer_syntax": each.version_syntax_uid,
                        }
                        for each in references
                    ],
                    "places": sorted(set.intersection(*(set(each.sites) for each in references))),
                    "transaction": report.transaction_uid,
                },
                study=study,
            )
            self._committed.labels("committed").inc(len(references))
        self._keep_failed(holding, report.failed)

    def _by_study(
        self, holding: Holding, committed: Sequence[Reference]
    ) -> dict[str, list[Reference]]:
        """The references that mean a version of ours, by study."""
        studies: dict[str, list[Reference]] = {}
        with holding.index.reader() as connection:
            for reference in committed:
                copies = lookup.versions(connection, reference.sop_instance_uid)
                study = next(
                    (
                        held.study_instance_uid
                        for held in copies
                        if (held.identity.sha256, held.identity.transfer_syntax_uid)
                        == (reference.sha256, reference.version_syntax_uid)
                    ),
                    None,
                )
                if study is None or not reference.copies:
                    # Without the hash nobody knows which version is meant.
                    self._log.warning("a commitment without the hash of a version of ours")
                    continue
                studies.setdefault(study, []).append(reference)
        return studies

    def _keep_failed(self, holding: Holding, failed: Sequence[Reference]) -> None:
        """What the centre does not have is sent again; what it never will is parked."""
        if not failed:
            return
        with holding.index.write(durable=True) as connection:
            for reference in failed:
                verdict = delivery.of_commitment_failure(reference.failure_reason or 0)
                self._committed.labels(verdict.step.value).inc()
                identity = Identity(reference.version_syntax_uid, reference.sha256 or b"", 0)
                for job in jobs.of_version(
                    connection, CENTRE, reference.sop_instance_uid, identity
                ):
                    if verdict.step is Step.PARKED:
                        jobs.park(connection, CENTRE, job, verdict.reason)
                        self._log.error(
                            "instance parked",
                            pack=str(job.pack_id),
                            sequence=job.sequence,
                            why=verdict.reason,
                        )
                    else:
                        pause_s = delivery.pause_s(job.tries, random.random())  # noqa: S311
                        due_at_ms = self._house.clock.now_ms() + int(pause_s * 1000)
                        jobs.again(
                            connection, CENTRE, job, due_at_ms=due_at_ms, reason=verdict.reason
                        )

    def _meet(self) -> None:
        """At the first meeting, before anything is sent: does the centre hold anything of ours?"""
        if self._house.knows_all:
            return
        any_study = Query(
            root="STUDY",
            level=QueryLevel.STUDY,
            keys=(Key(STUDY_INSTANCE_UID, "UI", Universal()),),
        )
        timeout_s = self._house.config.centre.find_timeout_s
        with catalogue(self._centre, self._house.clock, timeout_s) as asked:
            if not asked.answers(any_study, most=1):
                self._house.note_complete()

    def _went_up(self) -> None:
        """The centre is back: whatever waits goes on at once."""
        holding, now_ms = self._house.own, self._house.clock.now_ms()
        with holding.index.write() as connection:
            jobs.wake(connection, CENTRE, now_ms)
        self._echoed_s = self._house.clock.monotonic_s()
        self._log.info("the centre is there")
        self._note(up=True)
        self._up.set(1)
        self._line.went_up()

    def _down(self, error: HarmoniError) -> None:
        """Wait before the next try: longer and longer, and longest where we are refused."""
        trouble = delivery.of_destination(error)
        say = self._log.error if trouble is DestinationTrouble.STANDING else self._log.warning
        refuses = trouble is DestinationTrouble.STANDING
        what = "the centre refuses us" if refuses else "the centre is away"
        say(what, why=f"{error.code} {error}", tries=self._tries)
        self._note(up=False, why=f"{what}: {error}")
        self._up.set(0)
        self._line.went_down()
        pause_s = delivery.destination_pause_s(trouble, self._tries, random.random())  # noqa: S311
        self._tries += 1
        self._ended.wait(pause_s)

    def _transaction_uid(self, asked: Sequence[Job], now_ms: int) -> str:
        """The Transaction UID of a request: the same for the same content, asked for again.

        The centre takes it for the request that it has, so that what it cannot answer yet does not
        pile up there. What was sent again since, the next day, or another process is another.
        """
        content = "\n".join(
            f"{job.pack_id} {job.sequence} {job.tries} {job.sha256.hex()}" for job in asked
        )
        name = uuid.uuid5(self._salt, f"{now_ms // _DAY_MS}\n{content}")
        return f"2.25.{name.int}"

    def _note(self, *, up: bool, why: str = "") -> None:
        """Keep a change where an operator's command finds it; that it cannot be stops nothing."""
        if (up, why) == self._noted:
            return
        now_ms = self._house.clock.now_ms()
        # That it is away for another reason than before does not make it away since now.
        since_ms = now_ms if self._noted is None or self._noted[0] is not up else self._since_ms
        try:
            self._house.note_centre(CentreState(up=up, since_ms=since_ms, why=why))
        except HarmoniError as error:
            self._log.warning("state of the centre not kept", why=f"{error.code} {error}")
        else:
            self._noted, self._since_ms = (up, why), since_ms

    def _prepare(self) -> None:
        """Before the first association: nobody else sends, and what nobody accounts for asks."""
        if self._prepared:
            return
        holding = self._house.own
        with holding.index.reader() as connection:
            doubtful = jobs.unaccounted(connection, self._house.config.gateway.safe_copies)
        with holding.index.write() as connection:
            jobs.release_all(connection, CENTRE)
            jobs.reconcile(connection, CENTRE, doubtful)
        if doubtful:
            self._log.info(
                "instances without job or commitment ask the centre", count=len(doubtful)
            )
        self._prepared = True

    def _next_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id
