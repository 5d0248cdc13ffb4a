"""The server of associations: accepts, admits, secures, and gives each a thread of its own.

Listening sockets are shared by several processes, so accepting never blocks. The accepting thread
does nothing slow: TLS handshake, A-ASSOCIATE and all the rest happen in the association's thread,
under deadlines, and no peer can hold up another. A thread that fails is logged and its association
aborted; the process goes on.
"""

import selectors
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from harmoni.dicom.association import Association
from harmoni.dicom.events import AssociateRequested, Limits
from harmoni.dicom.items import AsynchronousOperationsWindow, UserInformation
from harmoni.dicom.pdu import AbortSource, AssociateRQ
from harmoni.dicom.presentation import Negotiated
from harmoni.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from harmoni.model.errors import HarmoniError
from harmoni.model.identifiers import HospitalId
from harmoni.net import tls
from harmoni.net.driver import IDLE_S, STALL_S, Channel, PeerFacts
from harmoni.net.link import AssociationEnded, Ending, Link
from harmoni.net.transport import Transport
from harmoni.runtime.clock import Clock
from harmoni.runtime.log import Log, bound
from harmoni.runtime.metrics import Metrics

BACKLOG: Final = 512
# Congestion in the words of PS3.8 Table 9-21: transient, presentation-related, local limit exceeded.
_CONGESTED: Final = (2, 3, 2)
# Connections beyond the limit that are still answered politely, each in a thread; others are closed.
_ANSWERED_SURPLUS: Final = 32
_OUT_OF_FILES_PAUSE_S: Final = 0.2
_LAST_WAIT_S: Final = 5.0


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
        associations_per_address: at once from one IP address, likewise.
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


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """Open a listening socket that several processes can accept from.

    Args:
        host: an address of ours; `0.0.0.0` for all of IPv4, `::` for all of both.
        port: 0 lets the system choose one.
        backlog: connections that may wait to be accepted.

    Returns:
        A non-blocking socket; hand its number to executed children, who `adopt` it.

    Raises:
        OSError: the address is not ours, is taken, or the port needs a privilege.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server(
        (host, port), family=family, backlog=backlog, dualstack_ipv6=host == "::"
    )
    listener.setblocking(False)
    return listener


def adopt(descriptor: int) -> socket.socket:
    """Take over a listening socket that was inherited by number."""
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return listener


class _Visit:
    """One connection, from accept to close."""

    def __init__(self, connection: socket.socket, address: str, *, congested: bool) -> None:
        self.connection = connection
        self.address = address
        self.congested = congested
        self.link: Link | None = None
        self.channel: Channel | None = None
        self.request: AssociateRQ | None = None
        self.hospital: HospitalId | None = None
        self.outcome = ""
        self.why = ""

    def interrupt(self) -> None:
        """Wake the visit's thread out of whatever wait it is in."""
        with suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


class Server:
    """Serves associations on listening sockets until drained.

    Args:
        sockets: each with the TLS context of its connections, or None for plain ones. They belong
            to the server from here on.
        decide: accepts or rejects a request; called in the association's thread.
        serve: speaks on an accepted association until it ends; called in the same thread.
            `AssociationEnded` may come out of it.
        limits: see `ServerLimits`.
        clock: monotonic time.
        log: one line when an association opens, one when it ends, whatever came of it.
        metrics: counts associations, their ends, and bytes.
    """

    def __init__(
        self,
        *,
        sockets: Sequence[tuple[socket.socket, tls.ServerContext | None]],
        decide: Callable[[AssociateRQ, PeerFacts], Decision],
        serve: Callable[[Channel], None],
        limits: ServerLimits,
        clock: Clock,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._sockets = list(sockets)
        self._decide = decide
        self._serve = serve
        self._limits = limits
        self._clock = clock
        self._log = log
        self._draining = threading.Event()
        self._changed = threading.Condition()
        self._visits: set[_Visit] = set()
        self._by_address: Counter[str] = Counter()
        self._number = 0
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept_all, name="accept", daemon=True)
        self._open_gauge = metrics.gauge("associations_open", "Connections being served.")
        self._ended_count = metrics.counter(
            "associations_ended", "Connections that ended, by outcome.", ["outcome"]
        )
        self._bytes_count = metrics.counter(
            "association_bytes", "Bytes of PDUs, by direction.", ["direction"]
        )

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    @property
    def open_associations(self) -> int:
        """How many connections are being served."""
        with self._changed:
            return len(self._visits)

    def drain(self, timeout_s: float) -> int:
        """Stop accepting and let associations end between two of their messages.

        Args:
            timeout_s: after so long the connections that are left are cut.

        Returns:
            How many were cut; nothing they had acknowledged is touched by that.
        """
        until_s = self._clock.monotonic_s() + timeout_s
        self._draining.set()
        self._wake.close()
        self._acceptor.join()
        for listener, _ in self._sockets:
            listener.close()
        with self._changed:
            for visit in self._visits:
                if visit.channel is None:
                    visit.interrupt()
            while self._visits and (left_s := until_s - self._clock.monotonic_s()) > 0:
                self._changed.wait(left_s)
            cut = len(self._visits)
            for visit in self._visits:
                visit.interrupt()
            # Their threads now end at their next wait; a handler that computes may take longer.
            self._changed.wait_for(lambda: not self._visits, _LAST_WAIT_S)
        return cut

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector, self._woken:
            selector.register(self._woken, selectors.EVENT_READ)
            for listener, context in self._sockets:
                selector.register(listener, selectors.EVENT_READ, (listener, context))
            while not self._draining.is_set():
                for key, _ in selector.select():
                    if key.data is not None:
                        self._accept(*key.data)

    def _accept(self, listener: socket.socket, context: tls.ServerContext | None) -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process took it, or the peer thought better of it
        except OSError as error:  # no more files or memory: others may end meanwhile
            self._log.error("accepting failed", errno=error.errno)
            self._draining.wait(_OUT_OF_FILES_PAUSE_S)
            return
        visit = self._admit(connection, str(address[0]))
        if visit is None:
            self._ended_count.labels("turned away").inc()
            connection.close()
            return
        try:
            threading.Thread(
                target=self._attend,
                args=(visit, context),
                name=f"association-{self._number}",
                daemon=True,
            ).start()
        except RuntimeError:
            self._log.error("no thread for another association")
            self._forget(visit)

    def _admit(self, connection: socket.socket, address: str) -> _Visit | None:
        limits = self._limits
        with self._changed:
            if len(self._visits) >= limits.associations + _ANSWERED_SURPLUS:
                return None
            congested = (
                len(self._visits) >= limits.associations
                or self._by_address[address] >= limits.associations_per_address
            )
            visit = _Visit(connection, address, congested=congested)
            self._visits.add(visit)
            self._by_address[address] += 1
            self._number += 1
            self._open_gauge.set(len(self._visits))
            return visit

    def _forget(self, visit: _Visit) -> None:
        with suppress(OSError):
            visit.connection.close()
        with self._changed:
            self._visits.discard(visit)
            self._by_address[visit.address] -= 1
            if not self._by_address[visit.address]:
                del self._by_address[visit.address]
            self._open_gauge.set(len(self._visits))
            self._changed.notify_all()

    def _attend(self, visit: _Visit, context: tls.ServerContext | None) -> None:
        started_s = self._clock.monotonic_s()
        with bound(association=self._number, address=visit.address):
            try:
                self._converse(visit, context)
            except AssociationEnded as ended:
                visit.outcome = visit.outcome or ended.kind
                visit.why = visit.why or ended.why
            except Exception as error:  # noqa: BLE001 - a failed association must not end a worker
                visit.outcome, visit.why = "failed", type(error).__name__
                self._log.error("association failed", exc_info=error)
                if visit.link is not None:
                    visit.link.abort(
                        AbortSource.SERVICE_PROVIDER, 0, kind=Ending.ABORTED, why="we failed"
                    )
            finally:
                self._forget(visit)
                self._conclude(visit, self._clock.monotonic_s() - started_s)
