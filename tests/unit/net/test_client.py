import select
import socket
import struct

import pytest

import loopback
from harmoni.dicom.association import Limits
from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection
from harmoni.dicom.pdu import AssociateRJ
from harmoni.dicom.uids import IMPLEMENTATION_CLASS_UID
from harmoni.model.errors import LocalProtocolError, Permanent, Transient, Unreachable
from harmoni.net import tls
from harmoni.net.client import AssociationRejected, RejectedForGood, RejectedForNow
from harmoni.net.server import Accepted, Rejected
from loopback import CT, serving


def test_what_we_propose_reaches_the_peer():
    requests = []

    def decide(request, facts):
        requests.append(request)
        return loopback.accept_everything(request, facts)

    window = AsynchronousOperationsWindow(invoked=8, performed=1)
    role = RoleSelection(sop_class_uid=CT, scu=True, scp=True)
    with serving(decide=decide) as served:
        channel = served.open(roles=[role], window=window)
        assert channel.contexts[3].as_scp
        channel.release(5)
    (request,) = requests
    information = request.user_information
    assert (request.calling_ae_title, request.called_ae_title) == ("TEST", "HARMONI")
    assert (information.window, information.roles) == (window, (role,))
    assert information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert information.max_length == 131_072


def test_the_granted_window_is_in_the_answer():
    granted = AsynchronousOperationsWindow(invoked=4, performed=1)

    def decide(request, facts):
        accepted = loopback.accept_everything(request, facts)
        return Accepted(negotiated=accepted.negotiated, token=None, window=granted)

    with serving(decide=decide) as served:
        channel = served.open(window=AsynchronousOperationsWindow(invoked=8, performed=1))
        assert channel.answer.user_information.window == granted
        channel.release(5)


@pytest.mark.parametrize(
    ("numbers", "kind", "text"),
    [
        ((1, 1, 3), RejectedForGood, "calling AE title not recognized"),
        ((1, 1, 7), RejectedForGood, "called AE title not recognized"),
        ((2, 3, 1), RejectedForNow, "temporary congestion"),
        ((2, 3, 9), RejectedForNow, "reason unknown"),
    ],
)
def test_a_rejection_says_whether_to_try_again(numbers, kind, text):
    result, source, reason = numbers
    rejected = Rejected(result=result, source=source, reason=reason)
    with serving(decide=lambda *_: rejected) as served, pytest.raises(kind, match=text) as caught:
        served.open()
    assert caught.value.rejection == AssociateRJ(result, source, reason)


def test_the_kinds_of_rejection_are_retried_as_their_names_say():
    assert issubclass(RejectedForNow, Transient)
    assert issubclass(RejectedForGood, Permanent)
    assert issubclass(RejectedForNow, AssociationRejected)


def test_a_port_where_nobody_listens_is_unreachable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match=r"HARMONI at .* refused"):
            loopback.open_to(unused.getsockname()[1])


def test_a_peer_that_resets_as_soon_as_we_are_connected_is_unreachable(monkeypatch):
    """As a server does whose drain begins just then."""
    connect, made = socket.create_connection, []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connect_and_be_reset(address, timeout):
            connection = connect(address, timeout)
            made.append(connection)
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            poll = select.poll()
            poll.register(connection, select.POLLHUP)
            assert poll.poll(5000)
            return connection

        monkeypatch.setattr(socket, "create_connection", connect_and_be_reset)
        with pytest.raises(Unreachable, match="not connected"):
            loopback.open_to(listener.getsockname()[1])
    assert made[0].fileno() == -1


def test_a_name_that_does_not_exist_is_unreachable():
    with pytest.raises(Unreachable, match="cannot be connected to"):
        loopback.open_to(104, host="nowhere.invalid")


def test_a_peer_that_does_not_answer_is_given_up():
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unreachable, match="no answer in time"),
    ):
        loopback.open_to(
            silent.getsockname()[1],
            answer_timeout_s=0.05,
            limits=Limits(artim_s=0.05),
        )


def test_a_peer_that_does_not_answer_tls_is_given_up(tls_material):
    context = tls.client_context(tls_material.client)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(Unreachable, match="does not agree on TLS"),
    ):
        loopback.open_to(silent.getsockname()[1], tls=context, connect_timeout_s=0.05)


def test_a_server_of_another_authority_is_unreachable_and_says_why(tls_material):
    with (
        serving(context=tls.ServerContext(tls_material.foreign)) as served,
        pytest.raises(Unreachable, match="certificate verify failed"),
    ):
        served.open(tls=tls.client_context(tls_material.client))


def test_a_certificate_that_the_server_refuses_is_unreachable_and_says_why(tls_material):
    """In TLS 1.3 the client hears of it after its own handshake only."""
    with (
        serving(context=tls.ServerContext(tls_material.server)) as served,
        pytest.raises(Unreachable, match="alert unknown ca"),
    ):
        served.open(tls=tls.client_context(tls_material.foreign))


def test_a_title_that_cannot_be_sent_is_our_own_fault():
    with serving() as served, pytest.raises(LocalProtocolError):
        served.open(called_ae_title="A TITLE OF MORE THAN SIXTEEN")
