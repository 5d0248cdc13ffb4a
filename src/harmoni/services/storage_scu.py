"""Storage as its user (SCU): C-STORE of held instances, their bytes as they are (PS3.7 9.1.1).

An instance is sent in the transfer syntax in which it is held, or not at all. `store` sends one and
waits for its answer; `send` sends many, as many at a time as the peer has granted (PS3.7 D.3.3.3).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.items import AsynchronousOperationsWindow
from harmoni.dicom.pdu import MAX_CONTEXTS, ProposedContext
from harmoni.dicom.presentation import AcceptedContext
from harmoni.model.errors import HarmoniError, NotAccepted
from harmoni.net.driver import AssociationEnded, Channel, Ending, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange

Buffer = bytes | bytearray | memoryview

MAX_OUTSTANDING: Final = 16
"""How many instances `send` leaves unanswered at most, whatever window was granted."""


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

    def wait(self, timeout_s: float) -> bool:
        """Wait until it can be opened, if it has to come from elsewhere first.

        Returns:
            Whether `open` can be called now: it gives the data set, or raises why it will not come.
        """
        ...

    def open(self) -> Iterator[Buffer]:
        """Give the data set in chunks of any size, which stay valid while it is being sent.

        Raises:
            Damaged: the bytes are not what was stored; at the latest in place of the last chunk.
            HarmoniError: they cannot be read.
        """
        ...


_Outgoing = TypeVar("_Outgoing", bound=Outgoing)


class Interrupted(AssociationEnded):
    """We aborted, because a data set could not be read to its end while it was being sent.

    Args:
        fault: the error of whoever gave the data set; it decides whether that instance may be
            tried again.

    Attributes:
        fault: likewise.
        outgoing: the instance that broke; None where `store` was given only its data set.
    """

    code = "HZ-1007"

    def __init__(self, fault: HarmoniError) -> None:
        why = f"we aborted: {type(fault).__name__} in the middle of an instance"
        super().__init__(Ending.ABORTED, why)
        self.fault = fault
        self.outgoing: Outgoing | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one instance; either the peer has answered it, or it never left."""

    outgoing: Outgoing
    status: int | None = None
    """Of the C-STORE-RSP; see `harmoni.dicom.status`."""
    error: HarmoniError | None = None
    """Why nothing of it was sent: `NotAccepted`, or what `Outgoing.open` raised."""


@dataclass(frozen=True, slots=True)
class MoveOriginator:
    """Who asked by C-MOVE for this C-STORE (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


def batches(
    plan: Sequence[_Outgoing],
) -> Iterator[tuple[tuple[ProposedContext, ...], list[_Outgoing]]]:
    """Cut a plan into what fits into one association each, order kept within each.

    Yields:
        Presentation contexts, one per pair of class and transfer syntax, at most 128; and the
        instances that need them.
    """
    pairs = list(dict.fromkeys(_pair(outgoing) for outgoing in plan))
    for start in range(0, len(pairs), MAX_CONTEXTS):
        chosen = pairs[start : start + MAX_CONTEXTS]
        wanted = frozenset(chosen)
        yield contexts_of(chosen), [outgoing for outgoing in plan if _pair(outgoing) in wanted]


def contexts_of(pairs: Iterable[tuple[str, str]]) -> tuple[ProposedContext, ...]:
    """One presentation context for each pair of SOP class and transfer syntax; ids 1, 3, 5."""
    return tuple(
        ProposedContext(2 * number + 1, sop_class, (syntax,))
        for number, (sop_class, syntax) in enumerate(pairs)
    )


def _pair(outgoing: Outgoing) -> tuple[str, str]:
    return outgoing.sop_class_uid, outgoing.transfer_syntax_uid


def find_context(
    channel: Channel, sop_class_uid: str, transfer_syntax_uid: str
) -> AcceptedContext | None:
    """The context on which we may send an instance of exactly this class and syntax, or None."""
    wanted = (sop_class_uid, transfer_syntax_uid)
    for context in channel.contexts.values():
        if context.as_scu and wanted == (context.abstract_syntax, context.transfer_syntax):
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
    request = _request(
        context, sop_instance_uid, message_id, originator=originator, priority=priority
    )
    _transmit(channel, context, request, data_set)
    answer = exchange.await_response(
        channel, request, timeout_s=timeout_s, clock=clock, on_other=on_other, on_tick=on_tick
    )
    return answer.command


def send(
    channel: Channel,
    plan: Sequence[Outgoing],
    *,
    clock: Clock = exchange.SYSTEM_CLOCK,
    timeout_s: float = 600.0,
) -> Iterator[Sent]:
    """Send many instances, with as many unanswered at a time as the peer has granted us.

    We are the requestor, and nothing else runs on the association meanwhile. Whoever stops
    iterating early leaves answers outstanding, and must abort.

    Args:
        channel: the association; its contexts are those of one of the `batches`.
        plan: what is sent, in this order.
        clock: measures the time.
        timeout_s: how long the peer may give no answer while we wait for one.

    Yields:
        One outcome per instance, as soon as it is known: in any order, since the peer may answer
        in any. An instance that cannot be sent does not keep the others from it.

    Raises:
        AssociationEnded: the peer has gone, broke the protocol, or did not answer in time. What
            was not yielded is not settled, whether or not the peer has it: send it again.
        Interrupted: the data set of its `outgoing` failed in the middle, likewise.
    """
    pipeline = _Pipeline(channel, clock, timeout_s)
    for outgoing in plan:
        while pipeline.is_full:
            yield pipeline.await_answer()
        # The association may be known to be over by now, with answers before its end.
        while (sent := pipeline.take_answer()) is not None:
            yield sent
        try:
            pipeline.begin(outgoing)
        except AssociationEnded:
            raise
        except HarmoniError as error:
            yield Sent(outgoing, error=error)
    while pipeline.outstanding:
        yield pipeline.await_answer()


class _Pipeline:
    """Instances that were sent and not answered yet, by message id."""

    def __init__(self, channel: Channel, clock: Clock, timeout_s: float) -> None:
        self.outstanding: dict[int, Outgoing] = {}
        self._channel = channel
        self._clock = clock
        self._timeout_s = timeout_s
        self._window = _granted_window(channel)
        self._last_id = 0

    @property
    def is_full(self) -> bool:
        """Whether an answer must come before anything else may be sent."""
        return len(self.outstanding) >= self._window

    def begin(self, outgoing: Outgoing) -> None:
        """Send one instance.

        Raises:
            AssociationEnded: the peer has gone, or the data set failed in the middle.
            HarmoniError: nothing of it was sent; the association stands.
        """
        context = find_context(self._channel, outgoing.sop_class_uid, outgoing.transfer_syntax_uid)
        if context is None:
            raise NotAccepted(
                f"the peer accepted no context for {outgoing.sop_class_uid} in"
                f" {outgoing.transfer_syntax_uid}: have it accept that, then send it again"
            )
        message_id = exchange.next_message_id(self._last_id, self.outstanding)
        request = _request(context, outgoing.sop_instance_uid, message_id)
        try:
            _transmit(self._channel, context, request, outgoing.open())
        except Interrupted as interrupted:
            interrupted.outgoing = outgoing
            raise
        self._last_id = message_id
        self.outstanding[message_id] = outgoing

    def take_answer(self) -> Sent | None:
        """Give an answer that is there already, without waiting for one.

        Raises:
            AssociationEnded: the peer has gone, or sent something else.
        """
        message = self._channel.receive(0) if self._channel.poll() else None
        return None if message is None else self._settle(message)

    def await_answer(self) -> Sent:
        """Wait for an answer to anything that is outstanding.

        Raises:
            AssociationEnded: the peer has gone, sent something else, or did not answer in time.
        """
        return self._settle(
            exchange.await_message(
                self._channel,
                CommandField.C_STORE_RQ,
                timeout_s=self._timeout_s,
                clock=self._clock,
            )
        )

    def _settle(self, message: Message) -> Sent:
        command = message.command
        answered = None
        if command.field is CommandField.C_STORE_RSP:
            answered = self.outstanding.pop(command.message_id_responded_to or 0, None)
        if answered is None:
            exchange.break_off(self._channel, f"{command.field.name} that answers nothing")
        return Sent(answered, status=exchange.status_in(command))


def _granted_window(channel: Channel) -> int:
    """How many operations we may have outstanding as the requestor (PS3.7 D.3.3.3)."""
    # Both count: what was not proposed is not granted, whatever a peer answers.
    proposed = channel.request.user_information.window
    granted = channel.answer.user_information.window
    return min(_invoked(proposed), _invoked(granted))


def _invoked(window: AsynchronousOperationsWindow | None) -> int:
    if window is None:
        return 1
    return min(window.invoked or MAX_OUTSTANDING, MAX_OUTSTANDING)


def _request(
    context: AcceptedContext,
    sop_instance_uid: str,
    message_id: int,
    *,
    originator: MoveOriginator | None = None,
    priority: int = Priority.MEDIUM,
) -> Command:
    return Command(
        field=CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=context.abstract_syntax,
        affected_sop_instance_uid=sop_instance_uid,
        priority=priority,
        move_originator_ae_title=None if originator is None else originator.ae_title,
        move_originator_message_id=None if originator is None else originator.message_id,
    )


def _transmit(
    channel: Channel, context: AcceptedContext, request: Command, data_set: Iterable[Buffer]
) -> None:
    """Send a request with its data set.

    Raises:
        AssociationEnded: the peer has gone.
        Interrupted: `data_set` failed in the middle; the association is aborted.
        HarmoniError: `data_set` failed before anything was sent; the association stands.
    """
    try:
        channel.send(context, request, data_set)
    except AssociationEnded:
        raise
    except HarmoniError as error:
        if channel.ended is None:
            raise
        raise Interrupted(error) from error
