"""An association joined to its connection: the loop between `dicom.association` and the socket.

Bytes in, events out, timers in between; every wait ends. What is done with events is for
`net.server`, `net.client` and `net.driver`.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

from harmoni.dicom.association import Association
from harmoni.dicom.events import Aborted, Event, ReleaseRequested, TransportClosed
from harmoni.model.errors import Transient
from harmoni.net.transport import TICK_S, Buffer, Transport, TransportFailed
from harmoni.runtime.clock import Clock


class Ending(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    CLOSED = "closed"
    TIMEOUT = "timeout"


class AssociationEnded(Transient):
    """The association is over; nothing more can be received or sent on it.

    What was not answered was not acknowledged: the requestor sends it again on a new association.
    """

    code = "HZ-1005"

    def __init__(self, kind: Ending, why: str) -> None:
        super().__init__(f"the association ended ({kind}): {why}")
        self.kind = kind
        self.why = why


class Link:
    """One association over one connection; used by one thread, `interrupt` by any.

    Args:
        association: new, or as far as its owner brought it.
        transport: the connection.
        clock: monotonic time.
    """

    def __init__(self, association: Association, transport: Transport, clock: Clock) -> None:
        self.association = association
        self.transport = transport
        self.clock = clock
        self.ended: AssociationEnded | None = None
        """How it ended; None while it stands."""
        self.active_s = clock.monotonic_s()
        """When bytes moved last, in monotonic seconds."""
        self._events: deque[Event] = deque()

    def require_open(self) -> None:
        """Raise `AssociationEnded` if it is over."""
        if self.ended is not None:
            raise self.ended

    def require_sendable(self) -> None:
        """Raise `AssociationEnded` if nothing can be sent: the end may be read but not told yet.

        A peer's last good message and what ended the association may come in one read. What was
        read before the end is given up with it: it could not be answered.
        """
        self.require_open()
        while any(isinstance(event, Aborted | TransportClosed) for event in self._events):
            self.next_event(None)

    def has_events(self) -> bool:
        """Whether an event waits that was read already."""
        return bool(self._events)

    def has_input(self) -> bool:
        """Whether an event waits, or bytes do, or the end of the connection."""
        return bool(self._events) or self.transport.is_readable()

    def add(self, events: Sequence[Event]) -> None:
        """Queue events that the association gave outside of a read."""
        self._events.extend(events)

    def next_event(self, until_s: float | None) -> Event | None:
        """Give the next event, waiting for it.

        Args:
            until_s: the moment to stop waiting; None leaves that to the association's own timer.

        Returns:
            An event other than `Aborted` and `TransportClosed`; None if none came in time.

        Raises:
            AssociationEnded: aborted by either side, or the connection ended. The connection is
                closed then.
        """
        self.require_open()
        while not self._events:
            self._events.extend(self._turn(until_s))
            late = until_s is not None and self.clock.monotonic_s() >= until_s
            if late and not self._events:
                return None
        match self._events.popleft():
            case Aborted() as aborted:
                raise self.finish(Ending.ABORTED, _describe(aborted))
            case TransportClosed():
                why = self.transport.failure or "the peer closed the connection"
                raise self.finish(Ending.CLOSED, why)
            case event:
                return event

    def _turn(self, until_s: float | None) -> list[Event]:
        """Send what waits, then read once or until something is due."""
        self.flush()
        now_s = self.clock.monotonic_s()
        due_s = self.association.deadline_s()
        if due_s is not None and now_s >= due_s:
            # Also between the bytes of a peer that sends them one by one.
            return self.association.handle_timer(now_s)
        moments = (until_s, due_s, now_s + TICK_S)
        wait_s = min(moment for moment in moments if moment is not None) - now_s
        count = self.transport.read_into(self.association.receive_buffer(), wait_s)
        if count is None:
            return []
        self.active_s = self.clock.monotonic_s()
        return self.association.received(count, self.active_s)

    def flush(self) -> None:
        """Send what the association has to send.

        Raises:
            AssociationEnded: the connection broke or the peer took no bytes for too long.
        """
        if waiting := self.association.data_to_send():
            self.write(waiting)

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Send whole PDUs.

        Raises:
            AssociationEnded: the connection broke or the peer took no bytes for too long.
        """
        try:
            self.transport.write(buffers)
        except TransportFailed as failed:
            # Part of a PDU may have left: an A-ABORT would be read as the rest of it.
            if self.ended is None:
                kind = Ending.TIMEOUT if failed.stalled else Ending.CLOSED
                self.ended = AssociationEnded(kind, str(failed))
            self.transport.close()
            raise self.ended from failed
        self.active_s = self.clock.monotonic_s()

    def abort(self, source: int, reason: int, *, kind: Ending, why: str) -> AssociationEnded:
        """Send A-ABORT and close; does nothing to an association that is over.

        Returns:
            How it ended, for the caller to raise if it wants to.
        """
        if self.ended is not None:
            return self.ended
        self._events.clear()
        self.association.abort(source, reason, now_s=self.clock.monotonic_s())
        return self.finish(kind, why)

    def finish(self, kind: Ending, why: str) -> AssociationEnded:
        """Send the last PDU, let the peer close within ARTIM (PS3.8 Sta13), then close.

        To close at once would make the kernel throw away what it has not delivered yet, and the
        peer might never read why.

        Returns:
            How the association ended; from here on every use raises it.
        """
        if self.ended is None:
            self.ended = AssociationEnded(kind, why)
            with suppress(AssociationEnded):
                self._wind_up()
            self.transport.close()
        return self.ended

    def _wind_up(self) -> None:
        self.flush()
        while not (self.association.closing or self.transport.ended):
            for event in self._turn(None):
                if isinstance(event, ReleaseRequested):  # both asked at the same time
                    self.association.confirm_release(now_s=self.clock.monotonic_s())
            self.flush()


def _describe(aborted: Aborted) -> str:
    who = "the peer" if aborted.by_peer else "we"
    return f"{who} aborted ({aborted.source}/{aborted.reason}): {aborted.why}"
