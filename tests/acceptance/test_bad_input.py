"""What a broken or hostile peer sends to a running role: each gets its defined answer.

While it happens another association stays open and works; afterwards every process is the same and
what was acknowledged is still there.
"""

import struct
from dataclasses import replace

import pytest
from pynetdicom import sop_class as sop

from archive_role import ARTIM_S, dataset
from good_neighbour import uid
from harmoni.dicom import dimse, pdu
from harmoni.dicom.pdu import AbortReason, PresentationDataValue
from wire import (
    CT_ID,
    ECHO,
    ECHO_ID,
    FIND,
    FIND_ID,
    IMPLICIT,
    PATIENCE_S,
    UNSERVED_ID,
    Wire,
    data_set,
    query_command,
    request,
    store_command,
    values,
)

pytestmark = pytest.mark.usefixtures("neighbour")


def held(door, instance, study="2.25.1"):
    """How many instances of that UID a query finds."""
    with door.associated([(FIND, [IMPLICIT])]) as association:
        asked = dataset(
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=study,
            SeriesInstanceUID="2.25.2",
            SOPInstanceUID=instance,
        )
        *matches, (final, _) = association.send_c_find(asked, FIND)
    assert final.Status == 0x0000
    return len(matches)


def test_an_unserved_abstract_syntax_is_rejected_alone(door):
    with Wire(door) as wire:
        answer = wire.associate()
        results = {context.id: context.result for context in answer.presentation_contexts}
        wire.send(values(ECHO_ID, ECHO))
        assert wire.hear_status() == 0x0000
    assert results.pop(UNSERVED_ID) == 3
    assert set(results.values()) == {0}


MALFORMED = AbortReason.INVALID_VALUE
LENGTHS = {
    "P-DATA of 4 GiB": (0x04, 0xFFFFFFFF),
    "P-DATA longer than agreed": (0x04, 16 << 20),
    "P-DATA too short for a value": (0x04, 3),
    "A-RELEASE-RQ of 4 GiB": (0x05, 0xFFFFFFFF),
    "A-ABORT of 5 bytes": (0x07, 5),
}


@pytest.mark.parametrize("what", LENGTHS)
def test_an_absurd_length_is_aborted_before_its_bytes_come(door, what):
    kind, length = LENGTHS[what]
    with Wire(door) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(kind, length))
        wire.assert_aborted(MALFORMED)


def test_an_association_request_of_an_absurd_length_is_aborted(door):
    with Wire(door) as wire:
        wire.send(pdu.HEADER.pack(0x01, 0xFFFFFFFF))
        wire.assert_aborted(MALFORMED)


MALFORMED_REQUESTS = {
    "cut": lambda raw: pdu.HEADER.pack(1, 40) + raw[6:46],
    "no contexts": lambda raw: pdu.HEADER.pack(1, 68) + raw[6:74],
    "an item beyond the end": lambda raw: raw[:76] + b"\xff\xff" + raw[78:],
    "zeros": lambda _: pdu.HEADER.pack(1, 68) + bytes(68),
}


@pytest.mark.parametrize("what", MALFORMED_REQUESTS)
def test_a_malformed_association_request_makes_no_association(door, what):
    with Wire(door) as wire:
        wire.send(MALFORMED_REQUESTS[what](pdu.encode(request(door))))
        wire.assert_aborted(*AbortReason)


def test_a_peer_that_does_not_close_after_an_abort_is_closed_after_artim(door):
    with Wire(door) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(0x04, 3))
        assert isinstance(wire.hear(), pdu.Abort)
        assert ARTIM_S < PATIENCE_S
        assert wire.hear() is None


def test_a_calling_ae_title_that_is_none_is_rejected(door):
    with Wire(door) as wire:
        title = door.calling.encode()
        wire.send(pdu.encode(request(door)).replace(title, b"\xd6" + title[1:]))
        answer = wire.hear()
    assert (answer.result, answer.source, answer.reason) == (1, 1, 3)


def test_an_unknown_pdu_type_is_aborted(door):
    with Wire(door) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(0x55, 4) + bytes(4))
        wire.assert_aborted(AbortReason.UNRECOGNIZED_PDU)


@pytest.mark.parametrize("first", [True, False])
def test_a_pdu_in_the_wrong_state_is_aborted(door, first):
    with Wire(door) as wire:
        if first:
            wire.send(values(ECHO_ID, ECHO))
        else:
            wire.associate()
            wire.send(pdu.encode(request(door)))
        wire.assert_aborted(AbortReason.UNEXPECTED_PDU)


COMMANDS = {
    "no elements": b"",
    "no UID": dimse.encode_command(ECHO)[:12],
    "not a command set": b"\xff" * 64,
    "an element beyond the end": struct.pack("<HHI", 0, 2, 0x7FFFFFFF) + b"1.2",
    "another group": struct.pack("<HHI", 8, 0x18, 4) + b"1.2\0",
    "a C-ECHO-RQ with a data set": dimse.encode_command(replace(ECHO, has_data_set=True)),
    "a C-CANCEL-RQ with a data set": dimse.encode_command(
        dimse.Command(
            field=dimse.CommandField.C_CANCEL_RQ, message_id_responded_to=1, has_data_set=True
        )
    ),
    "longer than 64 KiB": b"\0\0\0\x09\xf0\xff\x01\0" + bytes(0x1FFF0),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_malformed_command_set_is_aborted(door, what):
    with Wire(door) as wire:
        wire.associate()
        raw = COMMANDS[what]
        halves = raw[:65_000], raw[65_000:]
        for number, half in enumerate(halves):
            ends = number == 1 or not halves[1]
            wire.send(pdu.encode(pdu.DataTF((PresentationDataValue(ECHO_ID, True, ends, half),))))
            if ends:
                break
        wire.assert_aborted(*AbortReason)


def test_a_context_that_was_not_accepted_is_aborted(door):
    for context in (UNSERVED_ID, 99):
        with Wire(door) as wire:
            wire.associate()
            wire.send(values(context, ECHO))
            wire.assert_aborted(*AbortReason)


def test_a_data_set_before_its_command_is_aborted(door):
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(CT_ID, data=data_set(uid())))
        wire.assert_aborted(*AbortReason)


@pytest.mark.parametrize("wrong", ["instance", "class", "no instance"])
def test_a_data_set_of_other_uids_than_its_command_is_answered_a900(door, wrong):
    named, other = uid(), uid()
    data = {
        "instance": data_set(other),
        "class": data_set(named, sop_class=str(sop.MRImageStorage)),
        "no instance": data_set(""),
    }[wrong]
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), data))
        assert wire.hear_status() == 0xA900
        wire.send(values(CT_ID, store_command(named), data_set(named)))
        assert wire.hear_status() == 0x0000
    assert held(door, named) == 1
    assert held(door, other) == 0


def test_a_data_set_that_is_none_is_answered_and_not_kept(door):
    named = uid()
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), b"\xff" * 100_000))
        assert wire.hear_status() in {0xA900, 0xC000}
    assert held(door, named) == 0


def test_an_identifier_that_is_none_is_answered(door):
    command = query_command(dimse.CommandField.C_FIND_RQ, FIND)
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(FIND_ID, command, b"\xff" * 4_000))
        assert wire.hear_status() in {0xA900, 0xC000}


@pytest.mark.parametrize("how", ["A-ABORT", "closed", "reset"])
def test_an_object_cut_in_the_middle_is_not_kept(door, how):
    named = uid()
    with Wire(door) as wire:
        wire.associate()
        whole = data_set(named, filler=1_000_000)
        wire.send(values(CT_ID, store_command(named), whole[:500_000], last=False))
        if how == "A-ABORT":
            wire.send(pdu.encode(pdu.Abort(0, 0)))
            assert wire.hear() is None
        elif how == "reset":
            wire.reset()
    assert held(door, named) == 0
    # It can be sent again, whole.
    with Wire(door) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), whole))
        assert wire.hear_status() == 0x0000
    assert held(door, named) == 1


BANNERS = {
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "SMB": b"\0\0\0\x85\xffSMBr" + bytes(128),
}


@pytest.mark.parametrize("whose", BANNERS)
def test_another_protocol_is_turned_away(door, whose):
    with door.knock() as plain:
        plain.sendall(BANNERS[whose])
        heard = plain.recv(4096)
    assert heard[:1] in (b"", b"\x15", b"\x07"), "nothing but a TLS alert or an A-ABORT"


@pytest.mark.parametrize("whose", BANNERS)
def test_another_protocol_where_dicom_is_spoken_is_aborted(door, whose):
    with Wire(door) as wire:
        wire.send(BANNERS[whose])
        wire.assert_aborted(*AbortReason)
