"""One accepted connection, from TLS handshake to last byte: the acceptor's side (PS3.8 7.1).

It secures the connection, reads A-ASSOCIATE-RQ within ARTIM, asks whether the peer is welcome, and
lets a service speak. All of it happens in the connection's own thread.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from harmoni.dicom.association import Association
from harmoni.dicom.events import AssociateRequested, Limits
from harmoni.dicom.items import AsynchronousOperationsWindow, UserInformation
from harmoni.dicom.pdu import AssociateRQ
from harmoni.dicom.presentation import Negotiated
from harmoni.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.net import tls
from harmoni.net.driver import IDLE_S, STALL_S, Channel
from harmoni.net.link import Ending, Link
from harmoni.net.peer import PeerFacts, observe
from harmoni.net.transport import Transport, describe, linger
from harmoni.runtime.clock import Clock
from harmoni.runtime.log import Log

_RELEASE_S: Final = 10.0
# A peer chooses some of the words with which it is refused.
_MAX_WHY_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The association is accepted.

    Attributes:
        negotiated: contexts and roles.
        token: handed on as `Channel.token`: what is known about the peer from now on.
        hospital: for the log; None for a peer that belongs to none.
        window: the granted asynchronous operations window, if one was proposed.
    """

    negotiated: Negotiated
    token: object
    hospital: HospitalId | None = None
    window: AsynchronousOperationsWindow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The association is rejected with the three numbers of PS3.8 Table 9-21.

    Attributes:
        why: for our log only; the peer learns the numbers.
    """

    result: int
    source: int
    reason: int
    why: str = ""


Decision = Accepted | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What this process gives to its peers together, and to each.

    Attributes:
        associations: at once; more are told to come back later.
        associations_per_address: at once from one IP address, as `places` counts, likewise.
        handshake_s: for the whole TLS handshake.
        idle_s: how long no byte may move in an association.
        stall_s: how long a peer may take none of our bytes.
        association: of each association; its ARTIM bounds the wait for A-ASSOCIATE-RQ.
    """

    associations: int = 128
    associations_per_address: int = 32
    handshake_s: float = 10.0
    idle_s: float = IDLE_S
    stall_s: float = STALL_S
    association: Limits = field(default_factory=Limits)


class Visit:
    """One connection, and what became of it; its thread writes, other threads only interrupt."""

    def __init__(
        self, number: int, connection: socket.socket, address: str, port: int, *, congested: bool
    ) -> None:
        self.number = number
        self.connection = connection
        self.address = address
        self.port = port
        self.congested = congested
        """Beyond a limit: told to come back later."""
        self.link: Link | None = None
        self.channel: Channel | None = None
        self.request: AssociateRQ | None = None
        self.hospital: HospitalId | None = None
        self.outcome = ""
        self.why = ""

    def conclude(self, outcome: str, why: str) -> None:
        """Note how it ended; the first word counts."""
        if not self.outcome:
            self.outcome, self.why = outcome, why

    def interrupt(self) -> None:
        """Wake the visit's thread out of whatever wait it is in."""
        with suppress(OSError):
            # Not the method of an SSLSocket, which would forget its TLS state under the thread.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def log_fields(self) -> dict[str, object]:
        """Give what the canonical line tells."""
        fields: dict[str, object] = {"outcome": self.outcome, "why": self.why}
        if self.request is not None:
            fields["calling"] = self.request.calling_ae_title
            fields["called"] = self.request.called_ae_title
        if self.hospital is not None:
            fields["hospital"] = str(self.hospital)
        if self.link is not None:
            fields["bytes_received"] = self.link.transport.bytes_received
            fields["bytes_sent"] = self.link.transport.bytes_sent
        if self.channel is not None:
            fields["messages_received"] = self.channel.messages_received
            fields["messages_sent"] = self.channel.messages_sent
        return fields


class Acceptor:
    """Attends to connections, each in the thread that calls; see `server.Server` for the parts."""

    def __init__(
        self,
        *,
        decide: Callable[[AssociateRQ, PeerFacts], Decision],
        serve: Callable[[Channel], None],
        limits: ServerLimits,
        clock: Clock,
        log: Log,
        draining: threading.Event,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self._decide = decide
        self._serve = serve
        self._limits = limits
        self._clock = clock
        self._log = log
        self._draining = draining
        self._on_refused = on_refused

    def attend(self, visit: Visit, context: tls.ServerContext | None) -> None:
        """Attend to a connection until it is over.

        Raises:
            AssociationEnded: the usual end.
            Exception: what `decide`, `serve` or `on_refused` raise; the caller aborts.
        """
        if context is not None and not self._secure(visit, context.current):
            return
        try:
            facts = observe(visit.connection, visit.address, visit.port)
        except InvalidInput as error:
            self._refuse(visit, str(error))
            return
        association = Association(
            requestor=False, limits=self._limits.association, now_s=self._clock.monotonic_s()
        )
        transport = Transport(visit.connection, clock=self._clock, stall_s=self._limits.stall_s)
        link = visit.link = Link(association, transport, self._clock)
        # ARTIM ends this wait. An acceptor without association is told of nothing else.
        event = link.next_event(None)
        assert isinstance(event, AssociateRequested)
        link.require_standing()
        visit.request = event.request
        match self._answer(visit, event.request, facts):
            case Rejected(result=result, source=source, reason=reason, why=why):
                association.reject(result, source, reason, now_s=self._clock.monotonic_s())
                visit.conclude("rejected", f"{result}/{source}/{reason} {why}".rstrip())
                link.finish(Ending.CLOSED, "rejected")
            case Accepted() as accepted:
                self._establish(visit, link, accepted, facts)

    def _secure(self, visit: Visit, context: ssl.SSLContext) -> bool:
        """Do the TLS handshake under its deadline; False if the peer failed it."""
        visit.connection.settimeout(self._limits.handshake_s)
        try:
            secured = context.wrap_socket(
                visit.connection, server_side=True, do_handshake_on_connect=False
            )
            visit.connection = secured
            secured.do_handshake()
        except OSError as error:  # ssl.SSLError and TimeoutError are some
            if isinstance(error, ssl.SSLError):
                linger(visit.connection)
            self._refuse(visit, describe(error))
            return False
        return True

    def _refuse(self, visit: Visit, why: str) -> None:
        """Note that the peer did not prove who it is, and tell whoever wants to know."""
        why = why[:_MAX_WHY_CHARACTERS]
        visit.conclude("handshake failed", why)
        if self._on_refused is not None:
            self._on_refused(visit.address, why)

    def _answer(self, visit: Visit, request: AssociateRQ, facts: PeerFacts) -> Decision:
        if visit.congested or self._draining.is_set():
            # PS3.8 Table 9-21: transient, presentation related, local limit exceeded.
            return Rejected(result=2, source=3, reason=2, why="too many associations")
        return self._decide(request, facts)

    def _establish(self, visit: Visit, link: Link, accepted: Accepted, facts: PeerFacts) -> None:
        information = UserInformation(
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            window=accepted.window,
        )
        link.association.accept(accepted.negotiated, information)
        visit.hospital = accepted.hospital
        channel = visit.channel = Channel(
            link,
            facts=facts,
            token=accepted.token,
            idle_s=self._limits.idle_s,
            draining=self._draining,
        )
        self._log.info(
            "association opened",
            calling=channel.calling_ae_title,
            called=channel.called_ae_title,
            hospital=str(accepted.hospital or ""),
            contexts=len(channel.contexts),
            certificate=facts.certificate.serial if facts.certificate else "",
        )
        self._serve(channel)
        channel.release(_RELEASE_S)
        if channel.ended is not None:
            visit.conclude(channel.ended.kind, channel.ended.why)
