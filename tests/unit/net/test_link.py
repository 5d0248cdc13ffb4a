"""The loop between an association and its connection, driven against raw bytes."""

import threading

import pytest

import loopback
from harmoni.dicom import pdu
from harmoni.dicom.association import Association, Limits
from harmoni.dicom.events import AssociateRequested, ReleaseConfirmed, ReleaseRequested
from harmoni.dicom.items import UserInformation
from harmoni.net.link import AssociationEnded, Ending, Link
from harmoni.net.transport import Transport
from harmoni.runtime.clock import SystemClock
from harmoni.testing import FakeClock

RELEASE_RQ = pdu.encode(pdu.ReleaseRQ())
RELEASE_RP = pdu.encode(pdu.ReleaseRP())
REQUEST = pdu.encode(
    pdu.AssociateRQ(
        called_ae_title="HARMONI",
        calling_ae_title="MODALITY",
        presentation_contexts=(loopback.ECHO_CONTEXT,),
        user_information=UserInformation(max_length=16384, implementation_class_uid="1.2.3"),
    )
)


def acceptor(connection, *, clock=None, artim_s=30.0, stall_s=30.0):
    clock = clock or SystemClock()
    association = Association(
        requestor=False, limits=Limits(artim_s=artim_s), now_s=clock.monotonic_s()
    )
    return Link(association, Transport(connection, clock=clock, stall_s=stall_s), clock)


@pytest.fixture
def established(pair):
    """An acceptor's link with an association, and the peer's bare socket."""
    ours, theirs = pair
    link = acceptor(ours, artim_s=0.05)
    theirs.sendall(REQUEST)
    request = link.next_event(None).request
    link.association.accept(loopback.accept_everything(request, None).negotiated, UserInformation())
    link.flush()
    assert theirs.recv(10_000)[0] == 0x02
    return link, theirs


def test_an_event_comes_out_of_bytes_in_any_pieces(pair):
    ours, theirs = pair
    link = acceptor(ours)
    for at in range(len(REQUEST)):
        theirs.sendall(REQUEST[at : at + 1])
        event = link.next_event(link.clock.monotonic_s())
        assert (event is None) is (at < len(REQUEST) - 1)
    assert isinstance(event, AssociateRequested)


def test_artim_ends_the_wait_for_a_request(pair):
    clock = FakeClock()
    link = acceptor(pair[0], clock=clock)
    clock.advance(29)
    assert link.next_event(clock.monotonic_s()) is None
    clock.advance(1)
    with pytest.raises(AssociationEnded, match="no A-ASSOCIATE-RQ within 30"):
        link.next_event(clock.monotonic_s())


def test_artim_is_looked_at_between_the_bytes_of_a_slow_peer(pair):
    ours, theirs = pair
    clock = FakeClock()
    link = acceptor(ours, clock=clock)
    clock.advance(30)
    theirs.sendall(REQUEST[:7])
    with pytest.raises(AssociationEnded, match="no A-ASSOCIATE-RQ"):
        link.next_event(None)


def test_an_end_is_final(established):
    link, theirs = established
    theirs.close()
    with pytest.raises(AssociationEnded) as first:
        link.next_event(None)
    with pytest.raises(AssociationEnded) as second:
        link.next_event(None)
    assert first.value is second.value is link.ended
    assert link.finish(Ending.RELEASED, "no") is link.ended
    assert link.abort(0, 0, kind=Ending.ABORTED, why="no") is link.ended


def test_the_last_words_are_sent_before_the_connection_ends(established):
    link, theirs = established
    link.abort(2, 5, kind=Ending.ABORTED, why="we want to")
    assert theirs.recv(100) == pdu.encode(pdu.Abort(2, 5))
    assert theirs.recv(100) == b""


def test_a_peer_that_never_closes_is_closed_after_artim(established):
    link, _ = established
    link.abort(2, 0, kind=Ending.ABORTED, why="we want to")
    assert link.transport.ended is False
    assert link.ended.kind is Ending.ABORTED


def test_what_the_peer_sends_after_our_abort_is_skipped(established):
    link, theirs = established
    theirs.sendall(RELEASE_RQ)
    closing = threading.Thread(
        target=lambda: (theirs.recv(10), theirs.sendall(b"\x04\0\0\0\0\x06" + bytes(6)))
    )
    closing.start()
    assert link.abort(2, 0, kind=Ending.ABORTED, why="we want to").why == "we want to"
    closing.join(5)


def test_a_release_is_an_event_for_the_shell(established):
    link, theirs = established
    theirs.sendall(RELEASE_RQ)
    assert isinstance(link.next_event(None), ReleaseRequested)
    link.association.confirm_release(now_s=link.clock.monotonic_s())
    assert link.finish(Ending.RELEASED, "asked").kind is Ending.RELEASED
    assert theirs.recv(100) == RELEASE_RP


def test_a_release_collision_is_completed_while_winding_up(established):
    """The acceptor gets its confirmation first and owes the peer one (PS3.8 9.2.3, AR-8)."""
    link, theirs = established
    link.association.release()
    link.flush()
    theirs.sendall(RELEASE_RQ + RELEASE_RP)
    events = [link.next_event(None)]
    while link.has_events():
        events.append(link.next_event(None))
    assert {type(event) for event in events} == {ReleaseRequested, ReleaseConfirmed}


def test_input_counts_before_it_is_read(established):
    link, theirs = established
    assert not link.has_input()
    theirs.sendall(RELEASE_RQ)
    assert link.has_input()
    assert not link.has_events()


def test_a_broken_connection_ends_a_write(established):
    link, theirs = established
    theirs.close()
    with pytest.raises(AssociationEnded, match="Broken pipe") as ended:
        link.write([RELEASE_RQ])
    assert ended.value.kind is Ending.CLOSED
