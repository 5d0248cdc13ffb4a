"""Two channels over one pair of sockets, mostly in one thread: the kernel keeps what is sent."""

import socket
import threading

import pytest

import loopback
from harmoni.dicom.association import Association, Limits
from harmoni.dicom.dimse import Command, CommandField, encode_command, response
from harmoni.dicom.items import UserInformation
from harmoni.dicom.pdu import AssociateRQ, DataTF, PresentationDataValue, encode
from harmoni.model.errors import Damaged, InvalidInput, LocalProtocolError, OutOfResources
from harmoni.net.driver import AssociationEnded, Channel, Ending
from harmoni.net.link import Link
from harmoni.net.peer import PeerFacts
from harmoni.net.transport import Transport
from harmoni.runtime.clock import SystemClock
from harmoni.testing import FakeClock
from loopback import CT, ECHO, ECHO_CONTEXT, STORE, STORE_CONTEXT, Memory

FACTS = PeerFacts(address="127.0.0.1", port=1, local_port=2, certificate=None)
A_ABORT = 0x07
GARBAGE = bytes.fromhex("5500 00000004 00000000")
A_RELEASE_RQ = bytes.fromhex("0500 00000004 00000000")


class Ends:
    """The requestor's channel, the acceptor's, and their sockets."""

    def __init__(self, pair, *, clock=None, stall_s=30.0, idle_s=600.0, draining=None):
        self.clock = clock or SystemClock()
        self.sockets = pair
        self.sending = None
        theirs, ours = (
            Link(
                Association(
                    requestor=requestor,
                    limits=Limits(artim_s=0.5),
                    now_s=self.clock.monotonic_s(),
                ),
                Transport(connection, clock=self.clock, stall_s=stall_s),
                self.clock,
            )
            for requestor, connection in zip((True, False), pair, strict=True)
        )
        theirs.association.associate(
            AssociateRQ(
                called_ae_title="HARMONI",
                calling_ae_title="MODALITY",
                presentation_contexts=(ECHO_CONTEXT, STORE_CONTEXT),
                user_information=UserInformation(implementation_class_uid="1.2.3"),
            )
        )
        theirs.flush()
        request = ours.next_event(None).request
        accepted = loopback.accept_everything(request, FACTS)
        ours.association.accept(accepted.negotiated, UserInformation())
        ours.flush()
        theirs.next_event(None)
        self.requestor = Channel(theirs, facts=FACTS)
        self.acceptor = Channel(ours, facts=FACTS, token="token", idle_s=idle_s, draining=draining)

    def echo(self):
        """Go once there and back, after what is being sent."""
        if self.sending is not None:
            self.sending.result()
        self.requestor.send(self.requestor.contexts[1], ECHO)
        message = self.acceptor.receive(5)
        self.acceptor.send(message.context, response(message.command, 0))
        return self.requestor.receive(5).command.status

    def store(self, *chunks):
        """Send a data set, aside since it may be more than the kernel keeps, and receive it."""
        self.sending = Background(self.requestor.send, self.requestor.contexts[3], STORE, chunks)
        return self.acceptor.receive(5)


@pytest.fixture
def ends(pair):
    return Ends(pair)


class Background(threading.Thread):
    """Does something blocking, and keeps what came of it."""

    def __init__(self, act, *arguments):
        super().__init__(daemon=True)
        self.act, self.arguments, self.outcome = act, arguments, None
        self.start()

    def run(self):
        try:
            self.outcome = self.act(*self.arguments)
        except AssociationEnded as ended:
            self.outcome = ended

    def result(self):
        self.join(10)
        assert not self.is_alive()
        return self.outcome


def test_a_message_comes_with_its_context_and_its_answer_goes_back(ends):
    assert ends.echo() == 0
    assert (ends.acceptor.messages_received, ends.acceptor.messages_sent) == (1, 1)


def test_both_ends_know_whom_they_speak_with(ends):
    assert ends.acceptor.calling_ae_title == "MODALITY"
    assert ends.requestor.called_ae_title == "HARMONI"
    assert ends.acceptor.contexts[3].abstract_syntax == CT
    assert ends.acceptor.token == "token"
    assert ends.requestor.answer.presentation_contexts[0].id == 1


def test_without_a_message_receive_gives_none(ends):
    assert ends.acceptor.receive(0) is None
    assert ends.acceptor.receive(0.01) is None


@pytest.mark.parametrize("sizes", [[0], [1], [7, 0, 9], [131_071], [40_000] * 3])
def test_a_data_set_flows_into_its_sink_unchanged(ends, sizes):
    chunks = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    ends.store(*chunks)
    memory = Memory()
    ends.acceptor.receive_data_set(memory)
    assert memory.data == b"".join(chunks)


def test_command_and_first_fragment_leave_in_one_write(ends):
    ends.requestor.send(ends.requestor.contexts[3], STORE, [b"first"])
    there = ends.sockets[1].recv(10_000)
    assert there.endswith(b"first")


def test_an_identifier_comes_as_bytes(ends):
    ends.store(b"abc", b"def")
    assert ends.acceptor.receive_bytes(100) == b"abcdef"


def test_an_identifier_beyond_its_limit_is_refused_and_the_association_goes_on(ends):
    ends.store(bytes(101))
    with pytest.raises(InvalidInput, match="more than 100 bytes"):
        ends.acceptor.receive_bytes(100)
    assert ends.echo() == 0


def test_a_sink_that_fails_costs_the_data_set_and_not_the_association(ends):
    class Full(Memory):
        def commit(self, _count):
            raise OutOfResources("the disk is full")

    ends.store(bytes(90_000))
    with pytest.raises(OutOfResources, match="disk is full"):
        ends.acceptor.receive_data_set(Full())
    assert ends.echo() == 0


def test_a_data_set_that_nobody_wants_can_be_thrown_away(ends):
    ends.store(bytes(90_000))
    ends.acceptor.discard_data_set()
    assert ends.echo() == 0


def test_a_data_set_must_be_taken_before_the_next_message(ends):
    ends.store(b"x")
    with pytest.raises(LocalProtocolError, match="was not taken"):
        ends.acceptor.receive(1)


def test_a_data_set_that_is_not_there_cannot_be_taken(ends):
    with pytest.raises(LocalProtocolError, match="no data set waits"):
        ends.acceptor.receive_data_set(Memory())


def test_a_release_of_the_peer_is_answered(ends):
    release = Background(ends.requestor.release, 5)
    with pytest.raises(AssociationEnded) as ended:
        ends.acceptor.receive()
    assert ended.value.kind is Ending.RELEASED
    release.result()
    assert ends.requestor.ended.kind is Ending.RELEASED


def test_after_the_end_every_use_says_how_it_ended(ends):
    release = Background(ends.requestor.release, 5)
    with pytest.raises(AssociationEnded):
        ends.acceptor.receive()
    release.result()
    for use in (ends.acceptor.receive, ends.requestor.receive):
        with pytest.raises(AssociationEnded, match="released"):
            use(0)
    with pytest.raises(AssociationEnded, match="released"):
        ends.requestor.send(ends.requestor.contexts[1], ECHO)
    ends.requestor.release(1)
    ends.requestor.abort()
    assert ends.requestor.ended.kind is Ending.RELEASED


def test_both_may_ask_for_release_at_the_same_time(ends):
    first = Background(ends.requestor.release, 5)
    second = Background(ends.acceptor.release, 5)
    first.result()
    second.result()
    assert (ends.requestor.ended.kind, ends.acceptor.ended.kind) == ("released", "released")


def test_a_release_after_the_peer_has_asked_for_it_is_agreement(ends):
    ends.acceptor.send(ends.acceptor.contexts[1], response(ECHO, 0))
    release = Background(ends.acceptor.release, 5)
    while not ends.sockets[0].recv(4096, socket.MSG_PEEK).endswith(A_RELEASE_RQ):
        pass
    # One read takes both in.
    assert ends.requestor.receive(5).command.status == 0
    ends.requestor.release(5)
    release.result()
    assert (ends.requestor.ended.kind, ends.acceptor.ended.kind) == ("released", "released")


def test_what_still_comes_during_a_release_is_thrown_away(ends):
    ends.requestor.send(ends.requestor.contexts[3], STORE, [bytes(9_000)])
    ends.requestor.send(ends.requestor.contexts[1], ECHO)
    release = Background(ends.acceptor.release, 5)
    with pytest.raises(AssociationEnded, match="released"):
        ends.requestor.receive()
    release.result()
    assert ends.acceptor.ended.kind is Ending.RELEASED


def test_a_release_that_nobody_answers_becomes_an_abort(ends):
    ends.acceptor.release(0.01)
    assert ends.acceptor.ended.kind is Ending.TIMEOUT
    assert ends.sockets[0].recv(10)[0] == 0x05
    assert ends.sockets[0].recv(10)[0] == A_ABORT


def test_an_abort_of_the_peer_ends_the_association_with_its_numbers(ends):
    abort = Background(ends.requestor.abort, 0, 0)
    with pytest.raises(AssociationEnded, match="peer aborted") as ended:
        ends.acceptor.receive()
    assert ended.value.kind is Ending.ABORTED
    abort.result()


def test_a_peer_that_is_gone_ends_the_association(ends):
    ends.sockets[0].close()
    with pytest.raises(AssociationEnded) as ended:
        ends.acceptor.receive()
    assert ended.value.kind is Ending.CLOSED


def test_a_data_set_cut_short_never_looks_complete(ends):
    memory = Memory()
    ends.requestor.send(ends.requestor.contexts[3], STORE, [bytes(1000)])
    ends.sockets[0].close()
    there = ends.sockets[1].recv(100_000)
    cut = socket.socketpair()
    short = Ends(cut)
    cut[0].sendall(there[:-10])
    cut[0].close()
    short.acceptor.receive(5)
    with pytest.raises(AssociationEnded, match="closed"):
        short.acceptor.receive_data_set(memory)


def test_a_peer_that_breaks_the_protocol_is_aborted_with_the_reason(ends):
    ends.sockets[0].sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(AssociationEnded, match="PDU type 53H") as ended:
        ends.acceptor.receive()
    assert ended.value.kind is Ending.ABORTED
    assert ends.sockets[0].recv(10) == bytes([A_ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 1])


def test_a_source_that_fails_before_its_first_byte_costs_nothing(ends):
    def damaged():
        raise Damaged("segment 0")
        yield b""

    with pytest.raises(Damaged):
        ends.requestor.send(ends.requestor.contexts[3], STORE, damaged())
    assert ends.echo() == 0


def test_a_source_that_fails_later_aborts_before_the_peer_has_the_last_fragment(ends):
    def damaged():
        yield bytes(300_000)
        raise Damaged("the last segment")

    memory = Memory()
    failing = []

    def send():
        try:
            ends.requestor.send(ends.requestor.contexts[3], STORE, damaged())
        except Damaged as error:
            failing.append(error)

    sending = Background(send)
    ends.acceptor.receive(5)
    with pytest.raises(AssociationEnded, match="peer aborted"):
        ends.acceptor.receive_data_set(memory)
    sending.result()
    assert len(failing) == 1
    assert ends.requestor.ended.kind is Ending.ABORTED


def test_an_idle_association_is_aborted(pair):
    clock = FakeClock()
    ends = Ends(pair, clock=clock)
    clock.advance(599)
    assert ends.acceptor.receive(0) is None
    clock.advance(1)
    receiving = Background(ends.acceptor.receive, 0)
    assert pair[0].recv(10)[0] == A_ABORT
    pair[0].close()
    ended = receiving.result()
    assert (ended.kind, ended.why) == (Ending.TIMEOUT, "no byte moved for 600 s")


def test_a_data_set_that_stops_coming_is_aborted(ends):
    ends.requestor.send(ends.requestor.contexts[3], STORE, [bytes(1000)])
    there = ends.sockets[1].recv(100_000)
    with_peer = socket.socketpair()
    stopping = Ends(with_peer, idle_s=0.05)
    with_peer[0].sendall(there[:-10])
    stopping.acceptor.receive(5)
    with pytest.raises(AssociationEnded, match=r"no byte moved for 0\.05 s") as ended:
        stopping.acceptor.receive_data_set(Memory())
    assert ended.value.kind is Ending.TIMEOUT
    assert with_peer[0].recv(10)[0] == A_ABORT
    with_peer[0].close()


def test_a_receiver_that_stalls_is_given_up(pair):
    ends = Ends(pair, stall_s=0.05)
    with pytest.raises(AssociationEnded, match="took no bytes") as ended:
        ends.requestor.send(ends.requestor.contexts[3], STORE, [bytes(100_000)] * 100)
    assert ended.value.kind is Ending.TIMEOUT
    with pytest.raises(AssociationEnded):
        ends.requestor.receive(0)


def test_a_cancel_is_seen_between_two_answers(ends):
    assert not ends.acceptor.poll()
    cancel = Command(field=CommandField.C_CANCEL_RQ, message_id_responded_to=1)
    ends.requestor.send(ends.requestor.contexts[1], cancel)
    assert ends.acceptor.poll()
    assert ends.acceptor.receive(0).command.field is CommandField.C_CANCEL_RQ


def test_messages_read_together_are_given_one_by_one(ends):
    for _ in range(3):
        ends.requestor.send(ends.requestor.contexts[1], ECHO)
    assert ends.acceptor.receive(5).command == ECHO
    assert ends.acceptor.poll()
    assert [ends.acceptor.receive(0).command for _ in range(2)] == [ECHO, ECHO]


def test_a_part_of_a_message_is_not_lost_by_looking(ends):
    ends.requestor.send(ends.requestor.contexts[1], ECHO)
    there = ends.sockets[1].recv(10_000)
    ends.sockets[0].sendall(there[:20])
    assert ends.acceptor.poll()
    assert ends.acceptor.receive(0) is None
    ends.sockets[0].sendall(there[20:])
    assert ends.acceptor.receive(5).command == ECHO


def test_a_draining_process_releases_between_messages(pair):
    draining = threading.Event()
    ends = Ends(pair, draining=draining)
    assert ends.echo() == 0
    draining.set()
    leaving = Background(ends.acceptor.receive)
    with pytest.raises(AssociationEnded, match="released"):
        ends.requestor.receive()
    assert leaving.result().kind is Ending.RELEASED


def test_a_message_under_way_is_finished_before_a_drain(pair):
    draining = threading.Event()
    ends = Ends(pair, draining=draining)
    message = ends.store(bytes(1000))
    draining.set()
    memory = Memory()
    ends.acceptor.receive_data_set(memory)
    ends.acceptor.send(message.context, response(message.command, 0))
    ends.sending.result()
    assert len(memory.data) == 1000
    assert ends.requestor.receive(5).command.status == 0


def test_sending_in_a_context_that_was_not_accepted_is_our_own_fault(ends):
    foreign = loopback.accept_everything(ends.acceptor.request, FACTS).negotiated.contexts[1]
    unknown = type(foreign)(99, foreign.abstract_syntax, foreign.transfer_syntax, True, True)
    with pytest.raises(LocalProtocolError):
        ends.acceptor.send(unknown, ECHO)
    assert ends.echo() == 0


def test_an_answer_to_what_came_right_before_garbage_is_told_that_all_is_over(ends):
    command = PresentationDataValue(1, True, True, encode_command(ECHO))
    ends.sockets[0].sendall(encode(DataTF((command,))) + GARBAGE)
    message = ends.acceptor.receive(5)
    with pytest.raises(AssociationEnded) as ended:
        ends.acceptor.send(message.context, response(message.command, 0))
    assert ended.value.kind is Ending.ABORTED


def test_a_release_with_garbage_behind_it_is_an_abort(ends):
    ends.sockets[0].sendall(A_RELEASE_RQ + GARBAGE)
    with pytest.raises(AssociationEnded) as ended:
        ends.acceptor.receive(5)
    assert ended.value.kind is Ending.ABORTED


def test_a_release_of_ours_that_meets_one_with_garbage_behind_it_is_an_abort(ends):
    ends.sockets[0].sendall(A_RELEASE_RQ + GARBAGE)
    ends.acceptor.release(5)
    assert ends.acceptor.ended.kind is Ending.ABORTED
