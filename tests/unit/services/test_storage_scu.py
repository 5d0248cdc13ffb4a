import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.items import AsynchronousOperationsWindow
from harmoni.dicom.presentation import Accept, negotiate
from harmoni.model.errors import Damaged, NotAccepted, NotHeld
from harmoni.net.driver import AssociationEnded, Ending
from harmoni.net.server import Accepted
from harmoni.runtime.clock import SystemClock
from harmoni.services import provider, storage_scu
from harmoni.services.exchange import Operation
from harmoni.services.storage_scu import MAX_OUTSTANDING, Sent
from harmoni.testing import FakeClock
from loopback import serving
from memory_archive import CHUNK_BYTES, MemoryArchive, Stored
from served_archive import CT, IMPLICIT, JPEG, contexts, instance, served

SIXTEEN = AsynchronousOperationsWindow(invoked=16, performed=1)
UNLIMITED = AsynchronousOperationsWindow(invoked=0, performed=0)


class Watched:
    """An instance that notes in `opened` that it was opened, after `before` has returned."""

    def __init__(self, stored, opened, before=lambda: None):
        self._stored = stored
        self._opened = opened
        self._before = before

    def __getattr__(self, name):
        return getattr(self._stored, name)

    def open(self):
        self._before()
        self._opened.append(self.sop_instance_uid)
        return self._stored.open()


def plan_of(count):
    return [instance(number) for number in range(1, count + 1)]


@contextmanager
def peer(serve, *, proposed=SIXTEEN, granted=SIXTEEN):
    """An association for CT to a peer that does what the test says, with a window."""

    def decide(request, _):
        offered = negotiate(request, lambda context, _: Accept(context.transfer_syntaxes[0]))
        return Accepted(negotiated=offered, token=None, window=granted)

    with serving(decide=decide, serve=serve) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])), window=proposed)
        yield channel
        channel.release(5)


def receive(channel, count=1):
    """Take so many instances, and answer none."""
    operations = []
    for _ in range(count):
        operations.append(Operation(channel, channel.receive(10)))
        channel.discard_data_set()
    return operations


def answer_at_once(channel):
    while True:
        for operation in receive(channel):
            operation.respond(0)


def until_the_end(channel):
    channel.receive(10)


@st.composite
def plans(draw):
    """Instances of up to 300 classes in up to 3 syntaxes, in any order."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2)), max_size=400))
    return [
        Stored(
            sop_class_uid=f"1.2.{sop_class}",
            sop_instance_uid=f"1.3.{number}",
            transfer_syntax_uid=f"1.4.{syntax}",
            data=b"",
        )
        for number, (sop_class, syntax) in enumerate(pairs)
    ]


@given(plans())
def test_every_instance_is_in_one_batch_that_proposes_its_class_in_its_syntax(plan):
    sent = []
    for proposal, batch in storage_scu.batches(plan):
        ids = [context.id for context in proposal]
        assert 0 < len(ids) <= 128
        assert ids == [2 * index + 1 for index in range(len(ids))]
        proposed = {(c.abstract_syntax, *c.transfer_syntaxes) for c in proposal}
        assert proposed == {(one.sop_class_uid, one.transfer_syntax_uid) for one in batch}
        numbers = [int(one.sop_instance_uid[4:]) for one in batch]
        assert numbers == sorted(numbers)
        sent += batch
    assert sorted(sent, key=lambda one: int(one.sop_instance_uid[4:])) == plan


def outcomes(sent):
    return {one.outgoing.sop_instance_uid: one.status for one in sent}


@pytest.mark.parametrize("granted", [None, SIXTEEN])
def test_what_was_sent_is_what_is_kept(granted):
    archive = MemoryArchive()

    def serve(channel):
        provider.serve(channel, archive.handlers(), clock=SystemClock())

    plan = [instance(number, size=(number % 5) * 40_000) for number in range(1, 60)]
    with peer(serve, granted=granted) as channel:
        sent = list(storage_scu.send(channel, plan, timeout_s=10))
    assert len(sent) == len(plan)
    assert outcomes(sent) == {one.sop_instance_uid: 0 for one in plan}
    assert archive.instances == {one.sop_instance_uid: one for one in plan}


def test_sixteen_are_outstanding_before_the_first_answer():
    def serve(channel):
        for operation in receive(channel, 16):
            operation.respond(0)
        answer_at_once(channel)

    opened = []
    plan = [Watched(one, opened) for one in plan_of(40)]
    with peer(serve) as channel:
        sending = storage_scu.send(channel, plan, timeout_s=10)
        first = next(sending)
        assert len(opened) == 16
        assert outcomes([first, *sending]) == dict.fromkeys(opened, 0)
        assert len(opened) == 40


@pytest.mark.parametrize(
    ("proposed", "granted", "expected"),
    [
        (None, None, 1),
        (SIXTEEN, None, 1),
        (None, SIXTEEN, 1),
        (SIXTEEN, AsynchronousOperationsWindow(invoked=3, performed=9), 3),
        (AsynchronousOperationsWindow(invoked=3, performed=9), SIXTEEN, 3),
        (UNLIMITED, UNLIMITED, MAX_OUTSTANDING),
        (UNLIMITED, AsynchronousOperationsWindow(invoked=500, performed=1), MAX_OUTSTANDING),
    ],
)
def test_no_more_are_outstanding_than_proposed_and_granted(proposed, granted, expected):
    def serve(channel):
        for operation in receive(channel, expected):
            operation.respond(0)
        answer_at_once(channel)

    opened = []
    plan = [Watched(one, opened) for one in plan_of(20)]
    with peer(serve, proposed=proposed, granted=granted) as channel:
        for done, _ in enumerate(storage_scu.send(channel, plan, timeout_s=10)):
            assert len(opened) <= done + expected
            if done == 0:
                assert len(opened) == expected


def test_answers_in_reverse_order_are_those_of_their_instances():
    def serve(channel):
        operations = receive(channel, 16)
        for number, operation in reversed(list(enumerate(operations))):
            operation.respond(0xC000 + number)
        until_the_end(channel)

    plan = plan_of(16)
    with peer(serve) as channel:
        sent = list(storage_scu.send(channel, plan, timeout_s=10))
    expected = [Sent(one, status=0xC000 + number) for number, one in enumerate(plan)]
    assert sent == expected[::-1]


def test_an_answer_that_is_there_is_taken_before_the_next_is_sent():
    answered = threading.Semaphore(1)  # nothing needs to be answered before the first is sent

    def serve(channel):
        while True:
            for operation in receive(channel):
                operation.respond(0)
                answered.release()

    opened = []
    plan = [Watched(one, opened, lambda: answered.acquire(timeout=10)) for one in plan_of(10)]
    with peer(serve) as channel:
        for done, _ in enumerate(storage_scu.send(channel, plan, timeout_s=10), 1):
            assert len(opened) <= done + 1


def test_an_instance_without_its_context_and_an_unreadable_one_fail_alone():
    archive = MemoryArchive()
    good = instance(1)
    jpeg = instance(2, transfer_syntax_uid=JPEG)
    damaged = replace(instance(3), damaged_at=0)

    class Missing(Stored):
        def open(self):
            raise NotHeld("the pack is missing")

    missing = Missing(**vars(instance(4)))
    last = instance(5)
    with served(archive) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])))
        plan = [jpeg, good, damaged, missing, last]
        sent = {one.outgoing: one for one in storage_scu.send(channel, plan, timeout_s=10)}
        channel.release(5)
    assert set(sent) == set(plan)
    assert (sent[good].status, sent[last].status) == (0, 0)
    for one, kind in [(jpeg, NotAccepted), (damaged, Damaged), (missing, NotHeld)]:
        assert (sent[one].status, type(sent[one].error)) == (None, kind)
    assert set(archive.instances) == {good.sop_instance_uid, last.sop_instance_uid}


def test_what_a_peer_that_aborts_has_not_answered_is_not_yielded():
    def serve(channel):
        operations = receive(channel, 5)
        operations[3].respond(0)
        operations[1].respond(0xA700)
        channel.abort()

    plan = plan_of(5)
    sent = []
    with peer(serve) as channel:
        with pytest.raises(AssociationEnded) as raised:
            sent.extend(storage_scu.send(channel, plan, timeout_s=10))
        assert raised.value.kind is Ending.ABORTED
    assert sent == [Sent(plan[3], status=0), Sent(plan[1], status=0xA700)]


def test_an_answer_that_came_before_an_abort_is_yielded():
    answered = threading.Event()

    def serve(channel):
        receive(channel)[0].respond(0)
        answered.set()
        channel.abort()

    first, second, third = plan_of(3)
    plan = [first, Watched(second, [], lambda: answered.wait(10)), third]
    sent = []
    with peer(serve) as channel, pytest.raises(AssociationEnded):
        sent.extend(storage_scu.send(channel, plan, timeout_s=10))
    assert sent == [Sent(first, status=0)]


def test_an_instance_that_breaks_in_the_middle_is_named_and_the_others_are_not_settled():
    def serve(channel):
        receive(channel)
        receive(channel)

    broken = replace(instance(2, size=90 * CHUNK_BYTES), damaged_at=80 * CHUNK_BYTES)
    sent = []
    with peer(serve) as channel:
        with pytest.raises(storage_scu.Interrupted) as raised:
            sent.extend(storage_scu.send(channel, [instance(1), broken, instance(3)], timeout_s=10))
        assert channel.ended is not None
    assert raised.value.outgoing is broken
    assert isinstance(raised.value.fault, Damaged)
    assert sent == []


def test_a_peer_that_does_not_answer_is_aborted():
    def serve(channel):
        receive(channel, 2)
        until_the_end(channel)

    with peer(serve) as channel:
        with pytest.raises(AssociationEnded, match="no response to C_STORE_RQ") as raised:
            next(storage_scu.send(channel, plan_of(2), timeout_s=0.05))
        assert raised.value.kind is Ending.TIMEOUT
        assert channel.ended is not None


def test_every_answer_gives_the_peer_its_time_anew():
    clock = FakeClock()
    taken = threading.Semaphore(1)

    def serve(channel):
        for operation in receive(channel, 4):
            taken.acquire(timeout=10)
            clock.advance(9)
            operation.respond(0)
        until_the_end(channel)

    sent = []
    with peer(serve) as channel:
        for one in storage_scu.send(channel, plan_of(4), clock=clock, timeout_s=10):
            sent.append(one)
            taken.release()
    assert len(sent) == 4


def response_to(message_id):
    return Command(
        field=CommandField.C_STORE_RSP,
        message_id_responded_to=message_id,
        affected_sop_class_uid=CT,
        status=0,
    )


@pytest.mark.parametrize(
    ("commands", "settled"),
    [
        ([response_to(999)], 0),
        ([response_to(1), response_to(1)], 1),
        ([replace(response_to(1), field=CommandField.C_ECHO_RSP)], 0),
        ([replace(response_to(1), field=CommandField.C_STORE_RQ, message_id=1)], 0),
    ],
)
def test_what_answers_nothing_that_is_outstanding_breaks_the_protocol(commands, settled):
    def serve(channel):
        (operation, _) = receive(channel, 2)
        for command in commands:
            channel.send(operation.request.context, command)
        until_the_end(channel)

    sent = []
    with peer(serve) as channel, pytest.raises(AssociationEnded, match="we aborted: the peer sent"):
        sent.extend(storage_scu.send(channel, plan_of(2), timeout_s=10))
    assert len(sent) == settled


def test_who_stops_early_finds_the_association_as_it_was():
    with peer(answer_at_once) as channel:
        sending = storage_scu.send(channel, plan_of(40), timeout_s=10)
        next(sending)
        sending.close()
        assert channel.ended is None
        channel.abort()


def test_nothing_to_send_is_nothing_sent():
    with peer(until_the_end) as channel:
        assert list(storage_scu.send(channel, [])) == []
