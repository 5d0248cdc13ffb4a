"""Every length field that a peer writes, one at a time, says something else than what is there.

Whatever it says, the peer hears an answer, a rejection or an abort, or the other side closes; no
answer is a crash, and nothing of it reaches beyond the association.
"""

import struct

import pytest

from good_neighbour import uid
from harmoni.dicom import dimse, pdu
from harmoni.dicom.items import AsynchronousOperationsWindow, RoleSelection, SopClassExtended
from wire import (
    COMMIT_ID,
    CT,
    CT_ID,
    FIND_ID,
    GET,
    Wire,
    data_set,
    element,
    messages,
    request,
    store_command,
    values,
)

pytestmark = pytest.mark.usefixtures("neighbour")
PDU_LENGTH_AT = 2
FIRST_ITEM_AT = 74
INFORMATION = {
    "implementation_version_name": "HOSTILE",
    "window": AsynchronousOperationsWindow(invoked=1, performed=1),
    "roles": (RoleSelection(sop_class_uid=str(CT), scu=True, scp=True),),
    "extended": (SopClassExtended(sop_class_uid=str(GET), information=b"\1\1"),),
}
# Items within an item begin so far behind its header (PS3.8 9.3.2.2, 9.3.2.3).
NESTED = {0x20: 4, 0x50: 0}
PREFIXED_UIDS = {0x54, 0x56}


def item_lengths(raw, at, end):
    """Where the two bytes of length of each item stand, and those before a UID in a sub-item."""
    while at < end:
        kind, length = struct.unpack_from(">BxH", raw, at)
        yield at + 2
        begin = at + 4
        if kind in NESTED:
            yield from item_lengths(raw, begin + NESTED[kind], begin + length)
        elif kind in PREFIXED_UIDS:
            yield begin
        at = begin + length


def element_lengths(raw):
    """Where the four bytes of length of each element in Implicit VR stand."""
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 4)
        yield at + 4
        at += 8 + (0 if length == 0xFFFFFFFF else length)


def lies(raw, at, form):
    """The bytes with another number at a place."""
    (length,) = struct.unpack_from(form, raw, at)
    most = (1 << 8 * struct.calcsize(form)) - 1
    for lie in {0, 1, length - 1, length + 1, length + 2, most // 2, most - 1, most} - {length}:
        yield raw[:at] + struct.pack(form, lie % (most + 1)) + raw[at + struct.calcsize(form) :]


def heard(wire):
    """Everything that is said until the other side ends, as PDUs."""
    wire.end_sending()
    said = []
    while (answer := wire.hear()) is not None:
        said.append(answer)
    return said


def test_every_length_in_an_association_request(door):
    whole = pdu.encode(request(door, **INFORMATION))
    places = list(item_lengths(whole, FIRST_ITEM_AT, len(whole)))
    assert len(places) > 30
    for at, form in [(PDU_LENGTH_AT, ">I"), *((place, ">H") for place in places)]:
        for sent in lies(whole, at, form):
            with Wire(door) as wire:
                wire.send(sent)
                for answer in heard(wire):
                    assert isinstance(answer, pdu.AssociateAC | pdu.AssociateRJ | pdu.Abort)


def test_every_length_of_a_data_pdu_and_its_values(door):
    named = uid()
    whole = values(CT_ID, store_command(named), data_set(named, filler=100))
    second = 6 + struct.unpack_from(">I", whole, PDU_LENGTH_AT)[0]
    for at in (PDU_LENGTH_AT, 6, second + PDU_LENGTH_AT, second + 6):
        for sent in lies(whole, at, ">I"):
            with Wire(door) as wire:
                wire.associate()
                wire.send(sent)
                # No message is whole, so nothing is a status; and what is no PDU behind an abort
                # is answered by another (PS3.8 Table 9-10, AA-7).
                assert {type(answer) for answer in heard(wire)} <= {pdu.Abort}


def test_every_length_in_a_command_set(door):
    for context, command, data in messages():
        whole = dimse.encode_command(command)
        for at in element_lengths(whole):
            for sent in lies(whole, at, "<I"):
                with Wire(door) as wire:
                    wire.associate()
                    wire.send(values(context, sent, data))
                    assert_answered_or_aborted(heard(wire))


def test_every_length_in_an_identifier(door):
    for context, command, data in messages():
        if context not in (FIND_ID, COMMIT_ID):
            continue
        for at in element_lengths(data):
            for sent in lies(data, at, "<I"):
                with Wire(door) as wire:
                    wire.associate()
                    wire.send(values(context, command, sent))
                    assert_answered_or_aborted(heard(wire))


def test_every_length_in_a_data_set(door):
    """What can be read of it agrees with the command or is refused; what is taken in is kept."""
    named = uid()
    whole = data_set(named, filler=100)
    sequence = struct.pack("<HH2sxxI", 8, 0x1140, b"SQ", 0xFFFFFFFF)
    sequence += struct.pack("<HHI", 0xFFFE, 0xE000, 8) + element(8, 0x1150, b"UI", b"")
    sequence += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    at = whole.index(struct.pack("<HH", 0x20, 0xD))
    whole = whole[:at] + sequence + whole[at:]
    longs = [at + 8, at + 16, len(whole) - 104]
    shorts = [whole.index(struct.pack("<HH2s", *tag, b"UI")) + 6 for tag in TAGS]
    with Wire(door) as wire:
        wire.associate()
        for place, form in [*((each, "<I") for each in longs), *((each, "<H") for each in shorts)]:
            for sent in lies(whole, place, form):
                wire.send(values(CT_ID, store_command(named), sent))
                assert wire.hear_status() in {0x0000, 0xA900, 0xC000}


TAGS = [(8, 0x16), (8, 0x18), (8, 0x1150), (0x20, 0xD), (0x20, 0xE)]


def assert_answered_or_aborted(answers):
    """Nothing, statuses, or an abort at the end."""
    for number, answer in enumerate(answers, 1):
        if not isinstance(answer, pdu.DataTF):
            assert isinstance(answer, pdu.Abort)
            assert number == len(answers)
