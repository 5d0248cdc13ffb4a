"""Storage Commitment, push model (PS3.4 Annex J): requests in, reports out.

A request is durable before it is answered. A report goes out when it is ready, on whichever
association its requester has open with a context for this service, and is done with only when the
requester has answered it with success.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from harmoni.dicom import commitment_data, status, uids
from harmoni.dicom.commitment_data import MAX_COMMITMENT_BYTES, CommitmentReport, Reference
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.presentation import AcceptedContext
from harmoni.dicom.status import Category, Status
from harmoni.model.errors import (
    Busy,
    HarmoniError,
    InvalidInput,
    OutOfResources,
    StorageFailed,
)
from harmoni.net.driver import Channel, Message
from harmoni.runtime.clock import Clock
from harmoni.services import exchange, storage
from harmoni.services.exchange import Operation, Outcome

REQUEST_COMMITMENT: Final = 1
"""Action type of the one N-ACTION (PS3.4 J.3.2.1)."""
ALL_COMMITTED: Final = 1
"""Event type of a report without failures (PS3.4 J.3.3.1)."""
FAILURES_EXIST: Final = 2
"""Event type of a report with failures."""


Keep = Callable[[CommitmentReport], None]
"""Keeps a report that came; returns when that is durable."""


def _forget(_: CommitmentReport) -> None:
    """Nobody waits for a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of one transaction, every reference of it final."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[Reference, ...]
    """With their failure reasons."""


class CommitmentHandler(Protocol):
    """What an association may do about commitment: made for one hospital and one requester."""

    def request(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        """Accept a transaction; returns only when it is durable.

        The same transaction with the same content again changes nothing.

        Raises:
            AlreadyHeld: the Transaction UID is known with other content. Answered 0131.
            HarmoniError: it was not accepted; nothing of it remains.
        """
        ...

    def reports(self) -> Sequence[Report]:
        """Give the requester's reports that are ready and not answered yet, oldest first.

        It is asked about once a second on each association, so it must be quick. A report may go
        out on two associations at once; the requester tells them apart by Transaction UID.
        """
        ...

    def answered(self, report: Report) -> None:
        """Note that the requester has answered a report with success: it is done with."""
        ...


def serve_action(channel: Channel, message: Message, handler: CommitmentHandler) -> Outcome:
    """Accept a commitment request (N-ACTION-RQ, PS3.4 J.3.2)."""
    operation = Operation(channel, message)
    references: Sequence[Reference] = ()
    number, comment = int(Status.SUCCESS), ""
    try:
        data = exchange.receive_identifier(channel, message, limit_bytes=MAX_COMMITMENT_BYTES)
        number = _status_of_action(message.command)
        if number == Status.SUCCESS:
            transaction_uid, references = commitment_data.parse_commitment_request(
                data, message.context.transfer_syntax
            )
            handler.request(transaction_uid, references)
    except HarmoniError as error:
        if channel.ended is not None:
            raise
        number, comment = _status_of_error(error), storage.comment_of(error)
    operation.respond(number, error_comment=comment or None)
    return Outcome(
        operation=CommandField.N_ACTION_RQ,
        sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
        status=number,
        why=comment,
        answers=len(references),
    )


def _status_of_error(error: HarmoniError) -> int:
    if isinstance(error, InvalidInput):
        return Status.INVALID_ARGUMENT_VALUE  # an N-service's word for it (PS3.7 C.5.10)
    if isinstance(error, Busy | OutOfResources | StorageFailed):
        return Status.RESOURCE_LIMITATION  # likewise (PS3.7 C.5.27)
    return storage.status_of(error)


def _status_of_action(command: Command) -> int:
    if command.requested_sop_class_uid != uids.STORAGE_COMMITMENT_PUSH:
        return Status.NO_SUCH_SOP_CLASS
    if command.requested_sop_instance_uid != uids.STORAGE_COMMITMENT_PUSH_INSTANCE:
        return Status.NO_SUCH_SOP_INSTANCE
    if command.action_type_id != REQUEST_COMMITMENT:
        return Status.NO_SUCH_ACTION_TYPE
    return int(Status.SUCCESS)


class Reporter:
    """Sends the reports that are due on one association, one at a time (N-EVENT-REPORT-RQ).

    It does not wait for the answer: the requester may send requests of its own first. A report
    that the requester refuses is not repeated on this association; the next one tries again.

    Args:
        channel: the association.
        handler: knows the reports.
        retrieve_ae_title: the AE title from which what is committed can be retrieved, ours.
    """

    def __init__(
        self, channel: Channel, handler: CommitmentHandler, *, retrieve_ae_title: str
    ) -> None:
        self._channel = channel
        self._handler = handler
        self._retrieve_ae_title = retrieve_ae_title
        self._context = _reporting_context(channel)
        self._outstanding: Report | None = None
        self._message_id = 0
        self._tried: set[str] = set()

    @property
    def may_report(self) -> bool:
        """Whether the association has a context on which we report."""
        return self._context is not None

    @property
    def awaits_answer(self) -> bool:
        """Whether a report was sent that is not answered."""
        return self._outstanding is not None

    def tick(self) -> None:
        """Send the next report, if one is ready and none is unanswered."""
        if self._context is None or self._outstanding is not None:
            return
        for report in self._handler.reports():
            if report.transaction_uid not in self._tried:
                self._send(report, self._context)
                return

    def _send(self, report: Report, context: AcceptedContext) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        command = Command(
            field=CommandField.N_EVENT_REPORT_RQ,
            has_data_set=True,
            message_id=self._message_id,
            affected_sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
            affected_sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_INSTANCE,
            event_type_id=FAILURES_EXIST if report.failed else ALL_COMMITTED,
        )
        data = commitment_data.encode_commitment_report(
            report.transaction_uid,
            report.committed,
            report.failed,
            context.transfer_syntax,
            self._retrieve_ae_title,
        )
        self._tried.add(report.transaction_uid)
        self._outstanding = report
        self._channel.send(context, command, (data,))

    def answered(self, message: Message) -> Outcome:
        """Take an N-EVENT-REPORT-RSP, and send the next report at once.

        Raises:
            AssociationEnded: it answers nothing that was asked, and we aborted.
        """
        report = self._outstanding
        if report is None or message.command.message_id_responded_to != self._message_id:
            exchange.break_off(self._channel, "an N-EVENT-REPORT-RSP that answers nothing")
        exchange.receive_identifier(self._channel, message)
        self._outstanding = None
        number = exchange.status_in(message.command)
        if status.category(number) is Category.SUCCESS:
            self._handler.answered(report)
        self.tick()
        return Outcome(
            operation=CommandField.N_EVENT_REPORT_RQ,
            sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
            status=number,
            answers=len(report.committed) + len(report.failed),
        )


def _reporting_context(channel: Channel) -> AcceptedContext | None:
    """The context on which we, the SCP, may report."""
    for context in channel.contexts.values():
        if context.as_scp and context.abstract_syntax == uids.STORAGE_COMMITMENT_PUSH:
            return context
    return None


def request_commitment(
    channel: Channel,
    transaction_uid: str,
    references: Sequence[Reference],
    *,
    message_id: int = 1,
    timeout_s: float = 60.0,
    clock: Clock = exchange.SYSTEM_CLOCK,
    keep: Keep = _forget,
) -> Command:
    """Ask a peer to commit itself (N-ACTION-RQ); give its answer. The report comes later.

    Reports of earlier transactions may come before the answer; they go to `keep`.

    Raises:
        Refused: the peer accepted no context for the service.
        AssociationEnded: the peer has gone, or did not answer in time.
    """
    context = exchange.context_for(channel, uids.STORAGE_COMMITMENT_PUSH)
    request = Command(
        field=CommandField.N_ACTION_RQ,
        has_data_set=True,
        message_id=message_id,
        requested_sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
        requested_sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_INSTANCE,
        action_type_id=REQUEST_COMMITMENT,
    )
    data = commitment_data.encode_commitment_request(
        transaction_uid, references, context.transfer_syntax
    )
    channel.send(context, request, (data,))
    answer = exchange.await_response(
        channel,
        request,
        timeout_s=timeout_s,
        clock=clock,
        on_other=lambda message: take_report(channel, message, keep),
    )
    exchange.receive_identifier(channel, answer)
    return answer.command


def receive_report(channel: Channel, *, timeout_s: float, keep: Keep) -> bool:
    """Wait for one report; whether one came.

    Raises:
        AssociationEnded: the peer has gone, or sent another message.
        HarmoniError: as `take_report`.
    """
    message = channel.receive(timeout_s)
    if message is None:
        return False
    take_report(channel, message, keep)
    return True


def take_report(channel: Channel, message: Message, keep: Keep) -> None:
    """Take a report (N-EVENT-REPORT-RQ, PS3.4 J.3.3), and answer success once it is kept.

    Args:
        channel: the association.
        message: what came; anything but a report breaks the protocol.
        keep: keeps it; returns when that is durable.

    Raises:
        InvalidInput: it cannot be read; it was answered 0115.
        HarmoniError: it was not kept, and answered so: the peer reports it again.
        AssociationEnded: the peer has gone, or sent another message.
    """
    command = message.command
    if command.field != CommandField.N_EVENT_REPORT_RQ:
        exchange.break_off(channel, f"{command.field.name} instead of a commitment report")
    operation = Operation(channel, message)
    data = exchange.receive_identifier(channel, message, limit_bytes=MAX_COMMITMENT_BYTES)
    try:
        keep(commitment_data.parse_commitment_report(data, message.context.transfer_syntax))
    except HarmoniError as error:
        if channel.ended is None:
            operation.respond(_status_of_error(error), error_comment=storage.comment_of(error))
        raise
    operation.respond(Status.SUCCESS)
