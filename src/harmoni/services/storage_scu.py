"""Storage as its user (SCU): C-STORE of held instances, their bytes as they are (PS3.7 9.1.1).

An instance is sent in the transfer syntax in which it is held, or not at all.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harmoni.dicom.dimse import Command, CommandField, Priority
from harmoni.dicom.pdu import MAX_CONTEXTS, ProposedContext
from harmoni.dicom.presentation import AcceptedContext
from harmoni.model.errors import HarmoniError
from harmoni.net.driver import AssociationEnded, Channel, Ending, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange

Buffer = bytes | bytearray | memoryview


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


def batches(
    plan: Sequence[Outgoing],
) -> Iterator[tuple[tuple[ProposedContext, ...], list[Outgoing]]]:
    """Cut a plan into what fits into one association each, order kept within each.

    Yields:
        Presentation contexts, one per pair of class and transfer syntax, at most 128; and the
        instances that need them.
    """
    pairs = list(dict.fromkeys(_pair(outgoing) for outgoing in plan))
    for start in range(0, len(pairs), MAX_CONTEXTS):
        chosen = pairs[start : start + MAX_CONTEXTS]
        contexts = tuple(
            ProposedContext(2 * number + 1, sop_class, (syntax,))
            for number, (sop_class, syntax) in enumerate(chosen)
        )
        wanted = frozenset(chosen)
        yield contexts, [outgoing for outgoing in plan if _pair(outgoing) in wanted]


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
