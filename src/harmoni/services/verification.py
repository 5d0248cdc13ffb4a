"""Verification, C-ECHO (PS3.4 Annex A, PS3.7 9.1.5)."""

from collections.abc import Callable

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


def echo(
    channel: Channel,
    *,
    message_id: int = 1,
    timeout_s: float = 30.0,
    on_other: Callable[[Message], None] | None = None,
) -> int:
    """Ask the peer whether it is there; give the status of its answer.

    Args:
        channel: the association.
        message_id: of the request.
        timeout_s: how long the peer may be silent.
        on_other: takes other messages meanwhile, as `exchange.await_response`.

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
    response = exchange.await_response(channel, request, timeout_s=timeout_s, on_other=on_other)
    return exchange.status_in(response.command)
