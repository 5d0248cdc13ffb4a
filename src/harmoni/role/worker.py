"""A worker: accepts associations, binds each to one hospital, and does wire work only."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from harmoni.audit.event import Act, AuditEvent, Outcome, Participant
from harmoni.dicom import presentation, uids
from harmoni.dicom.items import AsynchronousOperationsWindow
from harmoni.dicom.pdu import AssociateRQ
from harmoni.dicom.presentation import Negotiated
from harmoni.holdings.holding import Holding
from harmoni.model.errors import HarmoniError
from harmoni.model.instance import Origin
from harmoni.net import server
from harmoni.net.driver import Channel, PeerFacts
from harmoni.policy import access
from harmoni.policy.access import Binding, HospitalEntry, Right
from harmoni.role.handlers import Storing
from harmoni.role.node import Node
from harmoni.role.trail import AuditDoor, Strangers, Trail, participant
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics
from harmoni.services import acceptance, find, get, move, provider
from harmoni.services.exchange import Outcome as Performed
from harmoni.services.find import FindHandler
from harmoni.services.move import MoveHandler
from harmoni.services.storage_commitment import CommitmentHandler

WINDOW = 16
"""Operations that one of our own nodes may have under way on an association."""

_NOT_NOW = (2, 3, 2)
"""Transient, by the provider, local limit exceeded (PS3.8 Table 9-21): it may work later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What is known of an accepted association: its hospital, its peer, its trail."""

    binding: Binding
    entry: HospitalEntry
    holding: Holding
    trail: Trail
    our_gateway: bool
    """A gateway of ours calls: known by its hospital's certificate, and it runs HARMONI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """What a role does for a peer besides taking instances in; made for one association each."""

    find: Callable[[Bound], FindHandler]
    retrieve: Callable[[Bound], MoveHandler]
    commit: Callable[[Bound], CommitmentHandler]


class Worker:
    """The acts of a worker process, handed to `net.server.Server`.

    Args:
        node: what this process has open.
        door: the audit door.
        log: the process's log.
        acts: what the role does.
        metrics: counts operations.
    """

    def __init__(
        self,
        node: Node,
        door: AuditDoor,
        log: Log,
        acts: Acts,
        metrics: Metrics,
    ) -> None:
        self._operations = metrics.counter(
            "operations", "Operations served, by kind and status.", ["operation", "status"]
        )
        self._node = node
        self._door = door
        self._log = log
        self._acts = acts
        self._strangers = Strangers(door)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._trails: set[Trail] = set()

    def refused(self, address: str, why: str) -> None:
        """Audit that a peer could not prove by TLS who it is."""
        try:
            self._strangers.refused(address, why)
        except HarmoniError as error:
            # The peer was turned away all the same; only the trail lacks it.
            self._log.error("refusal not audited", why=f"{error.code} {error}")

    def decide(self, request: AssociateRQ, facts: PeerFacts) -> server.Decision:
        """Bind an association to one hospital, or reject it.

        A peer that policy refuses is audited. One that meets trouble of ours, such as a lost index,
        is asked to come again: the server's line in the log says why.
        """
        certificate = facts.certificate
        registry = self._node.registry
        bound = access.bind(
            access.Facts(
                address=facts.address,
                local_port=facts.local_port,
                calling_ae_title=request.calling_ae_title,
                called_ae_title=request.called_ae_title,
                certificate_uris=None if certificate is None else certificate.uris,
            ),
            registry,
        )
        hospital = "" if bound.hospital is None else str(bound.hospital)
        who = participant(
            facts,
            hospital=hospital,
            calling=request.calling_ae_title,
            called=request.called_ae_title,
        )
        if not isinstance(bound, Binding):
            self._audit_refusal(who, bound.why)
            return server.Rejected(
                result=bound.result, source=bound.source, reason=bound.reason, why=bound.why
            )
        entry = registry.hospital(bound.hospital)
        assert entry is not None
        try:
            holding = self._node.holding(bound.hospital)
            holding.index.database()
        except HarmoniError as error:
            result, source, reason = _NOT_NOW
            return server.Rejected(
                result=result, source=source, reason=reason, why=f"{error.code} {error}"
            )
        # Asked only for a requestor that wants to receive in one of several syntaxes.
        preferred = lru_cache(maxsize=1)(holding.preferred_syntaxes)
        negotiated = presentation.negotiate(
            request,
            acceptance.offer(bound.rights, lambda sop_class: preferred().get(sop_class, ())),
        )
        return server.Accepted(
            negotiated=negotiated,
            token=Bound(
                binding=bound,
                entry=entry,
                holding=holding,
                trail=Trail(self._door, who),
                our_gateway=bound.own_node and _runs_harmoni(request),
            ),
            hospital=bound.hospital,
            window=_window(request, negotiated) if bound.own_node else None,
        )

    def serve(self, channel: Channel) -> None:
        """Serve an accepted association until it ends, then write its trail."""
        bound = channel.token
        assert isinstance(bound, Bound)
        binding, holding, trail = bound.binding, bound.holding, bound.trail
        settings, acts = self._node.settings, self._acts
        origin = Origin(
            calling_ae_title=channel.calling_ae_title,
            called_ae_title=channel.called_ae_title,
            address=channel.facts.address,
            verdict=tuple((factor.value, verdict) for factor, verdict in binding.verdicts),
        )
        handlers = provider.Handlers(
            storage=Storing(holding, origin, trail),
            find=acts.find(bound),
            retrieve=acts.retrieve(bound),
            commitment=acts.commit(bound),
            ae_title=settings.node.ae_title,
            may_browse=binding.may(Right.BROWSE),
            performed=self._performed,
            max_answers=settings.limits.find_matches,
        )
        with self._lock:
            self._trails.add(trail)
        try:
            provider.serve(channel, handlers, clock=self._node.clock)
        finally:
            with self._lock:
                self._trails.discard(trail)
            trail.close()

    def tick(self) -> None:
        """Let go of packs that are due, and see to the audit trail; called every second."""
        try:
            with self._lock:
                trails = list(self._trails)
            for trail in trails:
                trail.close_if_old()
            self._door.flush()
        except HarmoniError as error:
            # What is acknowledged next meets the same failure, and is refused.
            self._log.error("audit trail not flushed", why=f"{error.code} {error}")
        for holding in self._node.opened():
            try:
                holding.recorder.packs.retire_due()
                holding.forget_gone()
            except HarmoniError as error:
                # A locked or full index: the packs stay, and the next second tries again.
                self._log.warning("packs not looked at", hospital=str(holding.hospital), why=error)

    def run_ticks(self) -> None:
        """Tick every second until `end`; in a thread of its own."""
        while not self._ended.wait(1.0):
            self.tick()

    def end(self) -> None:
        """Let go of everything: the associations are over."""
        self._ended.set()
        for holding in self._node.opened():
            holding.recorder.packs.retire_all()

    def _audit_refusal(self, who: Participant, why: str) -> None:
        self._door.write(
            [
                AuditEvent(
                    act=Act.NODE_AUTHENTICATION,
                    at_ms=self._door.now_ms(),
                    who=who,
                    outcome=Outcome.SERIOUS_FAILURE,
                    reason=why,
                )
            ]
        )

    def _performed(self, outcome: Performed) -> None:
        self._operations.labels(outcome.operation.name, f"{outcome.status:04X}").inc()
        if outcome.why:
            self._log.warning(
                "operation failed",
                operation=outcome.operation.name,
                status=f"{outcome.status:04X}",
                why=outcome.why,
            )


def _runs_harmoni(request: AssociateRQ) -> bool:
    """Whether the requestor says that it is one of ours (PS3.7 D.3.3.2); it must also be known."""
    return request.user_information.implementation_class_uid == uids.IMPLEMENTATION_CLASS_UID


def _window(request: AssociateRQ, negotiated: Negotiated) -> AsynchronousOperationsWindow | None:
    """What of a proposed window is granted to one of our own nodes; 0 means "as you like".

    None, one operation at a time, where the association may query or retrieve: those look for
    C-CANCEL while they run, and must not meet another request.
    """
    alone = {*find.ROOT_OF_CLASS, *get.ROOT_OF_CLASS, *move.ROOT_OF_CLASS}
    if any(context.abstract_syntax in alone for context in negotiated.contexts.values()):
        return None
    return presentation.grant_window(
        request.user_information.window, invoked=WINDOW, performed=WINDOW
    )
