"""Associations in pairs: the whole life, every state with every PDU, every cut of the bytes."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from association_pairs import (
    CT,
    IMPLICIT,
    OURS,
    REQUEST,
    Collect,
    Shell,
    accept_all,
    echo,
    established,
    sent,
    store,
    wire,
)
from harmoni.dicom import association as upper
from harmoni.dicom import dimse, pdu, presentation
from harmoni.dicom.items import RoleSelection
from harmoni.dicom.state_machine import NEXT_STATES, TABLE, Evt, State
from harmoni.model.errors import LocalProtocolError, OutOfResources

ARTIM_S = upper.DEFAULT_LIMITS.artim_s


def _requestor() -> Shell:
    return Shell(upper.Association(requestor=True, now_s=0.0))


def _acceptor() -> Shell:
    return Shell(upper.Association(requestor=False, now_s=0.0))


def _released_by_requestor() -> tuple[Shell, Shell]:
    requestor, acceptor = established()
    requestor.association.release()
    acceptor.feed(sent(requestor.association))
    return requestor, acceptor


def _collision() -> tuple[Shell, Shell]:
    requestor, acceptor = established()
    requestor.association.release()
    acceptor.association.release()
    requestor.feed(sent(acceptor.association))
    acceptor.feed(sent(requestor.association))
    return requestor, acceptor


def in_state(state: State) -> Shell:  # noqa: PLR0911 - one case per state
    """A shell whose association was led into a state by bytes and primitives alone."""
    match state:
        case State.STA2:
            return _acceptor()
        case State.STA3:
            acceptor = _acceptor()
            acceptor.feed(pdu.encode(REQUEST))
            return acceptor
        case State.STA5:
            requestor = _requestor()
            requestor.association.associate(REQUEST)
            return requestor
        case State.STA6:
            return established()[1]
        case State.STA7:
            return _released_by_requestor()[0]
        case State.STA8:
            return _released_by_requestor()[1]
        case State.STA9:
            return _collision()[0]
        case State.STA10:
            return _collision()[1]
        case State.STA11:
            requestor, _ = _collision()
            requestor.association.confirm_release(now_s=0.0)
            return requestor
        case State.STA12:
            acceptor = _collision()[1]
            acceptor.feed(pdu.encode(pdu.ReleaseRP()))
            return acceptor
        case State.STA13:
            acceptor = established()[1]
            acceptor.association.abort(now_s=0.0)
            return acceptor
    raise AssertionError(state)


REACHABLE = [state for state in State if state not in (State.STA1, State.STA4)]
ANSWER = pdu.AssociateAC(
    called_ae_title="ARCHIVE",
    calling_ae_title="MODALITY",
    presentation_contexts=(pdu.AnsweredContext(1, 0, IMPLICIT), pdu.AnsweredContext(3, 3)),
    user_information=OURS,
)
PDUS = {
    Evt.ASSOCIATE_AC_PDU: pdu.encode(ANSWER),
    Evt.ASSOCIATE_RJ_PDU: pdu.encode(pdu.AssociateRJ(1, 1, 7)),
    Evt.ASSOCIATE_RQ_PDU: pdu.encode(REQUEST),
    Evt.DATA_TF_PDU: pdu.encode(
        pdu.DataTF(
            (
                pdu.PresentationDataValue(
                    3, is_command=True, is_last=True, data=dimse.encode_command(echo())
                ),
            )
        )
    ),
    Evt.RELEASE_RQ_PDU: pdu.encode(pdu.ReleaseRQ()),
    Evt.RELEASE_RP_PDU: pdu.encode(pdu.ReleaseRP()),
    Evt.ABORT_PDU: pdu.encode(pdu.Abort(0, 0)),
    Evt.INVALID_PDU: bytes.fromhex("0800 00000004 00000000"),
}
INDICATED = {
    "AE-3": upper.AssociateAccepted,
    "AE-4": upper.AssociateRejected,
    "AE-6": upper.AssociateRequested,
    "DT-2": upper.CommandReceived,
    "AR-2": upper.ReleaseRequested,
    "AR-3": upper.ReleaseConfirmed,
    "AR-6": upper.CommandReceived,
    "AR-8": upper.ReleaseRequested,
    "AR-10": upper.ReleaseConfirmed,
    "AA-1": upper.Aborted,
    "AA-2": None,
    "AA-3": upper.Aborted,
    "AA-6": None,
    "AA-7": None,
    "AA-8": upper.Aborted,
}


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize("evt", PDUS)
def test_every_pdu_in_every_state_does_what_table_9_10_says(state, evt):
    shell = in_state(state)
    association = shell.association
    shell.take_events()
    association.data_to_send()
    assert association.state == state
    action = TABLE[evt, state]

    shell.feed(PDUS[evt], now_s=1.0)

    assert association.state in NEXT_STATES[action]
    assert association.closing == (association.state is State.STA1)
    expected = INDICATED[action.value]
    if (action.value, state) == ("AA-2", State.STA2):
        expected = upper.Aborted
    assert [type(event) for event in shell.events] == ([] if expected is None else [expected])
    aborts = action.value in ("AA-1", "AA-7", "AA-8")
    reason = 1 if evt is Evt.INVALID_PDU else 2
    assert sent(association) == (pdu.encode(pdu.Abort(2, reason)) if aborts else b"")


@pytest.mark.parametrize("state", REACHABLE)
def test_a_transport_closed_in_any_state_ends_everything(state):
    shell = in_state(state)
    shell.take_events()
    shell.close()
    assert shell.events == [upper.TransportClosed()]
    assert shell.association.closing
    assert shell.association.deadline_s() is None


@pytest.mark.parametrize("state", REACHABLE)
def test_artim_runs_in_sta2_and_sta13_alone(state):
    association = in_state(state).association
    runs = state in (State.STA2, State.STA13)
    assert association.deadline_s() == (ARTIM_S if runs else None)
    assert association.handle_timer(ARTIM_S - 0.1) == []
    assert not association.closing
    events = association.handle_timer(ARTIM_S)
    assert association.closing == runs
    assert [type(event) for event in events] == ([upper.Aborted] if state is State.STA2 else [])


PRIMITIVES = {
    Evt.ASSOCIATE_ACCEPT: lambda a: a.accept(presentation.negotiate(REQUEST, accept_all), OURS),
    Evt.ASSOCIATE_REJECT: lambda a: a.reject(1, 1, 3, now_s=0.0),
    Evt.RELEASE_REQUEST: lambda a: a.release(),
    Evt.DATA_REQUEST: lambda a: list(a.message(3, echo())),
}


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize("evt", PRIMITIVES)
def test_a_primitive_that_table_9_10_does_not_have_is_our_callers_fault(state, evt):
    association = in_state(state).association
    if (evt, state) in TABLE:
        PRIMITIVES[evt](association)
        assert association.state in NEXT_STATES[TABLE[evt, state]]
    else:
        with pytest.raises(LocalProtocolError):
            PRIMITIVES[evt](association)
        assert association.state == state


def test_abort_sends_a_abort_in_every_open_state_and_waits_for_the_transport_to_close():
    for state in REACHABLE:
        association = in_state(state).association
        association.data_to_send()
        if state is State.STA2:
            with pytest.raises(LocalProtocolError):
                association.abort(now_s=0.0)
            continue
        association.abort(2, 6, now_s=5.0)
        assert association.state is State.STA13
        over = state is State.STA13
        assert sent(association) == (b"" if over else pdu.encode(pdu.Abort(2, 6)))
        assert association.deadline_s() == (ARTIM_S if over else 5.0 + ARTIM_S)


def test_both_sides_know_the_same_contexts():
    requestor, acceptor = established()
    ours, theirs = acceptor.association.contexts, requestor.association.contexts
    assert ours.keys() == theirs.keys() == {1, 3}
    assert ours[1].as_scp
    assert theirs[1].as_scu
    assert requestor.association.answer.user_information.implementation_class_uid == "2.25.1"


def test_the_announced_maximum_length_is_the_enforced_one():
    requestor, acceptor = established(limits=upper.Limits(max_pdu_bytes=4096))
    assert requestor.association.answer.user_information.max_length == 4096
    length = (4098).to_bytes(4, "big")
    acceptor.feed(b"\x04\0" + length)
    (aborted,) = acceptor.events
    assert (aborted.by_peer, aborted.source, aborted.reason) == (False, 2, 6)
    assert "4096" in aborted.why


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    max_length=st.integers(12, 700),
    window=st.integers(1, 900),
    chunk=st.integers(1, 1000),
    data=st.data(),
)
def test_any_cut_of_the_stream_gives_the_same_events(sizes, max_length, window, chunk, data):
    limits = upper.Limits(max_pdu_bytes=max_length, max_empty_fragments=4)
    requestor, acceptor = established(limits=limits, window=window)
    contents = [bytes((n + i) & 0xFF for i in range(size)) for n, size in enumerate(sizes)]
    stream = b""
    for number, content in enumerate(contents):
        chunks = [content[at : at + chunk] for at in range(0, len(content), chunk)]
        stream += wire(requestor.association, 1, store(number), chunks)
        stream += wire(requestor.association, 3, echo(number))
    requestor.association.release()
    stream += sent(requestor.association)

    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    places = [0, *sorted(cuts), len(stream)]
    for begin, end in itertools.pairwise(places):
        acceptor.feed(stream[begin:end])

    expected: list[upper.Event] = []
    for number in range(len(contents)):
        expected += [
            upper.CommandReceived(1, store(number), has_data_set=True),
            upper.DataSetReceived(1),
            upper.CommandReceived(3, echo(number), has_data_set=False),
        ]
    assert acceptor.events == [*expected, upper.ReleaseRequested()]
    assert [bytes(sink.data) for sink in acceptor.sinks] == contents


def test_a_whole_life_byte_by_byte():
    requestor, acceptor = _requestor(), _acceptor()

    def carry(source: Shell, target: Shell, data: bytes) -> None:
        for byte in data:
            target.feed(bytes([byte]))

    requestor.association.associate(REQUEST)
    carry(requestor, acceptor, sent(requestor.association))
    acceptor.association.accept(presentation.negotiate(REQUEST, accept_all), OURS)
    carry(acceptor, requestor, sent(acceptor.association))
    carry(requestor, acceptor, wire(requestor.association, 1, store(), [b"abcd" * 50]))
    carry(acceptor, requestor, wire(acceptor.association, 1, dimse.response(store(), 0)))
    requestor.association.release()
    carry(requestor, acceptor, sent(requestor.association))
    acceptor.association.confirm_release(now_s=0.0)
    carry(acceptor, requestor, sent(acceptor.association))
    assert requestor.association.closing
    acceptor.close()
    assert acceptor.association.closing
    assert [type(event).__name__ for event in acceptor.events] == [
        "AssociateRequested",
        "CommandReceived",
        "DataSetReceived",
        "ReleaseRequested",
        "TransportClosed",
    ]
    assert [type(event).__name__ for event in requestor.events] == [
        "AssociateAccepted",
        "CommandReceived",
        "ReleaseConfirmed",
    ]
    assert bytes(acceptor.sinks[0].data) == b"abcd" * 50


_ACTS = st.sampled_from(["store", "echo", "release", "confirm", "abort", "carry", "carry all"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_ACTS, st.booleans(), st.integers(1, 400)), max_size=25))
def test_two_associations_never_accuse_each_other(acts):
    """Whatever both sides do in whatever order, as long as Table 9-10 lets them."""
    shells = established()
    wires = [bytearray(), bytearray()]  # what a side has sent and the other has not read
    for act, second, count in [*acts, ("carry all", False, 0), ("carry all", True, 0)]:
        shell, other = shells[second], shells[not second]
        association = shell.association
        line = wires[second]
        try:
            match act:
                case "store":
                    line += wire(association, 1, store(), [bytes(count)])
                case "echo":
                    line += wire(association, 3, echo())
                case "release":
                    association.release()
                case "confirm":
                    association.confirm_release(now_s=0.0)
                case "abort":
                    association.abort(now_s=0.0)
        except LocalProtocolError:
            assert act in ("store", "echo", "release", "confirm", "abort")
        line += sent(association)
        if act.startswith("carry"):
            carried = line[: len(line) if act == "carry all" else count]
            other.feed(bytes(carried))
            del line[: len(carried)]
    for shell in shells:
        accusations = [event for event in shell.events if isinstance(event, upper.Aborted)]
        assert all(event.by_peer for event in accusations)


@settings(max_examples=200, deadline=None)
@given(state=st.sampled_from(REACHABLE), stream=st.binary(max_size=80), data=st.data())
def test_arbitrary_bytes_give_events_or_an_abort_and_nothing_else(state, stream, data):
    if data.draw(st.booleans()):
        stream = data.draw(st.sampled_from([*PDUS.values()])) + stream
    shell = in_state(state)
    shell.feed(stream)
    shell.association.data_to_send()
    assert shell.association.state in State


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 1 << 16), byte=st.integers(0, 255))
def test_a_damaged_byte_in_a_message_gives_events_or_an_abort(at, byte):
    requestor, acceptor = established(requestor_limits=upper.Limits(max_pdu_bytes=64))
    stream = bytearray(wire(requestor.association, 1, store(), [bytes(range(200))]))
    stream[at % len(stream)] = byte
    acceptor.feed(bytes(stream))
    kinds = {type(event) for event in acceptor.events}
    assert kinds <= {upper.CommandReceived, upper.DataSetReceived, upper.Aborted}


def test_a_large_object_costs_one_read_per_pdu_and_no_copy_through_scratch():
    requestor, acceptor = established()
    stream = wire(requestor.association, 1, store(), [bytes(512 * 1024)])
    acceptor.reads = 0
    acceptor.feed(stream)
    assert acceptor.events[-1] == upper.DataSetReceived(1)
    # 64 KiB of scratch with the command, then the rest of each PDU with the headers of the next.
    assert acceptor.reads <= 6
    assert len(acceptor.sinks[0].data) == 512 * 1024


def test_a_small_object_costs_one_read():
    requestor, acceptor = established()
    stream = wire(requestor.association, 1, store(), [bytes(16 * 1024)])
    acceptor.reads = 0
    acceptor.feed(stream)
    assert acceptor.reads == 1
    assert acceptor.events[-1] == upper.DataSetReceived(1)


def test_a_sink_is_never_asked_for_more_than_a_pdu():
    requestor, acceptor = established()
    acceptor.feed(wire(requestor.association, 1, store(), [bytes(1 << 20)]))
    assert acceptor.sinks[0].largest_wanted <= 131072 + 12


def test_reading_while_a_data_set_waits_for_its_sink_is_our_callers_fault():
    requestor, acceptor = established()
    association = acceptor.association
    data = wire(requestor.association, 1, store(), [bytes(10)])
    association.receive_buffer()[: len(data)] = data
    (event,) = association.received(len(data), 0.0)
    assert event.has_data_set
    with pytest.raises(LocalProtocolError, match="receive_data_set"):
        association.receive_buffer()
    assert association.receive_data_set(Collect(), 0.0) == [upper.DataSetReceived(1)]
    with pytest.raises(LocalProtocolError, match="no data set is expected"):
        association.receive_data_set(Collect(), 0.0)


class Full:
    """A sink that runs full, at once when reserving or when committing."""

    def __init__(self, *, when: str, after: int) -> None:
        self._when = when
        self._left = after
        self._memory = bytearray()

    def reserve(self, wanted: int) -> memoryview:
        if self._when == "reserve" and self._left <= 0:
            raise OutOfResources("the disk is full")
        self._memory = bytearray(wanted)
        return memoryview(self._memory)

    def commit(self, count: int) -> None:
        self._left -= count
        if self._when == "commit" and self._left <= 0:
            raise OutOfResources("the disk is full")


@pytest.mark.parametrize("when", ["reserve", "commit"])
@pytest.mark.parametrize("after", [0, 50, 150, 250])
@pytest.mark.parametrize("step", [1, 7, 100, 1000])
def test_after_a_sink_raised_the_rest_goes_to_another_and_the_association_lives(when, after, step):
    requestor, acceptor = established(limits=upper.Limits(max_pdu_bytes=70))
    association = acceptor.association
    stream = wire(requestor.association, 1, store(), [bytes(200)])
    stream += wire(requestor.association, 3, echo())
    raised = 0
    events: list[upper.Event] = []
    at = 0
    while at < len(stream):
        try:
            memory = association.receive_buffer()
        except OutOfResources:
            raised += 1
            events += association.receive_data_set(Collect(), 0.0)
            continue
        count = min(step, len(memory), len(stream) - at)
        memory[:count] = stream[at : at + count]
        at += count
        pending = [lambda count=count: association.received(count, 0.0)]
        while pending:
            try:
                new = pending.pop()()
            except OutOfResources:
                raised += 1
                new = association.receive_data_set(Collect(), 0.0)
            events += new
            if new and isinstance(new[-1], upper.CommandReceived) and new[-1].has_data_set:
                full = Full(when=when, after=after)
                pending.append(lambda full=full: association.receive_data_set(full, 0.0))
    assert [type(event) for event in events] == [
        upper.CommandReceived,
        upper.DataSetReceived,
        upper.CommandReceived,
    ]
    assert raised == (after < 200)


def _data(*values: tuple[int, bool, bool, bytes]) -> bytes:
    return pdu.encode(pdu.DataTF(tuple(pdu.PresentationDataValue(*value) for value in values)))


STORE = dimse.encode_command(store())
ECHO = dimse.encode_command(echo())


def test_several_values_in_one_pdu_are_taken_one_by_one():
    _, acceptor = established()
    acceptor.feed(
        _data(
            (1, True, False, STORE[:20]),
            (1, True, True, STORE[20:]),
            (1, False, False, b"ab"),
            (1, False, False, b""),
            (1, False, True, b"cd"),
            (3, True, True, ECHO),
        )
    )
    assert [type(event).__name__ for event in acceptor.events] == [
        "CommandReceived",
        "DataSetReceived",
        "CommandReceived",
    ]
    assert bytes(acceptor.sinks[0].data) == b"abcd"


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (_data((1, False, True, b"abcd")), 5),  # data before a command
        (_data((5, True, True, ECHO)), 6),  # a context that was not accepted
        (_data((1, True, True, STORE), (3, False, True, b"ab")), 5),  # another context's data
        (_data((1, True, False, STORE[:20]), (3, True, True, ECHO)), 5),  # interleaved commands
        (_data((1, True, True, STORE), (1, True, True, STORE)), 5),  # a command instead of data
        (_data((1, True, True, STORE), *[(1, False, False, b"")] * 17), 6),  # only empty ones
        (_data((1, True, True, b"no command")), 6),
        (_data((1, True, False, bytes(65000)), (1, True, False, bytes(600))), 6),  # 64 KiB
        (bytes.fromhex("0400 00000006 00000001 0103"), 6),  # a value of 1 byte
        (bytes.fromhex("0400 00000006 00000003 0103"), 6),  # a value longer than its PDU
        (bytes.fromhex("0400 00000008 00000002 0101 0000"), 6),  # 2 bytes that are no value
        (bytes.fromhex("0400 00000000"), 6),  # no value at all
        (bytes.fromhex("0500 00000005 0000000000"), 6),  # a release of 5 bytes
        (bytes.fromhex("0700 FFFFFFFF"), 6),  # an absurd length
        (_data((1, True, True, STORE)) + pdu.encode(pdu.ReleaseRQ()), 2),  # release in a message
    ],
)
def test_a_broken_message_ends_in_a_abort_with_the_reason_of_ps3_8(stream, reason):
    _, acceptor = established()
    acceptor.feed(stream)
    aborted = acceptor.events[-1]
    assert isinstance(aborted, upper.Aborted)
    assert (aborted.by_peer, aborted.source, aborted.reason) == (False, 2, reason)
    assert sent(acceptor.association) == pdu.encode(pdu.Abort(2, reason))
    assert acceptor.association.state is State.STA13


def test_after_our_abort_everything_is_ignored_until_the_transport_closes():
    requestor, acceptor = established()
    acceptor.feed(bytes.fromhex("0400 00000008 00000002 0101"))
    acceptor.take_events()
    acceptor.association.data_to_send()
    acceptor.feed(b"\0\0" + wire(requestor.association, 1, store(), [bytes(300_000)]))
    assert acceptor.events == []
    assert sent(acceptor.association) == b""
    acceptor.close()
    assert acceptor.association.closing


def test_an_abort_while_a_data_set_waits_makes_room_for_reading_on():
    requestor, acceptor = established()
    association = acceptor.association
    data = wire(requestor.association, 1, store(), [bytes(100_000)])
    memory = association.receive_buffer()
    size = len(memory)
    memory[:] = data[:size]
    association.received(size, 0.0)
    association.abort(now_s=0.0)
    acceptor.feed(data[size:])
    acceptor.feed(pdu.encode(pdu.Abort(0, 0)))
    assert association.closing


@pytest.mark.parametrize(
    ("change", "rejection"),
    [
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"application_context": "1.2.3"}, (1, 1, 2)),
    ],
)
def test_a_request_that_the_provider_cannot_take_is_rejected(change, rejection):
    acceptor = _acceptor()
    acceptor.feed(pdu.encode(replace(REQUEST, **change)))
    (aborted,) = acceptor.events
    assert "not supported" in aborted.why
    assert sent(acceptor.association) == pdu.encode(pdu.AssociateRJ(*rejection))
    assert acceptor.association.state is State.STA13
    assert acceptor.association.deadline_s() == ARTIM_S


@pytest.mark.parametrize("max_length", [1, 6, 11])
def test_a_maximum_length_that_nobody_means_is_refused(max_length):
    acceptor = _acceptor()
    request = replace(REQUEST, user_information=replace(OURS, max_length=max_length))
    acceptor.feed(pdu.encode(request))
    assert sent(acceptor.association) == pdu.encode(pdu.Abort(2, 6))


@pytest.mark.parametrize(("max_length", "longest"), [(0, 131072), (16, 16), (1 << 31, 131072)])
def test_we_send_what_the_peer_takes_and_never_more_than_128_kib(max_length, longest):
    acceptor = _acceptor()
    request = replace(REQUEST, user_information=replace(OURS, max_length=max_length))
    acceptor.feed(pdu.encode(request))
    acceptor.association.accept(presentation.negotiate(request, accept_all), OURS)
    stream = wire(acceptor.association, 1, store(), [bytes(300_000)])
    at = 0
    lengths = set()
    while at < len(stream):
        _, length = pdu.HEADER.unpack_from(stream, at)
        lengths.add(length)
        at += 6 + length
    assert max(lengths) == longest


def test_an_association_pdu_above_its_limit_is_refused_before_it_is_read():
    acceptor = _acceptor()
    acceptor.feed(b"\x01\0" + (1024 * 1024 + 1).to_bytes(4, "big"))
    assert sent(acceptor.association) == pdu.encode(pdu.Abort(2, 6))


def test_an_answer_that_accepts_what_was_not_proposed_is_aborted():
    requestor = _requestor()
    requestor.association.associate(REQUEST)
    requestor.association.data_to_send()
    answered = (pdu.AnsweredContext(7, 0, IMPLICIT),)
    requestor.feed(pdu.encode(replace(ANSWER, presentation_contexts=answered)))
    assert sent(requestor.association) == pdu.encode(pdu.Abort(2, 6))


def test_only_the_requestor_associates_and_only_once():
    with pytest.raises(LocalProtocolError):
        _acceptor().association.associate(REQUEST)
    requestor = in_state(State.STA5).association
    with pytest.raises(LocalProtocolError):
        requestor.associate(REQUEST)
    with pytest.raises(LocalProtocolError):
        _requestor().association.received(1, 0.0)


def test_the_request_and_the_answer_are_unknown_before_they_came():
    association = _acceptor().association
    with pytest.raises(LocalProtocolError):
        _ = association.request
    with pytest.raises(LocalProtocolError):
        _ = association.answer


def test_a_value_that_cannot_be_sent_leaves_the_state_as_it_was():
    association = _requestor().association
    with pytest.raises(LocalProtocolError):
        association.associate(replace(REQUEST, called_ae_title="A" * 17))
    assert association.state is State.STA1
    association.associate(REQUEST)


def test_in_a_collision_each_side_confirms_and_both_end():
    requestor, acceptor = _collision()
    assert isinstance(requestor.events[-1], upper.ReleaseRequested)
    assert isinstance(acceptor.events[-1], upper.ReleaseRequested)
    acceptor.association.confirm_release(now_s=0.0)
    assert sent(acceptor.association) == b""
    requestor.association.confirm_release(now_s=0.0)
    acceptor.feed(sent(requestor.association))
    assert isinstance(acceptor.events[-1], upper.ReleaseConfirmed)
    requestor.feed(sent(acceptor.association))
    assert requestor.association.closing
    acceptor.close()
    assert acceptor.association.closing


def test_messages_never_interleave():
    requestor, _ = established()
    association = requestor.association
    half = association.message(1, store(), [bytes(300_000)])
    next(half)
    with pytest.raises(LocalProtocolError, match="not finished"):
        next(association.message(3, echo()))
    with pytest.raises(LocalProtocolError, match="not finished"):
        association.release()
    list(half)
    list(association.message(3, echo()))


def test_a_source_that_raises_before_anything_was_sent_leaves_the_association_usable():
    requestor, _ = established()

    def source():
        raise OutOfResources("no such file")
        yield b""

    with pytest.raises(OutOfResources):
        list(requestor.association.message(1, store(), source()))
    list(requestor.association.message(3, echo()))


def test_a_source_that_raises_half_way_leaves_only_abort():
    requestor, acceptor = established()

    def source():
        yield bytes(300_000)
        raise OutOfResources("the disk is gone")

    lists: list[list[pdu.Buffer]] = []
    with pytest.raises(OutOfResources):
        lists.extend(requestor.association.message(1, store(), source()))
    stream = b"".join(part for buffers in lists for part in buffers)
    with pytest.raises(LocalProtocolError):
        next(requestor.association.message(3, echo()))
    requestor.association.abort(now_s=0.0)
    acceptor.feed(stream + sent(requestor.association))
    assert [type(event).__name__ for event in acceptor.events] == ["CommandReceived", "Aborted"]


def test_a_message_that_contradicts_itself_is_our_callers_fault():
    association = established()[0].association
    for arguments in ((1, store()), (3, echo(), [b""]), (9, echo())):
        with pytest.raises(LocalProtocolError):
            next(association.message(*arguments))


def test_a_message_ends_when_the_peer_aborts_in_its_middle():
    requestor, _ = established()
    lists = requestor.association.message(1, store(), [bytes(300_000)])
    next(lists)
    requestor.feed(pdu.encode(pdu.Abort(0, 0)))
    with pytest.raises(LocalProtocolError):
        next(lists)


def test_data_still_arrives_after_we_asked_for_release():
    requestor, acceptor = established()
    requestor.association.release()
    answer = dimse.response(store(), 0)
    requestor.feed(wire(acceptor.association, 1, answer))
    assert requestor.events == [upper.CommandReceived(1, answer, has_data_set=False)]


def test_the_roles_of_the_negotiation_are_in_the_answer():
    role = RoleSelection(sop_class_uid=CT, scu=False, scp=True)
    request = replace(REQUEST, user_information=replace(OURS, roles=(role,)))
    requestor, acceptor = _requestor(), _acceptor()
    requestor.association.associate(request)
    acceptor.feed(sent(requestor.association))
    negotiated = presentation.negotiate(
        request,
        lambda context, _: presentation.Accept(context.transfer_syntaxes[0], requestor_scp=True),
    )
    acceptor.association.accept(negotiated, OURS)
    requestor.feed(sent(acceptor.association))
    assert requestor.association.contexts[1].as_scp
    assert acceptor.association.contexts[1].as_scu


def test_nothing_more_is_received_once_the_transport_is_to_be_closed():
    requestor = in_state(State.STA5)
    requestor.feed(pdu.encode(pdu.AssociateRJ(2, 3, 2)))
    assert requestor.association.closing
    assert requestor.association.received(0, 0.0) == []
    assert requestor.association.received(10, 0.0) == []


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_sink_without_memory_is_our_callers_fault(size):
    requestor, acceptor = established()
    association = acceptor.association
    data = wire(requestor.association, 1, store(), [bytes(size)])
    memory = association.receive_buffer()
    count = min(len(memory), len(data))
    memory[:count] = data[:count]
    association.received(count, 0.0)
    with pytest.raises(LocalProtocolError, match="no memory"):
        association.receive_data_set(Collect(window=0), 0.0)
    events = association.receive_data_set(Collect(), 0.0)
    if not events:
        association.receive_data_set(Collect(window=0), 0.0)
        with pytest.raises(LocalProtocolError, match="no memory"):
            association.receive_buffer()
