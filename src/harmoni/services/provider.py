"""The provider's loop: one association, message by message, until the peer is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

from harmoni.dicom import uids
from harmoni.dicom.dimse import CommandField
from harmoni.dicom.status import Status
from harmoni.net.driver import Channel, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, find, get, move, storage, storage_commitment, verification
from harmoni.services.exchange import Operation, Outcome
from harmoni.services.find import FindHandler
from harmoni.services.move import MoveHandler
from harmoni.services.storage import StoreHandler
from harmoni.services.storage_commitment import CommitmentHandler, Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """The acts that one association may ask for, all bound to one hospital and one peer.

    What the peer has no right to is refused when contexts are negotiated (`acceptance.offer`); the
    handlers are not asked.
    """

    storage: StoreHandler
    find: FindHandler
    retrieve: MoveHandler
    commitment: CommitmentHandler
    ae_title: str
    """Ours, as the peer calls it: Retrieve AE Title (0008,0054) of answers and reports."""
    may_browse: bool
    """Whether the peer may ask queries that select nothing."""
    performed: Callable[[Outcome], None]
    """Told of every operation when it is over, for log, metrics and audit trail."""
    max_answers: int = 10_000
    """How many matches one query may have."""


def serve(
    channel: Channel,
    handlers: Handlers,
    *,
    clock: Clock = exchange.SYSTEM_CLOCK,
    tick_s: float = exchange.TICK_S,
) -> Never:
    """Serve an association until it ends; while it is idle, send the reports that are due.

    A request for something that its context does not stand for is answered 0211 (unrecognized
    operation, PS3.7 C.5.22). A response that answers nothing, or a request in a role that was not
    negotiated, ends in A-ABORT. C-CANCEL of what is already over is ignored (PS3.7 9.3.2.3).

    Args:
        channel: an association that was accepted by `acceptance.offer`.
        handlers: what may be done.
        clock: measures waits.
        tick_s: how long it must have been idle before reports are looked for.

    Raises:
        AssociationEnded: always: it ended, by release or otherwise.
    """
    reporter = Reporter(channel, handlers.commitment, retrieve_ae_title=handlers.ae_title)
    while True:
        message = channel.receive(tick_s)
        if message is None:
            reporter.tick()
        elif message.command.field.is_response:
            handlers.performed(_take_response(channel, message, reporter))
        elif message.command.field != CommandField.C_CANCEL_RQ:
            with channel.operation():
                outcome = _perform(channel, message, handlers, clock)
            handlers.performed(outcome)


def _take_response(channel: Channel, message: Message, reporter: Reporter) -> Outcome:
    if message.command.field != CommandField.N_EVENT_REPORT_RSP:
        exchange.break_off(channel, f"{message.command.field.name} that answers nothing")
    return reporter.answered(message)


def _perform(  # noqa: PLR0911 - one return for each service
    channel: Channel, message: Message, handlers: Handlers, clock: Clock
) -> Outcome:
    context, field = message.context, message.command.field
    if not context.as_scp:
        exchange.break_off(channel, f"{field.name} in a role that was not negotiated")
    match field:
        case CommandField.C_STORE_RQ if uids.is_storage_class(context.abstract_syntax):
            return storage.serve_store(channel, message, handlers.storage)
        case CommandField.C_ECHO_RQ if context.abstract_syntax == uids.VERIFICATION:
            return verification.serve_echo(channel, message)
        case CommandField.C_FIND_RQ if context.abstract_syntax in find.ROOT_OF_CLASS:
            return find.serve_find(
                channel,
                message,
                handlers.find,
                may_browse=handlers.may_browse,
                retrieve_ae_title=handlers.ae_title,
                max_answers=handlers.max_answers,
            )
        case CommandField.C_GET_RQ if context.abstract_syntax in get.ROOT_OF_CLASS:
            return get.serve_get(channel, message, handlers.retrieve, clock=clock)
        case CommandField.C_MOVE_RQ if context.abstract_syntax in move.ROOT_OF_CLASS:
            return move.serve_move(channel, message, handlers.retrieve, clock=clock)
        case CommandField.N_ACTION_RQ if context.abstract_syntax == uids.STORAGE_COMMITMENT_PUSH:
            return storage_commitment.serve_action(channel, message, handlers.commitment)
        case _:
            return _refuse(channel, message)


def _refuse(channel: Channel, message: Message) -> Outcome:
    if message.command.has_data_set:
        channel.discard_data_set()
    Operation(channel, message).respond(Status.UNRECOGNIZED_OPERATION)
    return Outcome(
        operation=message.command.field,
        sop_class_uid=message.context.abstract_syntax,
        status=Status.UNRECOGNIZED_OPERATION,
    )
