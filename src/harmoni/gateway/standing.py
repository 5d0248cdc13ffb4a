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
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.status import Category
from harmoni.gateway.centre import RELEASE_S, Centre, Line
from harmoni.gateway.house import CENTRE, House
from harmoni.holdings.holding import Holding
from harmoni.index import jobs, lookup
from harmoni.model.errors import HarmoniError
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
_REFUSED_MS: Final = 30_000
"""When a request that the centre did not take is repeated."""
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
        self._message_id = 0
        self._echoed_s = 0.0
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
        channel = self._centre.open(_CONTEXTS)
        try:
            self._went_up()
            while not self._ended.is_set():
                self.turn(channel)
        except BaseException:
            channel.abort()
            raise
        channel.release(RELEASE_S)

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
        while True:
            now_ms = self._house.clock.now_ms()
            with holding.index.reader() as connection:
                due = jobs.to_ask(connection, CENTRE, now_ms=now_ms, most=_MOST)
            if not due:
                return
            answer = storage_commitment.request_commitment(
                channel,
                f"2.25.{uuid.uuid4().int}",
                [
                    Reference(
                        sop_class_uid=job.sop_class_uid,
                        sop_instance_uid=job.sop_instance_uid,
                        sha256=job.sha256,
                    )
                    for job in due
                ],
                message_id=self._next_id(),
                keep=self.keep,
            )
            number = exchange.status_in(answer)
            taken = status.category(number) is Category.SUCCESS
            if not taken:
                self._log.warning("commitment not taken", status=f"{number:04X}")
            with holding.index.write() as connection:
                again_at_ms = now_ms + (_AGAIN_MS if taken else _REFUSED_MS)
                jobs.asked(connection, CENTRE, due, again_at_ms=again_at_ms)

    def keep(self, report: CommitmentReport) -> None:
        """Keep a report: an event per study, then the jobs that it settles.

        Raises:
            OutOfResources, StorageFailed: it is not kept, or not all of it; it comes again.
        """
        holding = self._house.own
        for study, references in self._by_study(holding, report.committed).items():
            first = references[0]
            holding.events.record(
                event.COMMITMENT,
                {
                    "by": CENTRE,
                    "copies": min(each.copies or 0 for each in references),
                    "instances": [
                        {
                            "sha256": (each.sha256 or b"").hex(),
                            "sop_instance_uid": each.sop_instance_uid,
                        }
                        for each in references
                    ],
                    "places": list(first.sites),
                    "transaction": report.transaction_uid,
                },
                subject=study,
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
                        if held.identity.sha256 == reference.sha256
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
        now_ms = self._house.clock.now_ms()
        with holding.index.write(durable=True) as connection:
            for reference in failed:
                verdict = delivery.of_commitment_failure(reference.failure_reason or 0)
                self._committed.labels(verdict.step.value).inc()
                for job in jobs.of_version(
                    connection, CENTRE, reference.sop_instance_uid, reference.sha256 or b""
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
                        jobs.again(connection, CENTRE, job, due_at_ms=now_ms, reason=verdict.reason)

    def _went_up(self) -> None:
        """The centre is back: whatever waits goes on at once."""
        holding, now_ms = self._house.own, self._house.clock.now_ms()
        with holding.index.write() as connection:
            jobs.wake(connection, CENTRE, now_ms)
        self._tries = 0
        self._echoed_s = self._house.clock.monotonic_s()
        self._log.info("the centre is there")
        self._up.set(1)
        self._line.went_up()

    def _down(self, error: HarmoniError) -> None:
        """Wait before the next try: longer and longer, and longest where we are refused."""
        trouble = delivery.of_destination(error)
        say = self._log.error if trouble is DestinationTrouble.STANDING else self._log.warning
        say("the centre is away", why=f"{error.code} {error}", tries=self._tries)
        self._up.set(0)
        self._line.went_down(error)
        pause_s = delivery.destination_pause_s(trouble, self._tries, random.random())  # noqa: S311
        self._tries += 1
        self._ended.wait(pause_s)

    def _next_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id
