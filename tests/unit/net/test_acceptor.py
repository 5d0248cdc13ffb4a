"""One connection at a time, without the server around it."""

import socket
import threading

import pytest
import structlog

import loopback
from harmoni.dicom import pdu
from harmoni.dicom.association import Limits
from harmoni.dicom.items import UserInformation
from harmoni.dicom.uids import IMPLEMENTATION_CLASS_UID
from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.net import tls
from harmoni.net.acceptor import Accepted, Acceptor, Rejected, ServerLimits, Visit
from harmoni.net.link import AssociationEnded
from harmoni.runtime.clock import SystemClock

REQUEST = pdu.encode(
    pdu.AssociateRQ(
        called_ae_title="HARMONI",
        calling_ae_title="MODALITY",
        presentation_contexts=(loopback.ECHO_CONTEXT,),
        user_information=UserInformation(max_length=16384, implementation_class_uid="1.2.3"),
    )
)
LIMITS = ServerLimits(handshake_s=0.5, association=Limits(artim_s=0.5))


def acceptor(
    decide=loopback.accept_everything,
    serve=lambda _channel: None,
    *,
    draining=False,
    on_refused=None,
):
    event = threading.Event()
    if draining:
        event.set()
    return Acceptor(
        decide=decide,
        serve=serve,
        limits=LIMITS,
        clock=SystemClock(),
        log=structlog.wrap_logger(None, processors=[drop]),
        draining=event,
        on_refused=on_refused,
    )


def drop(*_):
    raise structlog.DropEvent


@pytest.fixture
def visit(tcp_pair):
    """A connection that was just accepted, and the peer's end of it."""
    ours, theirs = tcp_pair
    visit = Visit(7, ours, "127.0.0.1", 4242, congested=False)
    yield visit, theirs
    visit.connection.close()


def answered(theirs, kind):
    data = theirs.recv(10_000)
    answer = pdu.decode(data[0], data[6 : 6 + int.from_bytes(data[2:6], "big")])
    assert isinstance(answer, kind)
    return answer


def test_an_accepted_request_is_answered_with_our_implementation_and_limit(visit):
    visit, theirs = visit
    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor().attend(visit, None)
    information = answered(theirs, pdu.AssociateAC).user_information
    assert information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert information.max_length == 131_072


def test_who_decides_learns_the_address_and_the_ports(visit):
    visit, theirs = visit
    port = theirs.getpeername()[1]
    seen = []

    def decide(_request, facts):
        seen.append(facts)
        return Rejected(result=1, source=1, reason=1)

    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor(decide).attend(visit, None)
    (facts,) = seen
    assert (facts.address, facts.port) == ("127.0.0.1", 4242)
    assert facts.local_port == port
    assert facts.certificate is None


@pytest.mark.parametrize(
    ("congested", "draining"), [(True, False), (False, True)], ids=["congested", "draining"]
)
def test_without_room_nobody_is_asked(visit, congested, draining):
    visit, theirs = visit
    visit.congested = congested
    asked = []
    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor(lambda *facts: asked.append(facts), draining=draining).attend(visit, None)
    assert answered(theirs, pdu.AssociateRJ) == pdu.AssociateRJ(2, 3, 2)
    assert asked == []
    assert visit.outcome == "rejected"


def test_a_peer_that_leaves_before_its_request_is_noted(visit):
    visit, theirs = visit
    theirs.close()
    with pytest.raises(AssociationEnded, match="closed the connection"):
        acceptor().attend(visit, None)


def test_what_comes_before_a_request_must_be_a_request(visit):
    visit, theirs = visit
    theirs.sendall(pdu.encode(pdu.ReleaseRQ()))
    with pytest.raises(AssociationEnded, match="RELEASE_RQ in STA2"):
        acceptor().attend(visit, None)
    assert answered(theirs, pdu.Abort).reason == pdu.AbortReason.UNEXPECTED_PDU


def test_a_failed_handshake_is_noted_with_its_reason(visit, tls_material):
    visit, theirs = visit
    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor().attend(visit, tls.ServerContext(tls_material.server))
    assert visit.outcome == "handshake failed"
    assert visit.why.startswith("TLS: ")


def test_a_silent_handshake_ends_at_its_deadline(visit, tls_material):
    visit, _ = visit
    acceptor().attend(visit, tls.ServerContext(tls_material.server))
    assert visit.outcome == "handshake failed"


def test_whoever_wants_to_know_is_told_of_a_failed_handshake(visit, tls_material):
    visit, theirs = visit
    told = []
    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    attending = acceptor(on_refused=lambda *refusal: told.append(refusal))
    attending.attend(visit, tls.ServerContext(tls_material.server))
    assert told == [("127.0.0.1", visit.why)]


def test_the_words_of_a_refusal_are_bounded(visit, monkeypatch):
    visit, _ = visit
    told = []

    def unreadable(*_):
        raise InvalidInput("x" * 100_000)

    monkeypatch.setattr("harmoni.net.acceptor.observe", unreadable)
    acceptor(on_refused=lambda *refusal: told.append(refusal)).attend(visit, None)
    assert told == [("127.0.0.1", "x" * 200)]


def test_a_peer_without_a_fault_is_not_told_of(visit):
    visit, theirs = visit
    told = []
    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor(on_refused=lambda *refusal: told.append(refusal)).attend(visit, None)
    assert told == []


def test_the_first_word_on_how_it_ended_counts(visit):
    visit, _ = visit
    visit.conclude("rejected", "1/1/3")
    visit.conclude("closed", "later")
    assert (visit.outcome, visit.why) == ("rejected", "1/1/3")


def test_the_canonical_line_of_a_connection_without_request_names_no_titles(visit):
    visit, _ = visit
    visit.conclude("handshake failed", "timed out")
    assert visit.log_fields() == {"outcome": "handshake failed", "why": "timed out"}


def test_the_canonical_line_of_an_association_names_both_titles_and_the_hospital(visit):
    visit, theirs = visit

    def decide(request, facts):
        negotiated = loopback.accept_everything(request, facts).negotiated
        return Accepted(negotiated=negotiated, token=None, hospital=HospitalId("h-7f3a"))

    theirs.sendall(REQUEST)
    theirs.shutdown(socket.SHUT_WR)
    acceptor(decide).attend(visit, None)
    fields = visit.log_fields()
    assert (fields["calling"], fields["called"]) == ("MODALITY", "HARMONI")
    assert fields["hospital"] == "h-7f3a"
    assert fields["bytes_received"] == len(REQUEST)


def test_another_thread_can_wake_a_visit(visit):
    visit, _ = visit
    timer = threading.Timer(0.02, visit.interrupt)
    timer.start()
    with pytest.raises(AssociationEnded):
        acceptor().attend(visit, None)
    timer.join()
