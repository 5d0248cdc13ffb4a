"""Requests and responses on a channel: what all services have in common (PS3.7 7, 9, 10).

One operation runs at a time on an association, storage within a granted window apart. While it runs
the peer may send nothing but what belongs to it: responses, and C-CANCEL-RQ. Anything else breaks
the protocol.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final, Never

from harmoni.dicom import dimse, status
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.identifier import MAX_IDENTIFIER_BYTES
from harmoni.dicom.presentation import AcceptedContext
from harmoni.dicom.status import Category
from harmoni.model.errors import Refused
from harmoni.net.driver import AssociationEnded, Channel, Ending, Message
from harmoni.runtime.clock import Clock, SystemClock

TICK_S: Final = 1.0
"""How often a wait looks up: for pending responses to send, for reports to send."""

SYSTEM_CLOCK: Final[Clock] = SystemClock()

MAX_MESSAGE_ID: Final = 0xFFFF
"""(0000,0110) is 16 bits wide (PS3.7 E.1)."""

_RESPONSE_BIT: Final = 0x8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one operation went, for the log, the metrics and the audit trail.

    It holds no patient data: texts of errors stay with the handler that raised them.
    """

    operation: CommandField
    sop_class_uid: str
    status: int
    why: str = ""
    """Code and kind of the error behind a failure, such as "HZ-1002 OutOfResources", or ""."""
    received_bytes: int = 0
    sent_bytes: int = 0
    answers: int = 0
    """Matches of a C-FIND, references of a storage commitment."""
    completed: int = 0
    failed: int = 0
    warning: int = 0
    """Sub-operations of a C-MOVE or C-GET."""
    not_accepted: tuple[tuple[str, str], ...] = ()
    """SOP class and transfer syntax that the receiver of a retrieval did not accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of sub-operations as a response says them; None leaves one out (PS3.7 9.1.3.1)."""

    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None


_NO_COUNTS: Final = Counts()


class Operation:
    """A request that is being served: answers it, and notices when the peer cancels it.

    Args:
        channel: the association.
        request: the request; its data set has been received, or will be before anything is sent.
    """

    def __init__(self, channel: Channel, request: Message) -> None:
        self.channel = channel
        self.request = request
        self.cancelled = False

    def respond(
        self,
        number: int,
        *,
        data_set: bytes | None = None,
        error_comment: str | None = None,
        counts: Counts | None = None,
    ) -> None:
        """Send a response on the context of the request.

        Args:
            number: the status, see `harmoni.dicom.status`.
            data_set: an identifier, encoded in the transfer syntax of that context.
            error_comment: for a failure; no patient data.
            counts: of the sub-operations, in responses to C-MOVE and C-GET.
        """
        counts = counts or _NO_COUNTS
        response = dimse.response(
            self.request.command,
            number,
            has_data_set=data_set is not None,
            error_comment=error_comment,
            number_of_remaining_suboperations=counts.remaining,
            number_of_completed_suboperations=counts.completed,
            number_of_failed_suboperations=counts.failed,
            number_of_warning_suboperations=counts.warning,
        )
        chunks = None if data_set is None else (data_set,)
        self.channel.send(self.request.context, response, chunks)

    def look(self) -> None:
        """Take in what the peer has sent meanwhile, without waiting; sets `cancelled`.

        Raises:
            AssociationEnded: the peer has gone, or sent something else than C-CANCEL-RQ.
        """
        while self.channel.poll():
            message = self.channel.receive(0)
            if message is None:
                return
            self.take(message)

    def take(self, message: Message) -> None:
        """Take in a message that arrived during the operation (PS3.7 9.3.2.3)."""
        if message.command.field != CommandField.C_CANCEL_RQ:
            break_off(self.channel, f"{message.command.field.name} during another operation")
        if message.command.message_id_responded_to == self.request.command.message_id:
            self.cancelled = True


def next_message_id(last: int, outstanding: Container[int]) -> int:
    """The message id after `last`, 1 to 65,535 in a circle, that is not outstanding.

    Args:
        last: the id given out before, 0 at first.
        outstanding: ids whose operations are not answered yet, not all there are.
    """
    number = last % MAX_MESSAGE_ID + 1
    while number in outstanding:
        number = number % MAX_MESSAGE_ID + 1
    return number


def await_message(
    channel: Channel,
    asked: CommandField,
    *,
    timeout_s: float,
    clock: Clock = SYSTEM_CLOCK,
    on_tick: Callable[[], None] | None = None,
) -> Message:
    """Wait for the next message, whatever it is.

    Args:
        channel: the association.
        asked: the request whose answer is awaited, for the error's text.
        timeout_s: how long the peer may be silent.
        clock: measures the time.
        on_tick: called at least every `TICK_S` of waiting.

    Raises:
        AssociationEnded: the peer has gone; or we aborted, because it was silent for so long.
    """
    deadline_s = clock.monotonic_s() + timeout_s
    while True:
        left_s = deadline_s - clock.monotonic_s()
        if left_s <= 0:
            channel.abort()
            why = f"no response to {asked.name} for {timeout_s:g} s"
            raise AssociationEnded(Ending.TIMEOUT, why)
        message = channel.receive(min(left_s, TICK_S))
        if message is not None:
            return message
        if on_tick is not None:
            on_tick()


def await_response(
    channel: Channel,
    request: Command,
    *,
    timeout_s: float,
    clock: Clock = SYSTEM_CLOCK,
    on_other: Callable[[Message], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Message:
    """Wait for the response to a request that was sent.

    Args:
        channel: the association.
        request: what was sent.
        timeout_s: how long the peer may be silent.
        clock: measures the time.
        on_other: takes any other message; without it such a message breaks the protocol.
        on_tick: called at least every `TICK_S` of waiting.

    Returns:
        The response. When it has a data set the caller must receive it.

    Raises:
        AssociationEnded: the peer has gone; or we aborted, because it was silent for so long or
            sent another message.
    """
    expected = request.field | _RESPONSE_BIT
    while True:
        message = await_message(
            channel, request.field, timeout_s=timeout_s, clock=clock, on_tick=on_tick
        )
        command = message.command
        if command.field == expected and command.message_id_responded_to == request.message_id:
            return message
        if on_other is None:
            break_off(
                channel, f"{command.field.name} while waiting for {request.field.name}'s answer"
            )
        on_other(message)
        if on_tick is not None:
            on_tick()


def context_for(channel: Channel, abstract_syntax: str) -> AcceptedContext:
    """The first context on which we may use a service as SCU.

    Raises:
        Refused: the peer accepted none.
    """
    for context in channel.contexts.values():
        if context.as_scu and context.abstract_syntax == abstract_syntax:
            return context
    raise Refused(
        f"the peer accepted no presentation context for {abstract_syntax}: propose it, or have the"
        " peer's rights extended"
    )


def cancel(channel: Channel, context: AcceptedContext, request: Command) -> None:
    """Ask the peer to stop a C-FIND, C-MOVE or C-GET; its final response still comes."""
    command = Command(field=CommandField.C_CANCEL_RQ, message_id_responded_to=request.message_id)
    channel.send(context, command)


def is_pending(response: Command) -> bool:
    """Whether more responses follow this one."""
    return status.category(status_in(response)) is Category.PENDING


def status_in(response: Command) -> int:
    """The status of a response, which `dimse.decode_command` has made sure of."""
    assert response.status is not None
    return response.status


def receive_identifier(
    channel: Channel, message: Message, *, limit_bytes: int = MAX_IDENTIFIER_BYTES
) -> bytes:
    """Read the data set of a message into memory, or give b"" when it has none.

    Raises:
        InvalidInput: it is longer than `limit_bytes`; it was thrown away.
        AssociationEnded: it never became complete.
    """
    return channel.receive_bytes(limit_bytes) if message.command.has_data_set else b""


def break_off(channel: Channel, why: str) -> Never:
    """Abort the association because the peer broke the protocol.

    Raises:
        AssociationEnded: always, saying why.
    """
    channel.abort()
    raise AssociationEnded(Ending.ABORTED, f"we aborted: the peer sent {why}")
