"""Identifiers, read and written, with pydicom as the other side."""

import contextlib
import io
import struct
import zlib

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from harmoni.dicom import identifier
from harmoni.dicom.identifier import (
    Key,
    Query,
    QueryLevel,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    check_unique_keys,
    encode_answer,
    encode_failed_list,
    encode_query,
    parse_answer,
    parse_query,
)
from harmoni.dicom.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from harmoni.model.errors import InvalidInput

IMPLICIT = IMPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]
PATIENT_NAME, PATIENT_ID, STUDY_UID = 0x00100010, 0x00100020, 0x0020000D
SERIES_UID, INSTANCE_UID, MODALITIES = 0x0020000E, 0x00080018, 0x00080061
GREEK = "Παπαδόπουλος^Γεώργιος"


def pydicom_bytes(dataset: Dataset, uid: str = IMPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = uid == IMPLICIT
    buffer.is_little_endian = uid != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(buffer, dataset)
    if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return zlib.compress(buffer.getvalue(), wbits=-zlib.MAX_WBITS)
    return buffer.getvalue()


def pydicom_reads(data: bytes, uid: str = IMPLICIT) -> Dataset:
    if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
    return pydicom.filereader.read_dataset(
        io.BytesIO(data), uid == IMPLICIT, uid != EXPLICIT_VR_BIG_ENDIAN
    )


def study_query() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 126"
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.StudyDate = "20260101-20260131"
    dataset.StudyTime = "10"
    dataset.AccessionNumber = ""
    dataset.ModalitiesInStudy = ["CT", "MR"]
    dataset.PatientName = "Παπ*"
    dataset.PatientID = "A1 "
    dataset.StudyDescription = "*"
    dataset.StudyInstanceUID = ["1.2.3", "1.2.4", "1.2.3"]
    inner = Dataset()
    inner.CodeValue = "x"
    dataset.ProcedureCodeSequence = Sequence([inner])
    dataset.Rows = None
    block = dataset.private_block(0x0009, "SOMEBODY", create=True)
    block.add_new(0x01, "LO", "private")
    return dataset


@pytest.mark.parametrize("uid", SYNTAXES)
def test_every_kind_of_key_is_read(uid: str) -> None:
    query = parse_query(pydicom_bytes(study_query(), uid), uid, "STUDY")
    assert query == Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        private_keys=True,
        character_set=b"ISO_IR 126",
        keys=(
            Key(0x00080020, "DA", Range("20260101", "20260131")),
            Key(0x00080030, "TM", Range("100000.000000", "105959.999999")),
            Key(0x00080050, "SH", Universal()),
            Key(MODALITIES, "CS", UidList(("CT", "MR"))),
            Key(0x00081030, "LO", Universal()),
            Key(0x00081032, "SQ", Universal()),
            Key(PATIENT_NAME, "PN", Wildcard("Παπ*")),
            Key(PATIENT_ID, "LO", Single("A1")),
            Key(STUDY_UID, "UI", UidList(("1.2.3", "1.2.4"))),
            Key(0x00280010, "US", Universal()),
        ),
    )
    assert query.match(PATIENT_ID) == Single("A1")
    assert query.match(SERIES_UID) == Universal()


def raw(tag: int, value: bytes) -> bytes:
    """An element of implicit VR that pydicom would not write."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


LEVEL = raw(identifier.QUERY_RETRIEVE_LEVEL, b"STUDY ")


def test_sequences_and_items_of_undefined_length_are_read() -> None:
    dataset = study_query()
    dataset["ProcedureCodeSequence"].is_undefined_length = True
    dataset.ProcedureCodeSequence[0].is_undefined_length_sequence_item = True
    expected = parse_query(pydicom_bytes(study_query()), IMPLICIT, "STUDY")
    assert parse_query(pydicom_bytes(dataset), IMPLICIT, "STUDY") == expected


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Query/Retrieve Level '' is none"),
        (raw(0x00080052, b"PATIENT "), "'PATIENT' is none of the STUDY root"),
        (raw(0x00080052, b"WORLD"), "'WORLD' is none"),
        (LEVEL[:-1], "claims 6 bytes"),
        (LEVEL + b"\0", "cut off"),
        (LEVEL + raw(PATIENT_NAME, b"x" * 1025), "more than 1024 characters"),
        (LEVEL + raw(MODALITIES, b"C*\\MR"), "wild cards"),
        (LEVEL + raw(0x00080020, b"2026x"), "neither a value nor a range"),
        (bytes(identifier.MAX_IDENTIFIER_BYTES + 1), "longer than 1048576 bytes"),
        (b"\xfe\xff\x00\xe0\0\0\0\0", "where an element belongs"),
        (b"\x08\0\x40\x11\x08\0\0\0" + bytes(8), "where an item of a sequence belongs"),
    ],
)
def test_what_breaks_the_rules_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parse_query(data, IMPLICIT, "STUDY")


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.50", "1.2.3", ""])
def test_syntaxes_of_pixels_and_unknown_ones_are_refused(uid: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be encoded as"):
        parse_query(LEVEL, uid, "STUDY")


def test_too_many_keys_and_values_are_refused() -> None:
    many = b"".join(
        (0x0008 + group * 2).to_bytes(2, "little") + (0x1000 + n).to_bytes(2, "little") + bytes(4)
        for group in range(2)
        for n in range(600)
    )
    with pytest.raises(InvalidInput, match="more than 1000 keys"):
        parse_query(many, IMPLICIT, "STUDY")
    uids = "\\".join(f"1.{number}" for number in range(10_001)).encode()
    data = b"\x20\0\x0d\0" + len(uids).to_bytes(4, "little") + uids
    with pytest.raises(InvalidInput, match="more than 10000"):
        parse_query(LEVEL + data, IMPLICIT, "STUDY")


def test_a_bomb_is_refused() -> None:
    bomb = zlib.compress(bytes(5 << 20), wbits=-zlib.MAX_WBITS)
    with pytest.raises(InvalidInput, match="longer than"):
        parse_query(bomb, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "STUDY")


def test_deep_nesting_is_refused() -> None:
    opened = b"\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(InvalidInput, match="nested more than 16 deep"):
        parse_query(opened * 1000, IMPLICIT, "STUDY")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(SYNTAXES))
def test_arbitrary_bytes_give_a_query_or_invalid_input(data: bytes, uid: str) -> None:
    for read in (lambda: parse_query(data, uid, "PATIENT"), lambda: parse_answer(data, uid)):
        with contextlib.suppress(InvalidInput):
            read()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_identifiers_give_a_query_or_invalid_input(data: st.DataObject) -> None:
    uid = data.draw(st.sampled_from(SYNTAXES))
    encoded = bytearray(pydicom_bytes(study_query(), uid))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidInput):
        query = parse_query(bytes(encoded), uid, "STUDY")
        encode_answer(query, {PATIENT_NAME: GREEK}, transfer_syntax_uid=uid, retrieve_ae_title="X")
        check_unique_keys(query)


# --- answers -----------------------------------------------------------------------------------

VALUES = {
    PATIENT_NAME: GREEK,
    PATIENT_ID: "A1",
    STUDY_UID: "1.2.3",
    MODALITIES: "CT\\MR",
    0x00200013: "9",
}


def answer(query: Query, values: dict[int, str], uid: str = IMPLICIT) -> Dataset:
    data = encode_answer(query, values, transfer_syntax_uid=uid, retrieve_ae_title="GATEWAY")
    return pydicom_reads(data, uid)


@pytest.mark.parametrize("uid", SYNTAXES)
def test_an_answer_holds_what_was_asked_for_in_the_requesters_set(uid: str) -> None:
    query = parse_query(pydicom_bytes(study_query(), uid), uid, "STUDY")
    dataset = answer(query, VALUES, uid)
    assert dataset.SpecificCharacterSet == "ISO_IR 126"
    assert dataset.QueryRetrieveLevel == "STUDY"
    assert dataset.RetrieveAETitle == "GATEWAY"
    assert dataset.PatientName == GREEK
    assert dataset.PatientID == "A1"
    assert dataset.ModalitiesInStudy == ["CT", "MR"]
    assert dataset.StudyInstanceUID == "1.2.3"
    assert dataset.AccessionNumber == ""
    assert dataset.Rows is None
    assert len(dataset.ProcedureCodeSequence) == 0
    assert "InstanceNumber" not in dataset
    assert "InstanceAvailability" not in dataset
    assert [element.tag for element in dataset] == sorted(element.tag for element in dataset)


def asking(character_set: bytes) -> Query:
    return Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=(Key(PATIENT_NAME, "PN", Universal()), Key(PATIENT_ID, "LO", Universal())),
        character_set=character_set,
    )


@pytest.mark.parametrize("character_set", [b"", b"ISO_IR 100", b"\\ISO 2022 IR 87", b"UNHEARD OF"])
def test_a_set_that_cannot_write_the_name_gives_way_to_utf_8(character_set: bytes) -> None:
    dataset = answer(asking(character_set), VALUES)
    assert (dataset.SpecificCharacterSet, dataset.PatientName) == ("ISO_IR 192", GREEK)


def test_a_set_with_code_extensions_is_kept() -> None:
    dataset = answer(asking(b"\\ISO 2022 IR 126"), VALUES)
    assert list(dataset.SpecificCharacterSet) == ["", "ISO 2022 IR 126"]
    assert dataset.PatientName == GREEK


def test_an_answer_of_ascii_declares_no_set() -> None:
    assert "SpecificCharacterSet" not in answer(asking(b"ISO_IR 126"), {PATIENT_NAME: "DOE^JOHN"})


def test_availability_is_online_when_asked_for_unless_it_is_known() -> None:
    query = Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=(Key(identifier.INSTANCE_AVAILABILITY, "CS", Universal()),),
    )
    assert answer(query, {}).InstanceAvailability == "ONLINE"
    known = {identifier.INSTANCE_AVAILABILITY: "NEARLINE"}
    assert answer(query, known).InstanceAvailability == "NEARLINE"


def test_a_list_too_long_for_an_element_is_cut_between_values() -> None:
    query = Query(root="STUDY", level=QueryLevel.STUDY, keys=(Key(0x00080062, "UI", Universal()),))
    uids = [f"1.2.{number}" for number in range(9000)]
    found = answer(query, {0x00080062: "\\".join(uids)}, EXPLICIT_VR_LITTLE_ENDIAN)
    kept = list(found.SOPClassesInStudy)
    assert kept == uids[: len(kept)]
    assert len(kept) > 7000


@pytest.mark.parametrize("uid", SYNTAXES)
def test_failed_lists_are_capped_and_read_back(uid: str) -> None:
    assert pydicom_reads(encode_failed_list(["1.2", "1.3"], uid), uid).FailedSOPInstanceUIDList == [
        "1.2",
        "1.3",
    ]
    many = [f"1.2.840.{number}" for number in range(9000)]
    answered = parse_answer(encode_failed_list(many, uid), uid)
    kept = answered[identifier.FAILED_SOP_INSTANCE_UID_LIST].split("\\")
    assert kept == many[: len(kept)]
    assert len("\\".join(kept)) <= 65_534
    assert parse_answer(encode_failed_list([], uid), uid) == {
        identifier.FAILED_SOP_INSTANCE_UID_LIST: ""
    }


# --- the SHA-256 between our own nodes ---------------------------------------------------------

DIGEST = bytes(range(32))
HASH_QUERY = Query(
    root="STUDY",
    level=QueryLevel.IMAGE,
    keys=(Key(INSTANCE_UID, "UI", Universal()),),
    wants_sha256=True,
)


def hash_query(value: bytes = b"", creator: str = "HARMONI", number: int = 0x01) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "IMAGE"
    dataset.SOPInstanceUID = ""
    dataset.private_block(0x0009, creator, create=True).add_new(number, "OB", value)
    return dataset


def read(dataset: Dataset, uid: str = IMPLICIT) -> Query:
    return parse_query(pydicom_bytes(dataset, uid), uid, "STUDY")


@pytest.mark.parametrize("uid", SYNTAXES)
def test_a_query_may_ask_for_the_sha256_in_our_private_block(uid: str) -> None:
    query = read(hash_query(), uid)
    assert query == HASH_QUERY
    assert not query.private_keys
    assert parse_query(encode_query(query, uid), uid, "STUDY") == query
    block = pydicom_reads(encode_query(query, uid), uid).private_block(0x0009, "HARMONI")
    assert not block[0x01].value


def test_our_private_block_is_found_behind_that_of_others() -> None:
    dataset = hash_query(creator="SOMEBODY")
    dataset.private_block(0x0009, "HARMONI", create=True).add_new(0x01, "OB", b"")
    query = read(dataset)
    assert (query.wants_sha256, query.private_keys) == (True, True)


@pytest.mark.parametrize(
    "dataset",
    [
        hash_query(creator="SOMEBODY"),
        hash_query(value=DIGEST),
        hash_query(number=0x02),
    ],
    ids=["another's", "a value to match", "another element"],
)
def test_other_private_keys_ask_for_no_sha256(dataset: Dataset) -> None:
    query = read(dataset)
    assert (query.wants_sha256, query.private_keys) == (False, True)


def test_another_element_of_our_block_is_a_private_key() -> None:
    dataset = hash_query()
    dataset.private_block(0x0009, "HARMONI").add_new(0x02, "LO", "")
    query = read(dataset)
    assert (query.wants_sha256, query.private_keys) == (True, True)


@pytest.mark.parametrize("uid", SYNTAXES)
def test_the_sha256_goes_out_in_our_block_and_comes_back_as_text(uid: str) -> None:
    values = {INSTANCE_UID: "1.2", identifier.DATASET_SHA256: DIGEST.hex()}
    data = encode_answer(HASH_QUERY, values, transfer_syntax_uid=uid, retrieve_ae_title="X")
    block = pydicom_reads(data, uid).private_block(0x0009, "HARMONI")
    assert block[0x01].tag == identifier.DATASET_SHA256
    assert block[0x01].value == DIGEST
    answered = parse_answer(data, uid)
    assert answered[identifier.DATASET_SHA256] == DIGEST.hex()
    assert 0x00090010 not in answered


def test_the_sha256_is_told_to_nobody_who_does_not_ask_and_only_if_it_is_known() -> None:
    values = {INSTANCE_UID: "1.2", identifier.DATASET_SHA256: DIGEST.hex()}
    plain = Query(root="STUDY", level=QueryLevel.IMAGE, keys=HASH_QUERY.keys)
    for dataset in (answer(plain, values), answer(HASH_QUERY, {INSTANCE_UID: "1.2"})):
        assert [int(element.tag) for element in dataset] == [
            INSTANCE_UID,
            identifier.QUERY_RETRIEVE_LEVEL,
            identifier.RETRIEVE_AE_TITLE,
        ]


@pytest.mark.parametrize("uid", SYNTAXES)
def test_an_answer_with_the_block_of_somebody_else_or_an_empty_one_tells_no_sha256(
    uid: str,
) -> None:
    for dataset in (hash_query(DIGEST, creator="SOMEBODY"), hash_query()):
        assert identifier.DATASET_SHA256 not in parse_answer(pydicom_bytes(dataset, uid), uid)


def test_an_answer_with_a_sha256_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 30 bytes instead of 32"):
        parse_answer(pydicom_bytes(hash_query(DIGEST[:30])), IMPLICIT)


# --- as a requester ----------------------------------------------------------------------------

TEXTS = st.text(
    st.characters(codec="iso8859-7", exclude_characters="*?\\\x1b", min_codepoint=32),
    min_size=1,
    max_size=20,
).filter(lambda value: value == value.strip(" \0"))
KEYS = st.one_of(
    st.builds(Key, st.just(PATIENT_NAME), st.just("PN"), st.builds(Single, TEXTS)),
    st.builds(
        Key, st.just(PATIENT_ID), st.just("LO"), st.builds(Wildcard, TEXTS.map("*{}".format))
    ),
    st.builds(
        Key,
        st.just(STUDY_UID),
        st.just("UI"),
        st.sampled_from([Single("1.2"), UidList(("1.2", "1.3")), Universal()]),
    ),
    st.builds(
        Key,
        st.just(0x00080020),
        st.just("DA"),
        st.sampled_from(
            [Range("20260101", "20260101"), Range(None, "20260101"), Range("20260101", None)]
        ),
    ),
    st.builds(
        Key,
        st.just(0x00080030),
        st.just("TM"),
        st.sampled_from([Range("100000.000000", "105959.999999"), Universal()]),
    ),
    st.just(Key(0x00081032, "SQ", Universal())),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(KEYS, unique_by=lambda key: key.tag),
    st.sampled_from(SYNTAXES),
    st.sampled_from([b"ISO_IR 126", b"ISO_IR 192"]),
)
def test_property_a_query_survives_the_wire(
    keys: list[Key], uid: str, character_set: bytes
) -> None:
    query = Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=tuple(sorted(keys, key=lambda key: key.tag)),
        character_set=character_set,
    )
    assert parse_query(encode_query(query, uid), uid, "STUDY") == query


def test_a_query_that_its_set_cannot_write_is_refused() -> None:
    query = Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=(Key(PATIENT_NAME, "PN", Single(GREEK)),),
    )
    with pytest.raises(InvalidInput, match="ask in ISO_IR 192"):
        encode_query(query, IMPLICIT)


@pytest.mark.parametrize("uid", SYNTAXES)
def test_answers_of_others_are_read_as_text(uid: str) -> None:
    dataset = study_query()
    dataset.PatientName = GREEK
    dataset.Rows = 512
    dataset.PixelAspectRatio = ["1", "1"]
    answered = parse_answer(pydicom_bytes(dataset, uid), uid)
    assert all(tag >> 16 & 1 == 0 for tag in answered)
    assert answered[PATIENT_NAME] == GREEK
    assert answered[0x00280010] == "512"
    assert answered[MODALITIES] == "CT\\MR"
    assert 0x00081032 not in answered
