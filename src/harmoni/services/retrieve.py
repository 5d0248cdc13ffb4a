"""What C-GET and C-MOVE have in common (PS3.4 C.4.2, C.4.3): planning, counting, reporting.

A held instance is sent in the transfer syntax in which it is held, or not at all: a receiver that
did not accept that gets a failed sub-operation, never a converted object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from harmoni.dicom import identifier, status
from harmoni.dicom.dimse import Command
from harmoni.dicom.identifier import Query, QueryRoot
from harmoni.dicom.status import Category, Status
from harmoni.model.errors import HarmoniError, Unreachable
from harmoni.net.driver import Channel, Message
from harmoni.policy.access import Peer
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, storage
from harmoni.services.exchange import Counts, Operation, Outcome
from harmoni.services.storage_scu import Outgoing

MAX_SUB_OPERATIONS: Final = 0xFFFF
"""Their counters are 16 bits wide (PS3.7 E.1)."""

PENDING_INTERVAL_S: Final = 2.0
"""How often a pending response says how far a retrieval has come; some requesters give up after 5 s
of silence."""

DESTINATION_UNREACHABLE: Final = "destination unreachable"
"""Error comment where the destination of a C-MOVE does not take an association."""

ARCHIVE_UNREACHABLE: Final = "archive unreachable"
"""Error comment where something lies at a place that does not answer."""

OnPending = Callable[[Command], bool]
"""Called by a requester for each pending response; False cancels the retrieval."""


class PlanHandler(Protocol):
    """What an association may do to find what to send: made for one hospital and one peer."""

    def plan(self, query: Query, destination: Peer | None = None) -> Sequence[Outgoing]:
        """Give what a retrieval's identifier names: one instance per SOP Instance UID.

        Args:
            query: its unique keys were checked.
            destination: where it goes; None: to the peer itself.

        Nothing held is an empty plan. Another hospital's instances do not exist.

        Raises:
            HarmoniError: the question cannot be answered.
        """
        ...


class Progress:
    """Counts the sub-operations of one retrieval and tells its requester.

    Args:
        operation: the retrieval.
        plan: what is to be sent.
        clock: says when the next pending response is due.
    """

    def __init__(self, operation: Operation, plan: Sequence[Outgoing], clock: Clock) -> None:
        self._operation = operation
        self._clock = clock
        self._remaining = len(plan)
        self._completed = 0
        self._warning = 0
        self._sent_bytes = 0
        self._failed: list[str] = []
        self._not_accepted: dict[tuple[str, str], None] = {}
        self._due_s = clock.monotonic_s()
        self._away = False
        self._why = ""

    def record(self, outgoing: Outgoing, store_status: int) -> None:
        """Count a sub-operation by the status that its receiver answered."""
        self._remaining -= 1
        match status.category(store_status):
            case Category.SUCCESS:
                self._completed += 1
            case Category.WARNING:
                self._warning += 1
            case _:
                self._failed.append(outgoing.sop_instance_uid)
                return
        self._sent_bytes += outgoing.size_bytes

    def fail(self, outgoing: Outgoing, error: HarmoniError | None = None) -> None:
        """Count a sub-operation that could not be tried, or not to its end.

        Args:
            outgoing: the instance.
            error: why, where it is the instance that could not be had.
        """
        self._remaining -= 1
        self._away = self._away or isinstance(error, Unreachable)
        self._failed.append(outgoing.sop_instance_uid)

    def explain(self, why: str) -> None:
        """Say why sub-operations fail, in the final response and in the log; no patient data."""
        self._why = why

    def fail_unaccepted(self, outgoing: Outgoing) -> None:
        """Count a sub-operation whose class and syntax the receiver did not accept."""
        self.fail(outgoing)
        self._not_accepted[outgoing.sop_class_uid, outgoing.transfer_syntax_uid] = None

    def tick(self) -> None:
        """Send a pending response if one is due. Not in the middle of another message."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            self._due_s = now_s + PENDING_INTERVAL_S
            self._operation.respond(Status.PENDING, counts=self._counts(remaining=self._remaining))

    def finish(self) -> Outcome:
        """Send the final response (PS3.4 C.4.2.1.5, C.4.3.1.4); say how it went.

        FE00 when cancelled, 0000 when everything was taken (or nothing is held), A702 when nothing
        was, else B000. The UIDs that failed go along, as many as one element holds.
        """
        operation = self._operation
        remaining = None
        if operation.cancelled and self._remaining:
            number, remaining = int(Status.CANCEL), self._remaining
        elif not self._failed and not self._warning:
            number = int(Status.SUCCESS)
        elif not self._completed and not self._warning:
            number = int(Status.UNABLE_TO_PERFORM_SUBOPERATIONS)
        else:
            number = int(Status.SUBOPERATIONS_WITH_FAILURES)
        context = operation.request.context
        failed_list = None
        if self._failed:
            failed_list = identifier.encode_failed_list(self._failed, context.transfer_syntax)
        comment = None
        if self._failed:
            comment = ARCHIVE_UNREACHABLE if self._away else self._why or None
        operation.respond(
            number,
            data_set=failed_list,
            error_comment=comment,
            counts=self._counts(remaining=remaining),
        )
        return Outcome(
            operation=operation.request.command.field,
            sop_class_uid=context.abstract_syntax,
            status=number,
            why=comment or "",
            sent_bytes=self._sent_bytes,
            completed=self._completed,
            failed=len(self._failed),
            warning=self._warning,
            not_accepted=tuple(self._not_accepted),
        )

    def _counts(self, *, remaining: int | None) -> Counts:
        return Counts(
            remaining=remaining,
            completed=self._completed,
            failed=len(self._failed),
            warning=self._warning,
        )


def parse(channel: Channel, message: Message, root: QueryRoot) -> Query:
    """Read the identifier of a retrieval.

    Raises:
        InvalidInput: it breaks the rules of its class. Answer A900.
    """
    data = exchange.receive_identifier(channel, message)
    query = identifier.parse_query(data, message.context.transfer_syntax, root)
    identifier.check_unique_keys(query, retrieve=True)
    return query


def await_arrival(operation: Operation, outgoing: Outgoing, progress: Progress) -> bool:
    """Wait until an instance can be opened, telling the requester meanwhile how far we are.

    Returns:
        False when the requester has cancelled.

    Raises:
        AssociationEnded: the requester has gone.
    """
    while not outgoing.wait(exchange.TICK_S):
        operation.look()
        if operation.cancelled:
            return False
        progress.tick()
    return True


def refuse(operation: Operation, number: int, why: str) -> Outcome:
    """Send a final response before the first sub-operation."""
    operation.respond(number, error_comment=why or None)
    return Outcome(
        operation=operation.request.command.field,
        sop_class_uid=operation.request.context.abstract_syntax,
        status=number,
        why=why,
    )


def refuse_error(operation: Operation, error: HarmoniError) -> Outcome:
    """Send a final response for an error of the handler or of the identifier.

    Where what was asked for may lie at a place that cannot be reached, the answer is A702: nobody
    must take it for "there is nothing".
    """
    if isinstance(error, Unreachable):
        return refuse(operation, Status.UNABLE_TO_PERFORM_SUBOPERATIONS, ARCHIVE_UNREACHABLE)
    return refuse(operation, storage.status_of(error), storage.comment_of(error))


def refuse_size(operation: Operation, plan: Sequence[Outgoing]) -> Outcome | None:
    """Refuse a plan with more sub-operations than the counters can say; None: it is not."""
    if len(plan) <= MAX_SUB_OPERATIONS:
        return None
    return refuse(
        operation, Status.UNABLE_TO_CALCULATE_MATCHES, f"more than {MAX_SUB_OPERATIONS} instances"
    )


def sub_operation_id(number: int) -> int:
    """The message id of the n-th sub-operation, counted from 0."""
    return number % MAX_SUB_OPERATIONS + 1


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """What a peer answered to a retrieval of ours."""

    final: Command
    """The last response, with status and counts."""
    failed_list: bytes
    """The identifier with (0008,0058), in `transfer_syntax`; b"" when there was none."""
    transfer_syntax: str
