"""What PS3.8 allows and few peers do: odd, tiny and huge PDUs, empty fragments, 128 contexts."""

import struct

import pytest
from pynetdicom import build_role, evt

from archive_role import dataset
from good_neighbour import uid
from harmoni.dicom import dimse, pdu
from harmoni.dicom.pdu import AbortReason, PresentationDataValue, ProposedContext
from wire import (
    CT,
    CT_ID,
    ECHO,
    ECHO_ID,
    EXPLICIT,
    FIND_ID,
    GET,
    IMPLICIT,
    VERIFICATION,
    Wire,
    data_set,
    request,
    store_command,
    values,
)

pytestmark = pytest.mark.usefixtures("neighbour")
MOST_CONTEXTS = 128
MOST_EMPTY_FRAGMENTS = 16


def fragments(context, data, size, *, is_command=False):
    """One value of so many bytes after the other."""
    starts = range(0, len(data), size)
    return [
        PresentationDataValue(context, is_command, start == starts[-1], data[start : start + size])
        for start in starts
    ]


def assert_stored(wire, sent):
    wire.send(sent)
    assert wire.hear_status() == 0x0000


@pytest.mark.parametrize("most", [0, 12, 13, 0x7FFF, 1 << 20, 0xFFFFFFFF])
def test_no_pdu_is_longer_than_the_peer_takes(door, most):
    with Wire(door) as wire:
        wire.associate(max_length=most)
        wire.send(values(ECHO_ID, ECHO))
        command, last = b"", False
        while not last:
            answer = wire.hear()
            assert isinstance(answer, pdu.DataTF)
            assert not most or len(pdu.encode(answer)) - pdu.HEADER.size <= most
            for value in answer.values:
                command, last = command + value.data, value.is_last
        assert dimse.decode_command(command).status == 0x0000


@pytest.mark.parametrize("most", [1, 6, 7, 11])
def test_a_peer_that_takes_no_message_is_aborted(door, most):
    with Wire(door) as wire:
        wire.send(pdu.encode(request(door, max_length=most)))
        wire.assert_aborted(AbortReason.INVALID_VALUE)


@pytest.mark.parametrize("size", [1, 3, 255, 0xFFF1])
def test_a_message_in_fragments_of_any_size_is_stored(door, size):
    named = uid()
    data = data_set(named, filler=2_000 if size < 1000 else 200_000)
    command = dimse.encode_command(store_command(named))
    each = [*fragments(CT_ID, command, size, is_command=True), *fragments(CT_ID, data, size)]
    with Wire(door) as wire:
        wire.associate()
        assert_stored(wire, b"".join(pdu.encode(pdu.DataTF((value,))) for value in each))
        if size < 1000:  # and all of it in one PDU
            assert_stored(wire, pdu.encode(pdu.DataTF(tuple(each))))


def test_the_longest_pdu_that_is_agreed_is_taken_and_no_longer_one(door):
    named = uid()
    with Wire(door) as wire:
        most = wire.associate().user_information.max_length
        empty = len(data_set(named))
        data = data_set(named, filler=most - pdu.PDV_HEADER.size - empty)
        whole = pdu.encode(pdu.DataTF((PresentationDataValue(CT_ID, False, True, data),)))
        assert len(whole) == most + pdu.HEADER.size
        assert_stored(wire, values(CT_ID, store_command(named)) + whole)
        wire.send(values(CT_ID, store_command(named)) + pdu.HEADER.pack(4, most + 2))
        wire.assert_aborted(AbortReason.INVALID_VALUE)


def test_empty_fragments_are_borne_within_reason(door):
    named = uid()
    data = data_set(named)
    empty = pdu.encode(pdu.DataTF((PresentationDataValue(CT_ID, False, False, b""),)))
    whole = pdu.encode(pdu.DataTF((PresentationDataValue(CT_ID, False, False, data),)))
    last = pdu.encode(pdu.DataTF((PresentationDataValue(CT_ID, False, True, b""),)))
    with Wire(door) as wire:
        wire.associate()
        command = values(CT_ID, store_command(named))
        assert_stored(wire, command + empty + whole + empty + last)
        wire.send(command + (MOST_EMPTY_FRAGMENTS + 1) * empty)
        wire.assert_aborted(AbortReason.INVALID_VALUE)


@pytest.mark.parametrize("length", [0, 1, 5, 6])
def test_a_data_pdu_without_a_whole_value_is_aborted(door, length):
    with Wire(door) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(4, length) + struct.pack(">IBB", 0, ECHO_ID, 3)[:length])
        wire.assert_aborted(AbortReason.INVALID_VALUE)


@pytest.mark.parametrize("second", ["value", "PDU"])
@pytest.mark.parametrize("what", ["command", "data set"])
def test_a_message_within_another_is_aborted(door, second, what):
    """Contexts never interleave (PS3.8 E.2)."""
    named = uid()
    is_command = what == "command"
    begun = data_set(named)[:40]
    if is_command:
        begun = dimse.encode_command(store_command(named))[:40]
    mine = PresentationDataValue(CT_ID, is_command, False, begun)
    others = PresentationDataValue(FIND_ID, is_command, True, dimse.encode_command(ECHO))
    before = b"" if is_command else values(CT_ID, store_command(named))
    pdus = [(mine, others)] if second == "value" else [(mine,), (others,)]
    with Wire(door) as wire:
        wire.associate()
        wire.send(before + b"".join(pdu.encode(pdu.DataTF(each)) for each in pdus))
        wire.assert_aborted(AbortReason.UNEXPECTED_PARAMETER)


def test_a_release_within_a_message_is_aborted(door):
    named = uid()
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), data_set(named)[:40], last=False))
        wire.send(pdu.encode(pdu.ReleaseRQ()))
        wire.assert_aborted(AbortReason.UNEXPECTED_PDU)


def test_128_contexts_are_answered_each_and_all_can_be_used(door):
    contexts = [
        ProposedContext(2 * number + 1, VERIFICATION, (IMPLICIT,))
        for number in range(MOST_CONTEXTS)
    ]
    with Wire(door) as wire:
        answer = wire.associate(*contexts)
        assert [(each.id, each.result) for each in answer.presentation_contexts] == [
            (each.id, 0) for each in contexts
        ]
        for context in contexts:
            wire.send(values(context.id, ECHO))
            assert wire.hear_status() == 0x0000


def test_a_context_id_that_is_even_or_comes_twice_is_aborted(door):
    whole = pdu.encode(request(door))
    for number in (0, 2, ECHO_ID, 254):
        head, wrong = struct.pack(">B3xB", CT_ID, 0x30), struct.pack(">B3xB", number, 0x30)
        with Wire(door) as wire:
            wire.send(whole.replace(head, wrong))
            wire.assert_aborted(AbortReason.INVALID_VALUE)


def test_an_object_is_given_to_a_peer_that_takes_13_bytes_at_a_time(door):
    named, study = uid(), uid()
    with Wire(door) as wire:
        wire.associate()
        sent = data_set(named, study=study, filler=2_000)
        assert_stored(wire, values(CT_ID, store_command(named), sent))
    received = []

    def take(event):
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    with door.associated(
        [(CT, [EXPLICIT]), (GET, [IMPLICIT])],
        roles=[build_role(CT, scu_role=True, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
        most_bytes=13,
    ) as association:
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
        *_, (final, _) = association.send_c_get(asked, GET)
    assert final.Status == 0x0000
    assert received == [sent]
