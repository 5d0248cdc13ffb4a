"""Storage, C-STORE (PS3.4 Annex B, PS3.7 9.1.1), and the table from errors to DIMSE statuses.

A data set goes from the socket straight into the handler's `Incoming`, and success is
answered only when that says that it is durable. Nothing is coerced, so warnings B000 and B006 are
never answered. The sender's side is in services/storage_scu.py.
"""

from typing import Final, Protocol

from harmoni.dicom.dimse import CommandField
from harmoni.dicom.events import DataSink
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
from harmoni.net.driver import Channel, Message
from harmoni.services.exchange import Operation, Outcome

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
