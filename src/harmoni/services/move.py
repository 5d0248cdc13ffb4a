"""Retrieval by C-MOVE (PS3.4 C.4.2, PS3.7 9.1.4): instances go to a third party, named in advance.

The destination is one that the hospital registered, never an address from the wire. Contexts are
planned from what is to be sent, one per class and transfer syntax; what does not fit into one
association goes over several, one after the other.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from harmoni.dicom import uids
from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.identifier import QueryRoot
from harmoni.dicom.pdu import ProposedContext
from harmoni.dicom.presentation import AcceptedContext
from harmoni.dicom.status import Status
from harmoni.model.errors import HarmoniError
from harmoni.net.driver import AssociationEnded, Channel, Message
from harmoni.policy.access import Peer
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, retrieve, storage_scu
from harmoni.services.exchange import Operation, Outcome
from harmoni.services.retrieve import OnPending, PlanHandler, Progress, RetrieveResult
from harmoni.services.storage_scu import Buffer, MoveOriginator, Outgoing

ROOT_OF_CLASS: Final[Mapping[str, QueryRoot]] = {
    uids.PATIENT_ROOT_MOVE: "PATIENT",
    uids.STUDY_ROOT_MOVE: "STUDY",
}
"""The information model of each C-MOVE class."""

_RELEASE_TIMEOUT_S: Final = 10.0


class MoveHandler(PlanHandler, Protocol):
    """What an association may do to send elsewhere: made for one hospital and one peer."""

    def destination(self, ae_title: str) -> Peer | None:
        """The hospital's registered destination of that AE title, or None."""
        ...

    def connect(self, destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        """Open an association to a destination; the service releases it.

        Raises:
            HarmoniError: it cannot be reached, or it refused.
        """
        ...


def serve_move(
    channel: Channel,
    message: Message,
    handler: MoveHandler,
    *,
    clock: Clock = exchange.SYSTEM_CLOCK,
) -> Outcome:
    """Send what the identifier names to the registered destination that the command names.

    An unknown destination is answered A801. A destination that cannot be reached fails the
    sub-operations that were meant for it; one damaged instance fails alone.

    Raises:
        AssociationEnded: the requester has gone; nothing more is sent.
    """
    operation = Operation(channel, message)
    try:
        query = retrieve.parse(channel, message, ROOT_OF_CLASS[message.context.abstract_syntax])
        destination = handler.destination(message.command.move_destination or "")
        if destination is None:
            number = Status.MOVE_DESTINATION_UNKNOWN
            return retrieve.refuse(operation, number, "move destination unknown")
        plan = handler.plan(query, destination)
    except HarmoniError as error:
        if channel.ended is not None:
            raise
        return retrieve.refuse_error(operation, error)
    refusal = retrieve.refuse_size(operation, plan)
    if refusal is not None:
        return refusal
    move = _Move(operation, handler, destination, Progress(operation, plan, clock), clock)
    for contexts, batch in storage_scu.batches(plan):
        move.send(contexts, batch)
    return move.finish()


class _Move:
    """One C-MOVE between two associations; errors of the two are kept apart.

    What happens to the requester's association shows in `_attend`, which keeps the error for later
    and stops the work, so that whatever else is raised is about the destination.
    """

    def __init__(
        self,
        operation: Operation,
        handler: MoveHandler,
        destination: Peer,
        progress: Progress,
        clock: Clock,
    ) -> None:
        self._operation = operation
        self._handler = handler
        self._destination = destination
        self._progress = progress
        self._clock = clock
        self._sent = 0
        self._lost: AssociationEnded | None = None
        self._originator = MoveOriginator(
            operation.channel.calling_ae_title, operation.request.command.message_id or 0
        )

    def send(self, contexts: Sequence[ProposedContext], batch: Sequence[Outgoing]) -> None:
        """Send what one association can carry; count what could not be sent."""
        waiting = deque(batch)
        while waiting and self._await(waiting[0]):
            try:
                target = self._handler.connect(self._destination, contexts)
            except HarmoniError:
                self._progress.explain(retrieve.DESTINATION_UNREACHABLE)
                self._fail(waiting)
                return
            try:
                self._send_on(target, waiting)
            except storage_scu.Interrupted:
                # One instance is damaged and its association aborted: the others get a new one.
                self._progress.fail(waiting.popleft())
            except AssociationEnded:
                self._fail(waiting)
            else:
                target.release(_RELEASE_TIMEOUT_S)

    def finish(self) -> Outcome:
        """Answer the requester.

        Raises:
            AssociationEnded: it has gone.
        """
        if self._lost is not None:
            raise self._lost
        return self._progress.finish()

    def _await(self, outgoing: Outgoing) -> bool:
        """Wait until an instance can be sent; False when nobody wants it any more."""
        while self._is_wanted():
            if outgoing.wait(exchange.TICK_S):
                return True
        return False

    def _send_on(self, target: Channel, waiting: deque[Outgoing]) -> None:
        """Send until nothing waits any more; what is not settled yet stays in `waiting`."""
        while waiting and self._is_wanted():
            outgoing = waiting[0]
            if not self._await(outgoing):
                return
            context = storage_scu.find_context(
                target, outgoing.sop_class_uid, outgoing.transfer_syntax_uid
            )
            if context is None:
                self._progress.fail_unaccepted(outgoing)
            else:
                self._send_one(target, context, outgoing)
            waiting.popleft()

    def _send_one(self, target: Channel, context: AcceptedContext, outgoing: Outgoing) -> None:
        try:
            answer = storage_scu.store(
                target,
                context,
                sop_instance_uid=outgoing.sop_instance_uid,
                data_set=self._attended(outgoing.open()),
                message_id=retrieve.sub_operation_id(self._sent),
                originator=self._originator,
                priority=self._operation.request.command.priority or Priority.MEDIUM,
                clock=self._clock,
                on_tick=self._attend,
            )
        except AssociationEnded:
            raise
        except HarmoniError as error:
            # It could not even be opened: nothing of it was sent.
            self._progress.fail(outgoing, error)
        else:
            self._progress.record(outgoing, exchange.status_in(answer))
        self._sent += 1

    def _attended(self, chunks: Iterator[Buffer]) -> Iterator[Buffer]:
        """The chunks, with a look at the requester before each: a large one takes a while."""
        for chunk in chunks:
            self._attend()
            yield chunk

    def _attend(self) -> None:
        if self._lost is None:
            try:
                self._operation.look()
                self._progress.tick()
            except AssociationEnded as error:
                self._lost = error

    def _is_wanted(self) -> bool:
        self._attend()
        return self._lost is None and not self._operation.cancelled

    def _fail(self, waiting: deque[Outgoing]) -> None:
        while waiting:
            self._progress.fail(waiting.popleft())


def move(
    channel: Channel,
    query: bytes,
    *,
    sop_class_uid: str,
    destination: str,
    message_id: int = 1,
    timeout_s: float = 600.0,
    clock: Clock = exchange.SYSTEM_CLOCK,
    on_pending: OnPending | None = None,
) -> RetrieveResult:
    """Have a peer send to a third party.

    Args:
        channel: the association.
        query: the identifier, encoded in the transfer syntax of `exchange.context_for`.
        sop_class_uid: one of the C-MOVE classes.
        destination: AE title, as the peer knows it.
        message_id: of the request.
        timeout_s: how long the peer may take for each response.
        clock: measures the time.
        on_pending: sees each pending response; False cancels.

    Raises:
        Refused: the peer accepted no context for the class.
        AssociationEnded: the peer has gone, or did not respond in time.
    """
    context = exchange.context_for(channel, sop_class_uid)
    request = Command(
        field=CommandField.C_MOVE_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=sop_class_uid,
        priority=Priority.MEDIUM,
        move_destination=destination,
    )
    channel.send(context, request, (query,))
    while True:
        response = exchange.await_response(channel, request, timeout_s=timeout_s, clock=clock)
        data = exchange.receive_identifier(channel, response)
        if not exchange.is_pending(response.command):
            return RetrieveResult(response.command, data, context.transfer_syntax)
        if on_pending is not None and not on_pending(response.command):
            exchange.cancel(channel, context, request)
            on_pending = None
