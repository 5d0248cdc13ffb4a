"""Storage, C-STORE (PS3.4 Annex B, PS3.7 9.1.1), and the table from errors to DIMSE statuses.

As SCP a data set goes from the socket straight into the handler's `Incoming`, and success is
answered only when that says that it is durable. Nothing is coerced, so warnings B000 and B006 are
never answered. As SCU a data set's bytes are sent as they are given, never looked at.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.events import DataSink
from harmoni.dicom.presentation import AcceptedContext
from harmoni.dicom.status import Status
from harmoni.model.errors import (
    AlreadyHeld,
    Busy,
    Damaged,
    HarmoniError,
    InvalidInput,
    NotHeld,
    OutOfResources,
    Refused,
    StorageFailed,
    Unreachable,
)
from harmoni.net.driver import AssociationEnded, Channel, Ending, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange
from harmoni.services.exchange import Operation, Outcome

Buffer = bytes | bytearray | memoryview

# The first class that fits counts. Every service answers from this table; what a status is called
# differs between them (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, PS3.7 Annex C), its number does not.
_STATUS_OF_ERROR: Final[tuple[tuple[type[HarmoniError], Status], ...]] = (
    (OutOfResources, Status.OUT_OF_RESOURCES),
    (Busy, Status.OUT_OF_RESOURCES),
    (StorageFailed, Status.OUT_OF_RESOURCES),
    (Unreachable, Status.UNABLE_TO_PROCESS),
    (InvalidInput, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS),
    (Damaged, Status.UNABLE_TO_PROCESS),
    (NotHeld, Status.NO_SUCH_SOP_INSTANCE),
    (AlreadyHeld, Status.DUPLICATE_TRANSACTION_UID),
    (Refused, Status.NOT_AUTHORIZED),
    (HarmoniError, Status.PROCESSING_FAILURE),
)


def status_of(error: HarmoniError) -> Status:
    """The status by which an error is answered."""
    return next(number for kind, number in _STATUS_OF_ERROR if isinstance(error, kind))


def comment_of(error: HarmoniError) -> str:
    """Error Comment (0000,0902) for an error: its code and kind, which tell nothing of patients."""
    return f"{error.code} {type(error).__name__}"


class Incoming(DataSink, Protocol):
    """An instance on its way in. Exactly one of `finish` and `abandon` is called, once."""

    def finish(self) -> None:
        """Keep it: the data set is complete. Returns only when it is durable.

        Raises:
            InvalidInput: its UIDs are not those of the command, or are missing.
            HarmoniError: it was not kept; nothing of it remains.
        """
        ...

    def abandon(self) -> None:
        """Forget it: the association ended in the middle, or the data set could not be taken."""
        ...


class StoreHandler(Protocol):
    """What an association may do to keep instances: made for one hospital and one peer."""

    def begin(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Incoming:
        """Prepare for an instance, before its data set is read.

        Raises:
            HarmoniError: it cannot be kept; the data set is read and dropped.
        """
        ...


class Outgoing(Protocol):
    """A held instance that can be sent: the answer of a retrieval's plan."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        ...

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        ...

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax in which it is held, the only one in which it is sent."""
        ...

    @property
    def size_bytes(self) -> int:
        """Size of its data set in bytes."""
        ...

    def open(self) -> Iterator[Buffer]:
        """Give the data set in chunks of any size, which stay valid while it is being sent.

        Raises:
            Damaged: the bytes are not what was stored; at the latest in place of the last chunk.
            HarmoniError: they cannot be read.
        """
        ...


class Interrupted(AssociationEnded):
    """We aborted, because a data set could not be read to its end while it was being sent.

    Its cause is the error of whoever gave the data set.
    """

    code = "HZ-1007"


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked by C-MOVE for this C-STORE (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


class _Counted:
    """The handler's sink, and how many bytes went there."""

    def __init__(self, incoming: Incoming) -> None:
        self.reserve = incoming.reserve
        self.size_bytes = 0
        self._commit = incoming.commit

    def commit(self, count: int) -> None:
        """Pass on how much was written."""
        self.size_bytes += count
        self._commit(count)


def serve_store(channel: Channel, message: Message, handler: StoreHandler) -> Outcome:
    """Take one instance in and answer it (PS3.7 9.1.1).

    The data set is read to its end whatever is wrong with the command, and then answered once.
    A command whose class is not its context's abstract syntax is answered 0122, one without
    instance UID or data set A900.

    Raises:
        AssociationEnded: the connection was lost in the middle; the instance was abandoned.
    """
    command = message.command
    operation = Operation(channel, message)
    number, comment, received_bytes = int(Status.SUCCESS), "", 0
    try:
        received_bytes = _receive(channel, message, handler)
    except HarmoniError as error:
        if channel.ended is not None:
            raise
        number, comment = _status_of_store(error), comment_of(error)
    operation.respond(number, error_comment=comment or None)
    return Outcome(
        operation=CommandField.C_STORE_RQ,
        sop_class_uid=command.affected_sop_class_uid or message.context.abstract_syntax,
        status=number,
        why=comment,
        received_bytes=received_bytes,
    )


def _receive(channel: Channel, message: Message, handler: StoreHandler) -> int:
    """Take the data set to where it is durable; give its size in bytes."""
    try:
        incoming = _begin(message, handler)
    except HarmoniError:
        if message.command.has_data_set:
            channel.discard_data_set()
        raise
    sink = _Counted(incoming)
    try:
        # An error of the sink comes out when the peer has sent everything.
        channel.receive_data_set(sink)
    except BaseException:
        incoming.abandon()
        raise
    incoming.finish()
    return sink.size_bytes


class _WrongClass(InvalidInput):
    """The command names another SOP class than its presentation context stands for."""


def _status_of_store(error: HarmoniError) -> int:
    if isinstance(error, _WrongClass):
        return Status.SOP_CLASS_NOT_SUPPORTED
    return status_of(error)


def _begin(message: Message, handler: StoreHandler) -> Incoming:
    command = message.command
    if command.affected_sop_class_uid != message.context.abstract_syntax:
        raise _WrongClass("C-STORE-RQ of another class than its context's abstract syntax")
    if not command.affected_sop_instance_uid or not command.has_data_set:
        raise InvalidInput("C-STORE-RQ without Affected SOP Instance UID or without data set")
    return handler.begin(
        sop_class_uid=command.affected_sop_class_uid,
        sop_instance_uid=command.affected_sop_instance_uid,
        transfer_syntax_uid=message.context.transfer_syntax,
    )


def find_context(
    channel: Channel, sop_class_uid: str, transfer_syntax_uid: str
) -> AcceptedContext | None:
    """The context on which we may send instances of exactly this class and syntax, or None."""
    for context in channel.contexts.values():
        if (
            context.as_scu
            and context.abstract_syntax == sop_class_uid
            and context.transfer_syntax == transfer_syntax_uid
        ):
            return context
    return None


def store(
    channel: Channel,
    context: AcceptedContext,
    *,
    sop_instance_uid: str,
    data_set: Iterable[Buffer],
    message_id: int,
    originator: MoveOriginator | None = None,
    priority: int = Priority.MEDIUM,
    timeout_s: float = 600.0,
    clock: Clock = exchange.SYSTEM_CLOCK,
    on_other: Callable[[Message], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Command:
    """Send one instance, its bytes as they are given, and wait for the answer.

    Args:
        channel: the association.
        context: names SOP class and transfer syntax; see `find_context`.
        sop_instance_uid: Affected SOP Instance UID.
        data_set: the data set in chunks, which are not copied.
        message_id: 1 to 65,535, not one that is outstanding on this association.
        originator: of the C-MOVE that this is a sub-operation of.
        priority: (0000,0700).
        timeout_s: how long the peer may take to answer.
        clock: measures the time.
        on_other: takes other messages while the answer is awaited, as `exchange.await_response`.
        on_tick: called while the answer is awaited, likewise.

    Returns:
        The C-STORE-RSP; its status says whether the peer has the instance.

    Raises:
        AssociationEnded: the peer has gone, or did not answer in time.
        Interrupted: `data_set` failed in the middle; the association is aborted, so that the peer
            never has a whole wrong object.
        HarmoniError: `data_set` failed before anything was sent; the association stands.
    """
    request = Command(
        field=CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=context.abstract_syntax,
        affected_sop_instance_uid=sop_instance_uid,
        priority=priority,
        move_originator_ae_title=None if originator is None else originator.ae_title,
        move_originator_message_id=None if originator is None else originator.message_id,
    )
    try:
        channel.send(context, request, data_set)
    except AssociationEnded:
        raise
    except HarmoniError as error:
        if channel.ended is None:
            raise
        why = f"we aborted: {type(error).__name__} in the middle of an instance"
        raise Interrupted(Ending.ABORTED, why) from error
    answer = exchange.await_response(
        channel, request, timeout_s=timeout_s, clock=clock, on_other=on_other, on_tick=on_tick
    )
    return answer.command
