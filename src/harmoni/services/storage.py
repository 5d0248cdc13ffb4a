"""Storage, C-STORE (PS3.4 Annex B, PS3.7 9.1.1), and the table from errors to DIMSE statuses.

As SCP a data set goes from the socket straight into the handler's `Incoming`, and success is
answered only when that says that it is durable. Nothing is coerced, so warnings B000 and B006 are
never answered. As SCU a data set's bytes are sent as they are given, never looked at.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from harmoni.dicom import status
from harmoni.dicom.association import DataSink
from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.presentation import AcceptedContext
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
    Transient,
    Unreachable,
)
from harmoni.net.driver import AssociationEnded, Channel, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange
from harmoni.services.exchange import Operation, Outcome

Buffer = bytes | bytearray | memoryview

# The first class that fits counts. Every service answers from this table; what a status is called
# differs between them (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, PS3.7 Annex C), its number does not.
_STATUS_OF_ERROR: Final[tuple[tuple[type[HarmoniError], int], ...]] = (
    (OutOfResources, 0xA700),  # out of resources
    (Busy, 0xA700),
    (StorageFailed, 0xA700),
    (Unreachable, 0xC001),  # unable to process: what is needed is away
    (InvalidInput, 0xA900),  # data set or identifier does not match SOP class
    (Damaged, 0xC002),  # unable to process: stored bytes are damaged
    (NotHeld, 0x0112),  # no such SOP instance
    (AlreadyHeld, 0x0131),  # duplicate transaction UID
    (Refused, 0x0124),  # refused: not authorized
    (HarmoniError, 0x0110),  # processing failure
)


def status_of(error: HarmoniError) -> int:
    """The status by which an error is answered."""
    return next(number for kind, number in _STATUS_OF_ERROR if isinstance(error, kind))


def comment_of(error: HarmoniError) -> str:
    """Error Comment (0000,0902) for an error: its code and kind, which tell nothing of patients."""
    return f"{error.code} {type(error).__name__}"


_DISCARD_BYTES: Final = 1 << 16


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


class Interrupted(Transient):
    """A data set could not be read to its end while it was sent; the association was aborted.

    Its cause is the error of whoever gave the data set.
    """

    code = "HZ-1005"


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked by C-MOVE for this C-STORE (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


class Discard:
    """A sink for a data set that nobody wants: the peer sends it to its end in any case."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(_DISCARD_BYTES))

    def reserve(self, wanted: int) -> memoryview:
        """Give memory that is overwritten again and again."""
        return self._memory[:wanted]

    def commit(self, count: int) -> None:
        """Forget them."""


class _Guarded:
    """A sink that fails once and discards the rest, so that the association outlives the error.

    The peer must send its data set to the end in any case; the error is answered after that.
    """

    def __init__(self, incoming: Incoming | None) -> None:
        self._incoming = incoming
        self._sink: DataSink = Discard() if incoming is None else incoming
        self.error: HarmoniError | None = None
        self.size_bytes = 0

    def reserve(self, wanted: int) -> memoryview:
        """Give the handler's own memory, or, once it has failed, memory that is overwritten."""
        try:
            return self._sink.reserve(wanted)
        except HarmoniError as error:
            self._fail(error)
            return self._sink.reserve(wanted)

    def commit(self, count: int) -> None:
        """Pass on how much was written."""
        self.size_bytes += count
        try:
            self._sink.commit(count)
        except HarmoniError as error:
            self._fail(error)

    def _fail(self, error: HarmoniError) -> None:
        self.error = error
        self._sink = Discard()
        self.abandon()

    def finish(self) -> None:
        """Keep what came; raises what went wrong on the way."""
        incoming, self._incoming = self._incoming, None
        if self.error is not None:
            raise self.error
        if incoming is not None:
            incoming.finish()

    def abandon(self) -> None:
        """Forget what came."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abandon()


def serve_store(channel: Channel, message: Message, handler: StoreHandler) -> Outcome:
    """Take one instance in and answer it (PS3.7 9.1.1).

    The data set is read to its end whatever is wrong with the command, and then answered once.
    A command whose class is not its context's abstract syntax is answered 0122, one without
    instance UID or data set A900.

    Raises:
        AssociationEnded: the connection was lost in the middle; the instance was abandoned.
    """
    command = message.command
    sink = _Guarded(None)
    try:
        sink = _Guarded(_begin(message, handler))
    except HarmoniError as error:
        sink.error = error
    try:
        if command.has_data_set:
            channel.receive_data_set(sink)
    except BaseException:
        sink.abandon()
        raise
    number, error_comment = status.SUCCESS, ""
    try:
        sink.finish()
    except HarmoniError as error:
        number, error_comment = _status_of_store(error), comment_of(error)
    operation = Operation(channel, message)
    if error_comment:
        operation.respond(number, error_comment=error_comment)
    else:
        operation.respond(number)
    return Outcome(
        operation=CommandField.C_STORE_RQ,
        sop_class_uid=command.affected_sop_class_uid or message.context.abstract_syntax,
        status=number,
        why=error_comment,
        received_bytes=sink.size_bytes,
    )


class _WrongClass(InvalidInput):
    """The command names another SOP class than its presentation context stands for."""


def _status_of_store(error: HarmoniError) -> int:
    return status.SOP_CLASS_NOT_SUPPORTED if isinstance(error, _WrongClass) else status_of(error)


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
        data_set: the data set in chunks. The first is asked for before anything is sent.
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
        AssociationEnded: the peer has gone.
        NoResponse: no answer in time; the association is aborted.
        Interrupted: `data_set` failed after its first chunk; the association is aborted, so that
            the peer never has a whole wrong object.
        HarmoniError: `data_set` failed for its first chunk; nothing was sent.
    """
    chunks = iter(data_set)
    first = next(chunks, b"")
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
        channel.send(context, request, chain((first,), chunks))
    except AssociationEnded:
        raise
    except HarmoniError as error:
        channel.abort()
        raise Interrupted(
            "an instance could not be read to its end while it was sent: association aborted"
        ) from error
    answer = exchange.await_response(
        channel, request, timeout_s=timeout_s, clock=clock, on_other=on_other, on_tick=on_tick
    )
    return answer.command
