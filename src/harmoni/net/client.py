"""The requestor's side: open an association to a peer (PS3.8 7.1), within deadlines.

Connect, TLS handshake, A-ASSOCIATE; what comes back is a `Channel`, or an error that says whether
trying again makes sense.
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Final

from harmoni.dicom.association import Association
from harmoni.dicom.events import AssociateAccepted, AssociateRejected, Limits
from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection, UserInformation
from harmoni.dicom.pdu import AbortSource, AssociateRJ, AssociateRQ, ProposedContext
from harmoni.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from harmoni.model.errors import HarmoniError, Permanent, Transient, Unreachable
from harmoni.net.driver import IDLE_S, STALL_S, Channel
from harmoni.net.link import AssociationEnded, Ending, Link
from harmoni.net.peer import observe
from harmoni.net.transport import Transport, describe
from harmoni.runtime.clock import Clock, SystemClock

CONNECT_S: Final = 10.0
ANSWER_S: Final = 30.0
_SYSTEM_CLOCK: Final = SystemClock()
_PERMANENT: Final = 1

# PS3.8 Table 9-21, by source and reason.
_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class AssociationRejected(HarmoniError):
    """The peer answered A-ASSOCIATE-RJ; see the two kinds below.

    Attributes:
        rejection: the three numbers.
    """

    code = "HZ-0001"

    def __init__(self, peer: str, rejection: AssociateRJ) -> None:
        reason = _REASONS.get((rejection.source, rejection.reason), "reason unknown to PS3.8")
        numbers = f"{rejection.result}/{rejection.source}/{rejection.reason}"
        super().__init__(f"{peer} rejected the association ({numbers}): {reason}")
        self.rejection = rejection


class RejectedForNow(AssociationRejected, Transient):
    """The peer may accept later (result 2)."""

    code = "HZ-1006"


class RejectedForGood(AssociationRejected, Permanent):
    """The peer will not accept before somebody changes a setting, here or there (result 1)."""

    code = "HZ-2007"


def open_association(
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    called_ae_title: str,
    calling_ae_title: str,
    contexts: Sequence[ProposedContext],
    roles: Sequence[RoleSelection] = (),
    window: AsynchronousOperationsWindow | None = None,
    assume_roles: bool = False,
    connect_timeout_s: float = CONNECT_S,
    answer_timeout_s: float = ANSWER_S,
    idle_s: float = IDLE_S,
    stall_s: float = STALL_S,
    limits: Limits | None = None,
    clock: Clock = _SYSTEM_CLOCK,
) -> Channel:
    """Open an association; the caller releases it.

    Args:
        host: name or address; with TLS the certificate must name it.
        port: the peer's port.
        tls: from `tls.client_context`; None for a plain connection.
        called_ae_title: the peer's.
        calling_ae_title: ours.
        contexts: what we propose, 1 to 128 of them.
        roles: for the classes in which we would be SCP.
        window: the asynchronous operations window that we propose; None means 1 and 1.
        assume_roles: take proposed roles as granted where the peer's answer leaves them out.
        connect_timeout_s: for connecting, and once more for the TLS handshake.
        answer_timeout_s: for the peer's answer to A-ASSOCIATE-RQ.
        idle_s: see `Channel`.
        stall_s: how long the peer may take none of our bytes.
        limits: what the peer may cost; None for the usual ones.
        clock: monotonic time.

    Raises:
        Unreachable: no connection, no TLS, or no answer; why is in its text.
        RejectedForNow: the peer said no for the moment.
        RejectedForGood: the peer said no.
        LocalProtocolError: a title or a UID cannot be sent.
    """
    peer = f"{called_ae_title} at {host}:{port}"
    connection, address = _connect(host, port, connect_timeout_s, peer)
    if tls is not None:
        connection = _secure(connection, tls, host, peer)
    association = Association(requestor=True, limits=limits or Limits(), now_s=clock.monotonic_s())
    transport = Transport(connection, clock=clock, stall_s=stall_s)
    link = Link(association, transport, clock)
    try:
        association.associate(
            AssociateRQ(
                called_ae_title=called_ae_title,
                calling_ae_title=calling_ae_title,
                presentation_contexts=tuple(contexts),
                user_information=UserInformation(
                    implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                    implementation_version_name=IMPLEMENTATION_VERSION_NAME,
                    window=window,
                    roles=tuple(roles),
                ),
            ),
            assume_roles=assume_roles,
        )
        facts = observe(connection, *address)
        _await_answer(link, clock.monotonic_s() + answer_timeout_s, peer)
    except AssociationEnded as ended:
        raise Unreachable(f"{peer} did not answer our request: {ended.why}") from ended
    except HarmoniError:
        transport.close()
        raise
    return Channel(link, facts=facts, idle_s=idle_s)


def _connect(
    host: str, port: int, timeout_s: float, peer: str
) -> tuple[socket.socket, tuple[str, int]]:
    """Connect; the socket, and the address and port at its other end."""
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
        try:
            return connection, connection.getpeername()[:2]
        except OSError:
            # The peer reset it at once: then it has no other end any more.
            connection.close()
            raise
    except OSError as error:
        raise Unreachable(f"{peer} cannot be connected to: {describe(error)}") from error


def _secure(
    connection: socket.socket, context: ssl.SSLContext, host: str, peer: str
) -> socket.socket:
    """Do the TLS handshake; the connection still has the timeout of connecting."""
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except OSError as error:
        connection.close()
        raise Unreachable(f"{peer} does not agree on TLS: {describe(error)}") from error


def _await_answer(link: Link, until_s: float, peer: str) -> None:
    match link.next_event(until_s):
        case AssociateAccepted():
            return
        case AssociateRejected(rejection):
            link.finish(Ending.CLOSED, "rejected")
            kind = RejectedForGood if rejection.result == _PERMANENT else RejectedForNow
            raise kind(peer, rejection)
        case _:
            raise link.abort(
                AbortSource.SERVICE_USER, 0, kind=Ending.TIMEOUT, why="no answer in time"
            )
