"""The server of associations: accepts, admits, secures, and gives each a thread of its own.

Listening sockets are shared by several processes, so accepting never blocks. The accepting thread
does nothing slow: TLS handshake, A-ASSOCIATE and all the rest happen in the association's thread,
under deadlines, and no peer can hold up another. A thread that fails is logged and its association
aborted; the process goes on.
"""

import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from harmoni.dicom.pdu import AbortSource, AssociateRQ
from harmoni.net import tls
from harmoni.net.acceptor import Accepted, Acceptor, Decision, Rejected, ServerLimits, Visit
from harmoni.net.driver import Channel
from harmoni.net.link import AssociationEnded, Ending
from harmoni.net.peer import PeerFacts, plain_address
from harmoni.net.places import OwnPlaces, Places
from harmoni.runtime.clock import Clock
from harmoni.runtime.log import Log, bound
from harmoni.runtime.metrics import Metrics

__all__ = [
    "Accepted",
    "Decision",
    "Listener",
    "Rejected",
    "Server",
    "ServerLimits",
    "adopt",
    "listen",
]

Listener = socket.socket
"""A listening socket, for those who only pass it on."""

BACKLOG: Final = 512
# Connections beyond a limit that are still answered, each in a thread; the rest is just closed.
_ANSWERED_SURPLUS: Final = 32
_OUT_OF_FILES_PAUSE_S: Final = 0.2
_LAST_WAIT_S: Final = 5.0


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> Listener:
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
    listener.settimeout(0)
    return listener


def adopt(descriptor: int) -> socket.socket:
    """Take over a listening socket that was inherited by number."""
    listener = socket.socket(fileno=descriptor)
    listener.settimeout(0)
    return listener


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
        places: counts connections by address over all processes; None: over this one.
        on_refused: told of each peer that did not prove who it is, by its address and why, in at
            most 200 characters: its TLS handshake failed. Called in the connection's thread,
            as often as anybody likes to connect.
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
        places: Places | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self._sockets = list(sockets)
        self._limits = limits
        self._clock = clock
        self._log = log
        self._draining = threading.Event()
        self._acceptor = Acceptor(
            decide=decide,
            serve=serve,
            limits=limits,
            clock=clock,
            log=log,
            draining=self._draining,
            on_refused=on_refused,
        )
        self._changed = threading.Condition()
        self._visits: set[Visit] = set()
        self._places = places or OwnPlaces()
        self._number = 0
        self._wake, self._woken = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept_all, name="accept", daemon=True)
        self._open_gauge = metrics.gauge("associations_open", "Connections being served.")
        self._ended_count = metrics.counter(
            "associations_ended", "Connections that ended, by outcome.", ["outcome"]
        )
        self._bytes_count = metrics.counter(
            "association_bytes", "Bytes of PDUs, by direction.", ["direction"]
        )

    def start(self) -> None:
        """Begin to accept."""
        self._accepting.start()

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
        self._accepting.join()
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
        visit = self._admit(connection, plain_address(address[0]), address[1])
        if visit is None:
            self._ended_count.labels("turned away").inc()
            connection.close()
            return
        try:
            threading.Thread(
                target=self._attend,
                args=(visit, context),
                name=f"association-{visit.number}",
                daemon=True,
            ).start()
        except RuntimeError:
            self._log.error("no thread for another association")
            self._forget(visit)

    def _admit(self, connection: socket.socket, address: str, port: int) -> Visit | None:
        """Give a connection its place, or one of the few in which it is told that none is left.

        Those who are only told so take no place of anybody: one address cannot keep others out.
        """
        limits = self._limits
        with self._changed:
            told_so = sum(visit.congested for visit in self._visits)
            # The address counts in any case, since its visit is given back in any case.
            crowded = self._places.take(address) > limits.associations_per_address
            congested = crowded or len(self._visits) - told_so >= limits.associations
            if congested and told_so >= _ANSWERED_SURPLUS:
                self._places.give_back(address)
                return None
            self._number += 1
            visit = Visit(self._number, connection, address, port, congested=congested)
            self._visits.add(visit)
            self._open_gauge.set(len(self._visits))
            return visit

    def _forget(self, visit: Visit) -> None:
        with suppress(OSError):
            visit.connection.close()
        with self._changed:
            self._visits.discard(visit)
            self._places.give_back(visit.address)
            self._open_gauge.set(len(self._visits))
            self._changed.notify_all()

    def _attend(self, visit: Visit, context: tls.ServerContext | None) -> None:
        started_s = self._clock.monotonic_s()
        with bound(association=visit.number, address=visit.address):
            try:
                self._acceptor.attend(visit, context)
            except AssociationEnded as ended:
                visit.conclude(ended.kind, ended.why)
            except Exception as error:  # noqa: BLE001 - a failed association must not end a worker
                visit.conclude("failed", type(error).__name__)
                self._log.error("association failed", exc_info=error)
                if visit.link is not None:
                    visit.link.abort(AbortSource.SERVICE_PROVIDER, 0, kind=Ending.ABORTED, why="")
            finally:
                self._count(visit)
                self._log.info(
                    "association ended",
                    seconds=round(self._clock.monotonic_s() - started_s, 3),
                    **visit.log_fields(),
                )
                self._forget(visit)

    def _count(self, visit: Visit) -> None:
        self._ended_count.labels(visit.outcome).inc()
        if visit.link is not None:
            self._bytes_count.labels("received").inc(visit.link.transport.bytes_received)
            self._bytes_count.labels("sent").inc(visit.link.transport.bytes_sent)
