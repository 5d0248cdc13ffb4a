"""Command sets both ways, held against pydicom and pynetdicom."""

from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dsutils import encode as oracle_encode

from association_pairs import CT, echo, refusal, store
from harmoni.dicom.dimse import Command, CommandField, decode_command, encode_command, response
from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

_NUMBERS = {
    "message_id": 0x0110,
    "message_id_responded_to": 0x0120,
    "priority": 0x0700,
    "status": 0x0900,
    "error_id": 0x0903,
    "event_type_id": 0x1002,
    "action_type_id": 0x1008,
    "number_of_remaining_suboperations": 0x1020,
    "number_of_completed_suboperations": 0x1021,
    "number_of_failed_suboperations": 0x1022,
    "number_of_warning_suboperations": 0x1023,
    "move_originator_message_id": 0x1031,
}
_UIDS = {
    "affected_sop_class_uid": 0x0002,
    "requested_sop_class_uid": 0x0003,
    "affected_sop_instance_uid": 0x1000,
    "requested_sop_instance_uid": 0x1001,
}
_WITHOUT_DATA_SET = (
    CommandField.C_ECHO_RQ,
    CommandField.C_ECHO_RSP,
    CommandField.C_STORE_RSP,
    CommandField.C_CANCEL_RQ,
)
_TITLES = {"move_destination": 0x0600, "move_originator_ae_title": 0x1030}
_TAGS = {"offending_element": 0x0901, "attribute_identifier_list": 0x1005}

_uid = st.from_regex(r"[1-9](\.[1-9][0-9]{0,8}){1,6}", fullmatch=True)
_title = st.from_regex(r"[A-Z]([A-Z_ ]{0,14}[A-Z])?", fullmatch=True)
_u16 = st.integers(0, 0xFFFF)
_tags = st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple)
_COMMANDS = st.builds(
    Command,
    field=st.sampled_from(CommandField),
    has_data_set=st.booleans(),
    error_comment=st.none() | _title,
    **{name: st.none() | _uid for name in _UIDS},
    **{name: st.none() | _title for name in _TITLES},
    **dict.fromkeys(_TAGS, _tags),
    **{
        name: _u16
        if name in ("message_id", "message_id_responded_to", "status")
        else st.none() | _u16
        for name in _NUMBERS
    },
).map(
    lambda command: replace(
        command, has_data_set=command.has_data_set and command.field not in _WITHOUT_DATA_SET
    )
)


@given(_COMMANDS)
def test_what_is_encoded_decodes_to_the_same_command(command):
    assert decode_command(encode_command(command)) == command


@given(_COMMANDS)
def test_pydicom_reads_our_command_sets_as_we_meant_them(command):
    encoded = encode_command(command)
    read = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    assert read.CommandGroupLength == len(encoded) - 12
    assert [element.tag for element in read] == sorted(element.tag for element in read)
    assert read.CommandField == command.field
    assert (read.CommandDataSetType != 0x0101) == command.has_data_set
    for name, number in {**_NUMBERS, **_UIDS, **_TITLES}.items():
        element = read.get((0, number))
        assert getattr(command, name) == (None if element is None else element.value), name
    for name, number in _TAGS.items():
        element = read.get((0, number))
        value = () if element is None else element.value
        value = (value,) if isinstance(value, int) else tuple(value)
        assert getattr(command, name) == value, name


def test_we_read_what_pynetdicom_writes():
    theirs = Dataset()
    theirs.CommandGroupLength = 0
    theirs.AffectedSOPClassUID = CT
    theirs.CommandField = 0x8021
    theirs.MessageIDBeingRespondedTo = 77
    theirs.CommandDataSetType = 0x0001
    theirs.Status = 0xFF00
    theirs.OffendingElement = [0x00100010, 0x00080018]
    theirs.ErrorComment = "odd"
    theirs.NumberOfRemainingSuboperations = 4
    theirs.NumberOfCompletedSuboperations = 3
    theirs.NumberOfFailedSuboperations = 2
    theirs.NumberOfWarningSuboperations = 1
    expected = Command(
        field=CommandField.C_MOVE_RSP,
        has_data_set=True,
        affected_sop_class_uid=CT,
        message_id_responded_to=77,
        status=0xFF00,
        offending_element=(0x00100010, 0x00080018),
        error_comment="odd",
        number_of_remaining_suboperations=4,
        number_of_completed_suboperations=3,
        number_of_failed_suboperations=2,
        number_of_warning_suboperations=1,
    )
    encoded = oracle_encode(theirs, is_implicit_vr=True, is_little_endian=True)
    assert decode_command(encoded) == expected


@settings(max_examples=200)
@given(st.binary(max_size=120))
def test_arbitrary_bytes_give_a_command_or_the_named_error(data):
    with pytest.raises(RemoteProtocolError) as caught:
        decode_command(data)
    assert caught.value.reason == 6


@settings(max_examples=60)
@given(command=_COMMANDS, at=st.integers(0, 1 << 12), byte=st.integers(0, 255))
def test_a_damaged_byte_gives_a_command_or_the_named_error(command, at, byte):
    encoded = bytearray(encode_command(command))
    encoded[at % len(encoded)] = byte
    assert refusal(lambda: decode_command(encoded)) in (None, 6)


def test_unknown_and_empty_elements_are_absent():
    unknown = bytes.fromhex("0000 1000 04000000 41424344")
    empty = bytes.fromhex("0000 0210 00000000")
    assert decode_command(encode_command(echo()) + unknown + empty) == echo()


def test_a_data_set_type_other_than_0101_announces_a_data_set():
    encoded = encode_command(store()).replace(
        bytes.fromhex("0000 0008 02000000 0100"), bytes.fromhex("0000 0008 02000000 0201")
    )
    assert decode_command(encoded).has_data_set


@pytest.mark.parametrize("field", _WITHOUT_DATA_SET)
def test_a_message_that_never_has_a_data_set_and_announces_one_is_malformed(field):
    command = Command(
        field=field, has_data_set=True, message_id=1, message_id_responded_to=1, status=0
    )
    with pytest.raises(RemoteProtocolError, match="announces a data set"):
        decode_command(encode_command(command))


@pytest.mark.parametrize(
    "command",
    [
        Command(field=CommandField.C_ECHO_RQ),
        Command(field=CommandField.C_CANCEL_RQ, message_id=1),
        Command(field=CommandField.C_ECHO_RSP, message_id_responded_to=1),
        Command(field=CommandField.C_ECHO_RSP, status=0),
    ],
)
def test_a_message_without_what_all_of_its_kind_have_is_malformed(command):
    with pytest.raises(RemoteProtocolError, match="without its message id or status"):
        decode_command(encode_command(command))


@pytest.mark.parametrize(
    "data",
    [
        "0800 1800 02000000 3100",  # not of group 0000
        "0000 0001 04000000 30000000",  # a Command Field of 4 bytes
        "0000 0001 02000000 9999",  # no such Command Field
        "0000 0200 FFFFFFFF",  # undefined length
        "0000 0200 02000000 0A0A",  # a UID of control characters
        "0000 0200 42000000" + "31" * 66,  # a UID of 66 characters
        "0000 0006 02000000 CEB1",  # an AE title outside the default repertoire
        "0000 0109 03000000 000000",  # three quarters of a tag
    ],
)
def test_an_element_that_breaks_its_own_rules_is_malformed(data):
    with pytest.raises(RemoteProtocolError):
        decode_command(encode_command(echo()) + bytes.fromhex(data))


def test_an_error_comment_in_any_character_set_is_read():
    comment = "ψώδ".encode("iso8859_7") + b" "
    element = bytes.fromhex("0000 0209") + len(comment).to_bytes(4, "little") + comment
    command = Command(field=CommandField.C_ECHO_RSP, message_id_responded_to=1, status=0)
    assert decode_command(encode_command(command) + element).error_comment


@pytest.mark.parametrize(
    "command",
    [
        Command(field=CommandField.C_ECHO_RQ, message_id=65536),
        Command(field=CommandField.C_ECHO_RQ, message_id=-1),
        Command(field=CommandField.C_MOVE_RQ, move_destination="A" * 17),
        Command(field=CommandField.C_MOVE_RQ, move_destination="ΨΩΔ"),
        Command(field=CommandField.C_STORE_RQ, affected_sop_instance_uid="1" * 65),
    ],
)
def test_what_does_not_fit_its_element_is_our_callers_fault(command):
    with pytest.raises(LocalProtocolError):
        encode_command(command)


def test_a_response_carries_what_its_request_said():
    answer = response(store(9), 0xA700, error_comment="the disk is full: " + "ώ" * 80)
    assert answer.field is CommandField.C_STORE_RSP
    assert answer.message_id_responded_to == 9
    assert answer.affected_sop_class_uid == CT
    assert answer.affected_sop_instance_uid == "1.2.3.4"
    assert answer.status == 0xA700
    assert not answer.has_data_set
    assert decode_command(encode_command(answer)).error_comment == "the disk is full: " + "?" * 46


def test_a_response_to_an_action_names_the_instance_that_was_requested():
    request = Command(
        field=CommandField.N_ACTION_RQ,
        message_id=1,
        requested_sop_class_uid="1.2.840.10008.1.20.1",
        requested_sop_instance_uid="1.2.840.10008.1.20.1.1",
        action_type_id=1,
    )
    answer = response(request, 0)
    assert answer.affected_sop_class_uid == "1.2.840.10008.1.20.1"
    assert answer.affected_sop_instance_uid == "1.2.840.10008.1.20.1.1"
    assert answer.action_type_id == 1


@pytest.mark.parametrize("field", [CommandField.C_CANCEL_RQ, CommandField.C_STORE_RSP])
def test_cancel_and_responses_take_no_response(field):
    with pytest.raises(LocalProtocolError):
        response(Command(field=field, message_id_responded_to=1, status=0), 0)
