"""A channel: one association as its services use it, message by message, in one blocking thread.

The provider's loop: `receive` a message, take its data set if it has one, `send` the answer. Every
wait ends, by a message, by idleness, or by `AssociationEnded`.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.dimse import Command
from harmoni.dicom.events import (
    CommandReceived,
    DataSetReceived,
    DataSink,
    ReleaseConfirmed,
    ReleaseRequested,
)
from harmoni.dicom.pdu import AbortReason, AbortSource, AssociateAC, AssociateRQ
from harmoni.dicom.presentation import AcceptedContext
from harmoni.model.errors import LocalProtocolError
from harmoni.net.link import AssociationEnded, Ending, Link
from harmoni.net.peer import PeerFacts
from harmoni.net.sinks import Discarding, Gathering, GuardedSink
from harmoni.net.transport import TICK_S, Buffer

__all__ = ["AssociationEnded", "Channel", "Ending", "Message", "PeerFacts"]

IDLE_S: Final = 600.0
STALL_S: Final = 60.0
# How long a peer may take to agree when we end an association in a drain.
_DRAIN_RELEASE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Message:
    """A command set and the presentation context it came in.

    With `command.has_data_set` its data set must be taken before anything else is received.
    """

    context: AcceptedContext
    command: Command


class Channel:
    """An established association; used by one thread.

    Args:
        link: of an association that is accepted.
        facts: what the connection shows of the peer.
        token: what `decide` found out about the peer; None where we are the requestor.
        idle_s: how long no byte may move before we abort, between messages and within one.
        draining: set when this process ends: `receive` then ends the association between messages.
    """

    def __init__(
        self,
        link: Link,
        *,
        facts: PeerFacts,
        token: object = None,
        idle_s: float = IDLE_S,
        draining: threading.Event | None = None,
    ) -> None:
        self.facts = facts
        self.token = token
        self.messages_received = 0
        self.messages_sent = 0
        self._link = link
        self._association = link.association
        self._idle_s = idle_s
        self._tick_s = min(TICK_S, idle_s)
        self._draining = draining
        self._data_set_waits = False
        self._operating = False

    @property
    def request(self) -> AssociateRQ:
        """The A-ASSOCIATE-RQ, the peer's or ours."""
        return self._association.request

    @property
    def answer(self) -> AssociateAC:
        """The A-ASSOCIATE-AC; its user information has the granted operations window."""
        return self._association.answer

    @property
    def contexts(self) -> Mapping[int, AcceptedContext]:
        """The accepted presentation contexts, by id."""
        return self._association.contexts

    @property
    def calling_ae_title(self) -> str:
        """The requestor's AE title."""
        return self.request.calling_ae_title

    @property
    def called_ae_title(self) -> str:
        """The acceptor's AE title."""
        return self.request.called_ae_title

    @property
    def ended(self) -> AssociationEnded | None:
        """How the association ended; None while it stands."""
        return self._link.ended

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """Wait for the next message; a release of the peer is answered here.

        Args:
            timeout_s: how long; 0 only looks; None as long as the association lasts.

        Returns:
            The message, or None if none came. With `has_data_set` the caller must call one of
            `receive_data_set`, `receive_bytes` and `discard_data_set` next.

        Raises:
            AssociationEnded: released, aborted, closed, or idle for too long.
            LocalProtocolError: the data set of the last message was not taken.
        """
        self._link.require_open()
        if self._data_set_waits:
            raise LocalProtocolError(
                "the data set of the last message was not taken: do that first"
            )
        clock = self._link.clock
        until_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
        while True:
            self._leave_if_draining()
            next_s = clock.monotonic_s() + self._tick_s
            match self._link.next_event(next_s if until_s is None else min(until_s, next_s)):
                case CommandReceived(context_id, command, has_data_set):
                    self.messages_received += 1
                    self._data_set_waits = has_data_set
                    return Message(self.contexts[context_id], command)
                case ReleaseRequested():
                    self._confirm_release()
                    raise self._link.finish(Ending.RELEASED, "the peer asked for it")
                case _:
                    self._abort_if_idle()
            if until_s is not None and clock.monotonic_s() >= until_s:
                return None

    def receive_data_set(self, sink: DataSink) -> None:
        """Let the data set of the last message flow into a sink; returns when it is complete.

        Where the sink raises a `HarmoniError`, the rest of the data set is read and thrown away,
        so that the association stays usable and the caller can answer with a status.

        Raises:
            HarmoniError: the sink's own.
            AssociationEnded: the data set will never be complete; the caller abandons it.
            LocalProtocolError: no data set waits.
        """
        self._link.require_open()
        if not self._data_set_waits:
            raise LocalProtocolError(
                "no data set waits: the last message has none, or it was taken"
            )
        guarded = GuardedSink(sink)
        clock = self._link.clock
        self._link.add(self._association.receive_data_set(guarded, clock.monotonic_s()))
        while not isinstance(
            self._link.next_event(clock.monotonic_s() + self._tick_s), DataSetReceived
        ):
            self._abort_if_idle()
        self._data_set_waits = False
        if guarded.error is not None:
            raise guarded.error

    def receive_bytes(self, limit_bytes: int) -> bytes:
        """Take the data set of the last message into memory: an identifier, a request.

        Raises:
            InvalidInput: it is longer than the limit; it was thrown away.
            AssociationEnded: the data set will never be complete.
            LocalProtocolError: no data set waits.
        """
        gathered = Gathering(limit_bytes)
        self.receive_data_set(gathered)
        return bytes(gathered.data)

    def discard_data_set(self) -> None:
        """Read the data set of the last message and throw it away.

        Raises:
            AssociationEnded: it never became complete.
            LocalProtocolError: no data set waits.
        """
        self.receive_data_set(Discarding())

    def poll(self) -> bool:
        """Whether the peer has sent something, such as C-CANCEL, or is gone.

        It may be part of a message: `receive(0)` then gives None, and nothing is lost.
        """
        return self._link.has_input()

    def send(
        self,
        context: AcceptedContext,
        command: Command,
        data_set: Iterable[Buffer] | None = None,
    ) -> None:
        """Send one message; command and beginning of the data set leave in one write.

        Args:
            context: one of `contexts`.
            command: its `has_data_set` says whether a data set follows.
            data_set: chunks of any size; none of them is copied on a plain connection. If the
                source raises after the first bytes left, the association is aborted, so that the
                peer never takes a part for the whole; the source's own error comes out.

        Raises:
            AssociationEnded: it is over, or the peer took no bytes for too long.
            LocalProtocolError: the context or the command does not fit.
        """
        self._link.require_standing()
        self._link.flush()
        begun = complete = False
        try:
            for buffers in self._association.message(context.id, command, data_set):
                begun = True
                self._link.write(buffers)
            complete = True
        finally:
            if begun and not complete:
                self.abort(AbortSource.SERVICE_USER)
        self.messages_sent += 1

    def release(self, timeout_s: float) -> None:
        """Release the association in order, or abort it when the peer does not agree in time.

        Messages that still come are thrown away. Never raises `AssociationEnded`: over is over.

        Args:
            timeout_s: how long the peer may take.
        """
        if self._link.ended is not None:
            return
        clock = self._link.clock
        until_s = clock.monotonic_s() + timeout_s
        try:
            if self._data_set_waits:
                self.discard_data_set()
            self._answer_release()
            self._link.require_standing()
            self._association.release()
            self._await_release(until_s)
        except AssociationEnded:
            return

    def _answer_release(self) -> None:
        """Agree if the peer has asked for release first: what was read already may say so.

        Raises:
            AssociationEnded: it did.
        """
        while self._link.has_events():
            match self._link.next_event(None):
                case ReleaseRequested():
                    self._confirm_release()
                    raise self._link.finish(Ending.RELEASED, "both asked for it")
                case CommandReceived(has_data_set=True):
                    self._discard_next()
                case _:
                    pass  # what still comes is of no use any more

    def _confirm_release(self) -> None:
        self._link.require_standing()
        self._association.confirm_release(now_s=self._link.clock.monotonic_s())

    def _discard_next(self) -> None:
        """Let the data set of a command that nobody wants go nowhere."""
        now_s = self._link.clock.monotonic_s()
        self._link.add(self._association.receive_data_set(Discarding(), now_s))

    def _await_release(self, until_s: float) -> None:
        clock = self._link.clock
        while True:
            match self._link.next_event(until_s):
                case ReleaseConfirmed():
                    self._link.finish(Ending.RELEASED, "we asked for it")
                    return
                case ReleaseRequested():  # both asked at the same time (PS3.8 9.2.3)
                    self._confirm_release()
                case CommandReceived(has_data_set=True):
                    self._discard_next()
                case _:
                    pass  # what still comes is of no use any more
            if clock.monotonic_s() >= until_s:
                self._end(Ending.TIMEOUT, "the peer did not answer our release")
                return

    def abort(
        self, source: int = AbortSource.SERVICE_PROVIDER, reason: int = AbortReason.NOT_SPECIFIED
    ) -> None:
        """Send A-ABORT and close; does nothing to an association that is over.

        Args:
            source: `pdu.AbortSource`.
            reason: `pdu.AbortReason`, of the service provider only.
        """
        self._end(Ending.ABORTED, f"we aborted ({source}/{reason})", source=source, reason=reason)

    def _end(
        self,
        kind: Ending,
        why: str,
        *,
        source: int = AbortSource.SERVICE_PROVIDER,
        reason: int = AbortReason.NOT_SPECIFIED,
    ) -> AssociationEnded:
        return self._link.abort(source, reason, kind=kind, why=why)

    def _abort_if_idle(self) -> None:
        if self._link.clock.monotonic_s() - self._link.active_s >= self._idle_s:
            raise self._end(Ending.TIMEOUT, f"no byte moved for {self._idle_s:g} s")

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Hold a drain off for the length of a with block: an operation is under way.

        Its messages belong together, such as a retrieval with its sub-operations. A drain that has
        no more time cuts the connection all the same.
        """
        self._operating = True
        try:
            yield
        finally:
            self._operating = False

    def _leave_if_draining(self) -> None:
        """End between two operations: what the peer sends next is not acknowledged, and lost."""
        draining = self._draining is not None and self._draining.is_set()
        if not draining or self._operating or self._link.has_events():
            return
        self.release(_DRAIN_RELEASE_S)
        self._link.require_open()
