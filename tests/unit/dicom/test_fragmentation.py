"""Messages into PDUs: any chunking gives the same data set, nothing is copied, nothing early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.dicom import pdu
from harmoni.dicom.fragmentation import GATHER_BYTES, MAX_BUFFERS, pack_message
from harmoni.model.errors import Damaged

COMMAND = bytes(100)


def _values(lists) -> list[pdu.PresentationDataValue]:
    """Every PDV of some lists; each list must hold whole PDUs."""
    values = []
    for buffers in lists:
        data = b"".join(buffers)
        at = 0
        while at < len(data):
            pdu_type, length = pdu.HEADER.unpack_from(data, at)
            body = data[at + 6 : at + 6 + length]
            assert len(body) == length
            values += pdu.decode(pdu_type, body).values
            at += 6 + length
    return values


@given(
    chunks=st.lists(st.binary(max_size=200), max_size=12),
    capacity=st.integers(1, 60).map(lambda half: 2 * half),
)
def test_any_chunking_gives_the_same_command_and_data_set(chunks, capacity):
    values = _values(pack_message(5, COMMAND, chunks, capacity_bytes=capacity))
    commands = [value for value in values if value.is_command]
    data = [value for value in values if not value.is_command]
    assert values == commands + data
    assert b"".join(bytes(value.data) for value in commands) == COMMAND
    assert b"".join(bytes(value.data) for value in data) == b"".join(chunks)
    for part in (commands, data):
        assert [value.is_last for value in part] == [False] * (len(part) - 1) + [True]
        assert all(len(value.data) == capacity for value in part[:-1])
    assert {value.context_id for value in values} == {5}


def test_the_first_list_holds_the_command_and_the_first_data():
    lists = pack_message(1, COMMAND, [bytes(1000), bytes(1000)], capacity_bytes=65536)
    first = next(lists)
    assert [value.is_command for value in _values([first])] == [True, False]
    assert list(lists) == []


def test_data_set_bytes_are_never_copied():
    source = bytearray(b"\x07" * 1000)
    lists = list(pack_message(1, COMMAND, [source], capacity_bytes=300))
    source[:] = b"\x08" * 1000
    data = [value for value in _values(lists) if not value.is_command]
    assert b"".join(bytes(value.data) for value in data) == b"\x08" * 1000


def test_lists_hold_about_128_kib_and_whole_pdus():
    lists = list(pack_message(1, COMMAND, [bytes(1 << 20)], capacity_bytes=16378))
    assert all(sum(map(len, buffers)) < 2 * GATHER_BYTES for buffers in lists)
    # Eight PDUs of 16 KiB, headers included, are 128 KiB.
    assert len(lists) == 9


def test_a_list_never_has_more_buffers_than_one_call_can_write():
    chunks = [b"x"] * 5001
    lists = list(pack_message(1, COMMAND, chunks, capacity_bytes=131066))
    assert all(len(buffers) <= MAX_BUFFERS for buffers in lists)
    data = [value for value in _values(lists) if not value.is_command]
    assert sum(len(value.data) for value in data) == 5001
    assert all(len(value.data) % 2 == 0 for value in data[:-1])


def test_a_fragment_cut_for_its_many_buffers_stays_even():
    chunks = [b"abc"] + [b"xy"] * 999 + [b"z"]
    lists = list(pack_message(1, COMMAND, chunks, capacity_bytes=131066))
    data = [value for value in _values(lists) if not value.is_command]
    assert len(data) > 1
    assert all(len(value.data) % 2 == 0 for value in data)
    assert b"".join(bytes(value.data) for value in data) == b"".join(chunks)


@pytest.mark.parametrize("capacity", [2, 10, 100, 131066])
def test_a_source_that_raises_before_its_end_never_lets_the_last_fragment_out(capacity):
    given_out = []

    def source():
        yield bytes(500)
        yield bytes(500)
        raise Damaged("the hash differs")

    lists = pack_message(1, COMMAND, source(), capacity_bytes=capacity)
    with pytest.raises(Damaged):
        given_out.extend(lists)
    assert not any(value.is_last for value in _values(given_out) if not value.is_command)


def test_an_empty_data_set_is_one_empty_last_fragment():
    values = _values(pack_message(1, COMMAND, [], capacity_bytes=100))
    assert [(value.is_command, value.is_last, bytes(value.data)) for value in values] == [
        (True, True, COMMAND),
        (False, True, b""),
    ]


def test_a_message_without_data_set_is_its_command():
    values = _values(pack_message(1, COMMAND, None, capacity_bytes=100))
    assert [(value.is_command, value.is_last) for value in values] == [(True, True)]


def test_a_long_command_for_a_peer_with_tiny_pdus_is_several_lists():
    lists = list(pack_message(1, bytes(6000), None, capacity_bytes=6))
    assert len(lists) > 1
    assert all(len(buffers) <= MAX_BUFFERS for buffers in lists)
    assert b"".join(bytes(value.data) for value in _values(lists)) == bytes(6000)
