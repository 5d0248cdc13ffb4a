"""A real server on loopback; deadlines are short where a test waits for one."""

import socket
import threading
from contextlib import ExitStack

import pytest

import loopback
from harmoni.dicom import pdu
from harmoni.dicom.association import Limits
from harmoni.dicom.dimse import response
from harmoni.dicom.items import UserInformation
from harmoni.model.errors import Unreachable
from harmoni.model.identifiers import HospitalId
from harmoni.net import server, tls
from harmoni.net.client import RejectedForNow
from harmoni.net.driver import AssociationEnded
from harmoni.net.places import SharedPlaces, create_table
from harmoni.net.server import Accepted, Rejected, ServerLimits
from loopback import ECHO_CONTEXT, STORE, Served, echo, serving

IMPATIENT = ServerLimits(handshake_s=0.1, association=Limits(artim_s=0.1))


def test_associations_are_served_side_by_side():
    with serving() as served:
        channels = [served.open() for _ in range(8)]
        assert [echo(channel) for channel in channels] == [0] * 8
        for channel in channels:
            channel.release(5)


def test_what_decide_found_out_reaches_the_service():
    tokens = []

    def serve(channel):
        tokens.append(channel.token)
        loopback.Served.store(None, channel)

    with serving(serve=serve) as served:
        channel = served.open()
        echo(channel)
        channel.release(5)
    assert tokens == ["the token"]


def test_one_line_tells_how_an_association_went():
    def decide(request, facts):
        accepted = loopback.accept_everything(request, facts)
        return Accepted(negotiated=accepted.negotiated, token=None, hospital=HospitalId("h-7f3a"))

    with serving(decide=decide) as served:
        channel = served.open()
        channel.send(channel.contexts[3], STORE, [bytes(1000)])
        channel.receive(5)
        channel.release(5)
        opened = served.line("association opened")
        ended = served.line("association ended")
    assert (opened["calling"], opened["called"], opened["contexts"]) == ("TEST", "HARMONI", 2)
    assert opened["association"] == ended["association"]
    assert ended["bytes_received"] > 1000
    assert {
        "hospital": "h-7f3a",
        "address": "127.0.0.1",
        "calling": "TEST",
        "called": "HARMONI",
        "messages_received": 1,
        "messages_sent": 1,
        "outcome": "released",
    }.items() <= ended.items()


def test_ends_and_bytes_are_counted():
    with serving() as served:
        channel = served.open()
        echo(channel)
        channel.release(5)
        served.line("association ended")
    text = served.metrics.render().decode()
    assert 'harmoni_associations_ended_total{outcome="released"} 1.0' in text
    assert 'harmoni_association_bytes_total{direction="received"}' in text
    assert "harmoni_associations_open 0.0" in text


def test_a_silent_client_holds_up_nobody_and_goes_after_artim():
    with serving(limits=IMPATIENT) as served, served.connect() as silent:
        channel = served.open()
        assert echo(channel) == 0
        assert silent.recv(100) in (b"", bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 0]))
        served.line("association ended", outcome="aborted")
        channel.release(5)


def test_a_client_that_sends_byte_by_byte_goes_after_artim_as_well():
    with serving(limits=IMPATIENT) as served, served.connect() as slow:
        ended = threading.Event()

        def drip():
            slow.sendall(b"\x01\x00\x00\x00\x10\x00")
            while not ended.wait(0.01):
                try:
                    slow.sendall(b"\x00")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        line = served.line("association ended")
        ended.set()
        dripping.join()
    assert line["outcome"] == "aborted"
    assert line["seconds"] < 5


def test_a_client_silent_within_tls_holds_up_nobody(tls_material):
    context = tls.ServerContext(tls_material.server)
    with serving(context=context, limits=IMPATIENT) as served, served.connect() as silent:
        channel = served.open(tls=tls.client_context(tls_material.client))
        assert echo(channel) == 0
        assert silent.recv(100) == b""
        served.line("association ended", outcome="handshake failed")
        channel.release(5)


def test_the_certificate_reaches_whoever_decides(tls_material):
    seen = []

    def decide(request, facts):
        seen.append(facts)
        return loopback.accept_everything(request, facts)

    with serving(context=tls.ServerContext(tls_material.server), decide=decide) as served:
        channel = served.open(tls=tls.client_context(tls_material.client))
        assert echo(channel) == 0
        channel.release(5)
    assert seen[0].certificate.uris == ("urn:harmoni:hospital:h-7f3a",)
    assert (seen[0].address, seen[0].local_port) == ("127.0.0.1", served.port)


@pytest.mark.parametrize("name", ["expired", "foreign"])
def test_a_bad_certificate_never_reaches_dicom(tls_material, name):
    asked, refused = [], []
    with serving(
        context=tls.ServerContext(tls_material.server),
        decide=lambda *facts: asked.append(facts),
        on_refused=lambda *facts: refused.append(facts),
    ) as served:
        with pytest.raises(Unreachable):
            served.open(tls=tls.client_context(getattr(tls_material, name)))
        line = served.line("association ended", outcome="handshake failed")
    assert line["why"].startswith("TLS: ")
    assert asked == []
    assert refused == [("127.0.0.1", line["why"])]


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x04\x00\x00\x00\x00\x10" + bytes(16),
    ],
)
def test_what_is_not_dicom_is_aborted_at_once(greeting):
    with serving() as served, served.connect() as stranger:
        stranger.sendall(greeting)
        assert stranger.recv(100)[:1] == b"\x07"
        stranger.close()
        served.line("association ended", outcome="aborted")


def test_a_request_with_garbage_right_behind_it_is_aborted_before_it_is_decided_on():
    asked = []
    request = pdu.encode(
        pdu.AssociateRQ(
            called_ae_title="HARMONI",
            calling_ae_title="TEST",
            presentation_contexts=(ECHO_CONTEXT,),
            user_information=UserInformation(implementation_class_uid="1.2.3"),
        )
    )
    with serving(decide=lambda *facts: asked.append(facts)) as served, served.connect() as stranger:
        stranger.sendall(request + b"SSH-2.0-OpenSSH_9.2\r\n")
        assert stranger.recv(100)[:1] == b"\x07"
        stranger.close()
        served.line("association ended", outcome="aborted")
    assert asked == []


def test_beyond_the_limit_the_answer_is_to_come_back_later():
    with serving(limits=ServerLimits(associations=2)) as served:
        channels = [served.open(), served.open()]
        with pytest.raises(RejectedForNow, match="2/3/2"):
            served.open()
        channels.pop().release(5)
        # The place is free once the thread of the one that left has ended, after its last line.
        while served.server.open_associations > 1:
            pass
        channels.append(served.open())
        assert [echo(channel) for channel in channels] == [0, 0]
        for channel in channels:
            channel.release(5)


def test_one_address_cannot_take_every_place():
    with serving(limits=ServerLimits(associations_per_address=1)) as served:
        channel = served.open()
        with pytest.raises(RejectedForNow, match="local limit exceeded"):
            served.open()
        channel.release(5)


def test_silent_connections_of_one_address_take_no_place_of_another():
    limits = ServerLimits(associations=2, associations_per_address=1)
    with serving(limits=limits) as served, ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(served.connect("127.0.0.2"))
        channel = served.open()
        assert echo(channel) == 0
        channel.release(5)


def test_an_address_counts_over_all_processes_that_accept():
    """Two servers with a table between them, as two workers have it."""
    table = create_table()
    limits = ServerLimits(associations_per_address=2)
    with (
        serving(limits=limits, places=SharedPlaces(table, 0)) as first,
        serving(limits=limits, places=SharedPlaces(table, 1)) as second,
    ):
        channels = [first.open(), second.open()]
        with pytest.raises(RejectedForNow, match="local limit exceeded"):
            first.open()
        for channel in channels:
            channel.release(5)


def test_far_beyond_the_limit_connections_are_just_closed(monkeypatch):
    monkeypatch.setattr(server, "_ANSWERED_SURPLUS", 0)
    with serving(limits=ServerLimits(associations=1)) as served:
        channel = served.open()
        with served.connect() as surplus:
            assert surplus.recv(10) == b""
        channel.release(5)


def test_a_rejection_is_told_and_noted():
    rejected = Rejected(result=1, source=1, reason=3, why="address of nobody")
    with serving(decide=lambda *_: rejected) as served:
        with pytest.raises(loopback.client.RejectedForGood, match="1/1/3"):
            served.open()
        line = served.line("association ended", outcome="rejected")
    assert line["why"] == "1/1/3 address of nobody"


def test_a_service_that_fails_costs_its_association_only():
    def serve(channel):
        message = channel.receive(5)
        if message.context.id == 3:
            raise ZeroDivisionError
        channel.send(message.context, response(message.command, 0))
        channel.receive(5)

    with serving(serve=serve) as served:
        failing, other = served.open(), served.open()
        failing.send(failing.contexts[3], STORE, [b"x"])
        with pytest.raises(AssociationEnded, match="peer aborted"):
            failing.receive(5)
        line = served.line("association failed")
        assert line["exception"]["type"] == "ZeroDivisionError"
        assert served.line("association ended")["outcome"] == "failed"
        assert echo(other) == 0
        other.release(5)


def test_a_decision_that_fails_costs_its_association_only():
    def decide(request, facts):
        if request.calling_ae_title == "BROKEN":
            raise ZeroDivisionError
        return loopback.accept_everything(request, facts)

    with serving(decide=decide) as served:
        with pytest.raises(Unreachable, match="aborted"):
            served.open(calling_ae_title="BROKEN")
        channel = served.open()
        assert echo(channel) == 0
        channel.release(5)


def test_a_service_that_returns_releases_the_association():
    with serving(serve=lambda _channel: None) as served:
        channel = served.open()
        with pytest.raises(AssociationEnded, match="released"):
            channel.receive(5)


def test_a_drain_lets_the_message_under_way_finish():
    halfway, go_on = threading.Event(), threading.Event()

    def serve(channel):
        message = channel.receive(5)
        channel.discard_data_set()
        halfway.set()
        go_on.wait(5)
        channel.send(message.context, response(message.command, 0))
        channel.receive(5)

    served = Served(serve=serve)
    served.server.start()
    channel = served.open()
    channel.send(channel.contexts[3], STORE, [bytes(10)])
    assert halfway.wait(5)
    cut = []
    draining = threading.Thread(target=lambda: cut.append(served.server.drain(10)))
    draining.start()
    with pytest.raises((Unreachable, RejectedForNow)):
        served.open_until_refused()
    go_on.set()
    assert channel.receive(5).command.status == 0
    with pytest.raises(AssociationEnded, match="released"):
        channel.receive(5)
    draining.join(10)
    assert cut == [0]


def test_a_drain_lets_an_operation_of_several_messages_finish():
    """A retrieval's sub-operations are messages of their own: a drain does not come between."""
    halfway, go_on = threading.Event(), threading.Event()

    def serve(channel):
        first = channel.receive(5)
        channel.discard_data_set()
        with channel.operation():
            halfway.set()
            go_on.wait(5)
            second = channel.receive(5)
            channel.discard_data_set()
        for message in (first, second):
            channel.send(message.context, response(message.command, 0))
        channel.receive(5)

    served = Served(serve=serve)
    served.server.start()
    channel = served.open()
    channel.send(channel.contexts[3], STORE, [bytes(10)])
    assert halfway.wait(5)
    cut = []
    draining = threading.Thread(target=lambda: cut.append(served.server.drain(10)))
    draining.start()
    assert served.server._draining.wait(5)
    go_on.set()
    channel.send(channel.contexts[3], STORE, [bytes(10)])
    assert [channel.receive(5).command.status for _ in range(2)] == [0, 0]
    with pytest.raises(AssociationEnded, match="released"):
        channel.receive(5)
    draining.join(10)
    assert cut == [0]


def test_a_drain_cuts_what_does_not_end():
    def serve(channel):
        channel.receive(5)
        channel.discard_data_set()

    served = Served(serve=serve)
    served.server.start()
    channel = served.open()
    begun, drained = threading.Event(), threading.Event()
    outcome = []

    def half():
        yield bytes(300_000)
        begun.set()
        drained.wait(5)

    def send():
        try:
            channel.send(channel.contexts[3], STORE, half())
            channel.receive(5)
        except AssociationEnded as ended:
            outcome.append(ended.kind)

    sending = threading.Thread(target=send)
    sending.start()
    assert begun.wait(5)
    assert served.server.drain(0.05) == 1
    drained.set()
    sending.join(10)
    assert outcome == ["closed"]
    assert served.server.open_associations == 0


def test_a_drain_does_not_wait_for_clients_without_association():
    served = Served()
    served.server.start()
    with served.connect() as silent:
        while not served.server.open_associations:
            pass
        assert served.server.drain(30) == 0
        assert silent.recv(10) == b""


def test_several_servers_share_a_listening_socket():
    first = Served()
    second = Served()
    shared = socket.socket(fileno=socket.dup(first.server._sockets[0][0].fileno()))
    shared.settimeout(0)
    second.server._sockets[0][0].close()
    second.server._sockets[0] = (shared, None)
    second.port = first.port
    first.server.start()
    second.server.start()
    channels = [first.open(ECHO_CONTEXT) for _ in range(6)]
    assert first.server.open_associations + second.server.open_associations == 6
    assert [echo(channel) for channel in channels] == [0] * 6
    for channel in channels:
        channel.release(5)
    assert first.server.drain(10) + second.server.drain(10) == 0


def test_a_socket_is_adopted_by_its_number():
    listener = server.listen("127.0.0.1", 0)
    adopted = server.adopt(listener.detach())
    with adopted, pytest.raises(BlockingIOError):
        adopted.accept()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_both_protocols_are_served_at_the_unspecified_address():
    listener = server.listen("::", 0)
    port = listener.getsockname()[1]
    with listener:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


class OutOfFiles:
    """A listener whose accept fails, as it does when the process has no file numbers left."""

    def accept(self):
        raise OSError(24, "Too many open files")


def test_running_out_of_file_numbers_is_logged_and_survived():
    served = Served()
    served.server._draining.set()  # so that the pause after it ends at once
    served.server._accept(OutOfFiles(), None)
    assert served.line("accepting failed")["errno"] == 24
    served.server._draining.clear()
    served.server.start()
    channel = served.open()
    assert echo(channel) == 0
    channel.release(5)
    served.server.drain(5)
