"""Retrieval by C-GET (PS3.4 C.4.3, PS3.7 9.1.3): instances come back on the same association.

The requester takes the SCP role for the storage classes that it proposes; on those contexts the
provider sends.
"""

from collections.abc import Mapping
from typing import Final

from harmoni.dicom import uids
from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.identifier import QueryRoot
from harmoni.model.errors import HarmoniError
from harmoni.net.driver import AssociationEnded, Channel, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, retrieve, storage, storage_scu
from harmoni.services.exchange import Operation, Outcome
from harmoni.services.retrieve import OnPending, PlanHandler, Progress, RetrieveResult
from harmoni.services.storage import StoreHandler
from harmoni.services.storage_scu import Outgoing

ROOT_OF_CLASS: Final[Mapping[str, QueryRoot]] = {
    uids.PATIENT_ROOT_GET: "PATIENT",
    uids.STUDY_ROOT_GET: "STUDY",
}
"""The information model of each C-GET class."""


def serve_get(
    channel: Channel,
    message: Message,
    handler: PlanHandler,
    *,
    clock: Clock = exchange.SYSTEM_CLOCK,
) -> Outcome:
    """Send what the identifier names on the requester's own association.

    Raises:
        AssociationEnded: the requester has gone, or an instance turned out to be damaged while it
            was being sent and the association was aborted.
    """
    operation = Operation(channel, message)
    try:
        plan = handler.plan(
            retrieve.parse(channel, message, ROOT_OF_CLASS[message.context.abstract_syntax])
        )
    except HarmoniError as error:
        if channel.ended is not None:
            raise
        return retrieve.refuse_error(operation, error)
    refusal = retrieve.refuse_size(operation, plan)
    if refusal is not None:
        return refusal
    progress = Progress(operation, plan, clock)
    for number, outgoing in enumerate(plan):
        operation.look()
        if operation.cancelled:
            break
        progress.tick()
        if not retrieve.await_arrival(operation, outgoing, progress):
            break
        _send(operation, outgoing, progress, retrieve.sub_operation_id(number), clock)
    return progress.finish()


def _send(
    operation: Operation, outgoing: Outgoing, progress: Progress, message_id: int, clock: Clock
) -> None:
    channel = operation.channel
    context = storage_scu.find_context(
        channel, outgoing.sop_class_uid, outgoing.transfer_syntax_uid
    )
    if context is None:
        progress.fail_unaccepted(outgoing)
        return
    try:
        answer = storage_scu.store(
            channel,
            context,
            sop_instance_uid=outgoing.sop_instance_uid,
            data_set=outgoing.open(),
            message_id=message_id,
            clock=clock,
            on_other=operation.take,
            on_tick=progress.tick,
        )
    except AssociationEnded:
        raise
    except HarmoniError as error:
        # It could not even be opened; nothing of it was sent, so the others still can be. Whoever
        # opened it knows why and has raised its alarm.
        progress.fail(outgoing, error)
    else:
        progress.record(outgoing, exchange.status_in(answer))


def get(
    channel: Channel,
    query: bytes,
    handler: StoreHandler,
    *,
    sop_class_uid: str,
    message_id: int = 1,
    timeout_s: float = 600.0,
    clock: Clock = exchange.SYSTEM_CLOCK,
    on_pending: OnPending | None = None,
) -> RetrieveResult:
    """Fetch from a peer; every instance that it sends goes to the handler.

    The association must have been opened with the SCP role for every storage class expected, one
    context per class and syntax.

    Args:
        channel: the association.
        query: the identifier, encoded in the transfer syntax of `exchange.context_for`.
        handler: keeps what comes.
        sop_class_uid: one of the C-GET classes.
        message_id: of the request.
        timeout_s: how long the peer may take from the request to the final response.
        clock: measures the time.
        on_pending: sees each pending response; False cancels.

    Raises:
        Refused: the peer accepted no context for the class.
        AssociationEnded: the peer has gone, or did not respond in time.
    """
    context = exchange.context_for(channel, sop_class_uid)
    request = Command(
        field=CommandField.C_GET_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=sop_class_uid,
        priority=Priority.MEDIUM,
    )
    channel.send(context, request, (query,))

    def take(message: Message) -> None:
        if message.command.field != CommandField.C_STORE_RQ:
            exchange.break_off(channel, f"{message.command.field.name} during a C-GET")
        storage.serve_store(channel, message, handler)

    while True:
        response = exchange.await_response(
            channel, request, timeout_s=timeout_s, clock=clock, on_other=take
        )
        data = exchange.receive_identifier(channel, response)
        if not exchange.is_pending(response.command):
            return RetrieveResult(response.command, data, context.transfer_syntax)
        if on_pending is not None and not on_pending(response.command):
            exchange.cancel(channel, context, request)
            on_pending = None
