"""Verification, C-ECHO (PS3.4 Annex A, PS3.7 9.1.5)."""

from harmoni.dicom import uids
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.status import Status
from harmoni.net.driver import Channel, Message
from harmoni.services import exchange
from harmoni.services.exchange import Operation, Outcome


def serve_echo(channel: Channel, message: Message) -> Outcome:
    """Answer a C-ECHO-RQ with success."""
    Operation(channel, message).respond(Status.SUCCESS)
    return Outcome(
        operation=CommandField.C_ECHO_RQ, sop_class_uid=uids.VERIFICATION, status=Status.SUCCESS
    )


def echo(channel: Channel, *, message_id: int = 1, timeout_s: float = 30.0) -> int:
    """Ask the peer whether it is there; give the status of its answer.

    Raises:
        Refused: the peer accepted no context for Verification.
        AssociationEnded: the peer has gone, or did not answer in time.
    """
    context = exchange.context_for(channel, uids.VERIFICATION)
    request = Command(
        field=CommandField.C_ECHO_RQ,
        message_id=message_id,
        affected_sop_class_uid=uids.VERIFICATION,
    )
    channel.send(context, request)
    response = exchange.await_response(channel, request, timeout_s=timeout_s)
    return exchange.status_in(response.command)
