"""Commitment reports to the peers of the house, on an association that the gateway opens.

A peer that is still there gets its report on its own association, from the worker that serves it
(services.storage_commitment). One that has gone is called back (PS3.4 J.3.3): the gateway proposes
the service in the role of its provider, and tries again until the report is answered.
"""

import random
import threading
from typing import Final

from harmoni.dicom import status, uids
from harmoni.dicom.dimse import CommandField
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.status import Category
from harmoni.gateway.house import House
from harmoni.index import commitment
from harmoni.model.errors import HarmoniError, Refused
from harmoni.net import client
from harmoni.net.driver import Channel
from harmoni.policy import delivery
from harmoni.policy.access import Peer, Right
from harmoni.role.handlers import Committing
from harmoni.runtime.log import Log
from harmoni.services import acceptance, exchange
from harmoni.services.storage_commitment import Reporter

LOOK_S: Final = 1.0
"""How often reports are looked for."""
GRACE_MS: Final = 3000
"""How long a report waits for the peer's own association, which gets it within a second."""

_ANSWER_S: Final = 60.0
_RELEASE_S: Final = 10.0
_CONTEXT: Final = (ProposedContext(1, uids.STORAGE_COMMITMENT_PUSH, acceptance.SERVICE_SYNTAXES),)
_ROLE: Final = (RoleSelection(sop_class_uid=uids.STORAGE_COMMITMENT_PUSH, scu=False, scp=True),)


class CallBack:
    """Calls peers back that have reports to get.

    Args:
        house: the gateway.
        log: the process's log.
    """

    def __init__(self, house: House, log: Log) -> None:
        self._house = house
        self._log = log
        self._ended = threading.Event()
        self._waits: dict[str, tuple[int, float]] = {}

    def run(self) -> None:
        """Look and call until `end`."""
        while not self._ended.wait(LOOK_S):
            try:
                self.round()
            except HarmoniError as error:
                self._log.warning("reports not looked at", why=f"{error.code} {error}")

    def end(self) -> None:
        """Stop after the present call."""
        self._ended.set()

    def round(self) -> None:
        """Call every peer once whose report is due and that can be called.

        Raises:
            HarmoniError: our own index cannot be read.
        """
        with self._house.own.index.reader() as connection:
            requesters = commitment.requesters(connection)
        self._waits = {name: wait for name, wait in self._waits.items() if name in requesters}
        for requester in requesters:
            tries, again_s = self._waits.get(requester, (0, 0.0))
            peer = self._house.peer(requester)
            if (
                peer is None
                or not peer.host
                or not peer.port
                or Right.COMMIT not in peer.rights
                or self._house.clock.monotonic_s() < again_s
                or not self._is_old(requester)
            ):
                continue
            try:
                self._call(peer)
            except HarmoniError as error:
                pause_s = delivery.pause_s(tries + 1, random.random())  # noqa: S311
                again_s = self._house.clock.monotonic_s() + pause_s
                self._waits[requester] = (tries + 1, again_s)
                self._log.warning("not reported", peer=requester, why=f"{error.code} {error}")
            else:
                self._waits.pop(requester, None)

    def _is_old(self, requester: str) -> bool:
        due = self._house.own.commitments.due(requester)
        now_ms = self._house.clock.now_ms()
        # Resolved in the future: the clock has been set back since.
        ages_ms = [now_ms - (each.resolved_at_ms or now_ms) for each in due]
        return any(age_ms < 0 or age_ms >= GRACE_MS for age_ms in ages_ms)

    def _call(self, peer: Peer) -> None:
        channel = client.open_association(
            host=peer.host,
            port=peer.port,
            tls=None,
            called_ae_title=peer.ae_title,
            calling_ae_title=self._house.config.gateway.ae_title,
            contexts=_CONTEXT,
            roles=_ROLE,
            assume_roles=peer.assume_roles,
        )
        try:
            refusal = self._report(channel, peer)
        except BaseException:
            channel.abort()
            raise
        channel.release(_RELEASE_S)
        if refusal:
            raise Refused(refusal)

    def _report(self, channel: Channel, peer: Peer) -> str:
        """Send what is due; why not all of it was taken, or ""."""
        reporter = Reporter(
            channel,
            Committing(self._house.own, peer.ae_title, our_gateway=False),
            retrieve_ae_title=self._house.config.gateway.ae_title,
        )
        if not reporter.may_report:
            return (
                f"{peer.ae_title} does not agree to the role of the reporting side: have it accept "
                "that role, or set assume_roles for this peer if it takes reports all the same"
            )
        refusal = ""
        reporter.tick()
        while reporter.awaits_answer:
            message = channel.receive(_ANSWER_S)
            if message is None or message.command.field != CommandField.N_EVENT_REPORT_RSP:
                exchange.break_off(channel, "no answer to a report")
            outcome = reporter.answered(message)
            if status.category(outcome.status) is not Category.SUCCESS:
                refusal = f"{peer.ae_title} answers {outcome.status:04X}; look at its log"
        return refusal
