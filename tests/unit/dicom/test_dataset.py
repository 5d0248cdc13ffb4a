"""Small data sets as a whole, with pydicom as the other side."""

import io
import zlib

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from harmoni.dicom import dataset
from harmoni.dicom.dataset import (
    DataSet,
    Sequence,
    decode_data_set,
    decode_integer,
    encode_data_set,
    encode_integer,
    vr_of_tag,
)
from harmoni.dicom.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from harmoni.model.errors import InvalidInput
from harmoni.model.header import Element

IMPLICIT = IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = EXPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = [IMPLICIT, EXPLICIT, EXPLICIT_VR_BIG_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]
LIMIT = 1 << 20
PATIENT_ID, COMMENTS, CODES = 0x00100020, 0x00104000, 0x00081032

ELEMENTS = st.one_of(
    st.builds(
        Element,
        st.sampled_from([PATIENT_ID, 0x00100010, 0x00081030]),
        st.just(""),
        st.binary(max_size=10).map(lambda value: value + b" " * (len(value) % 2)),
    ).map(lambda element: Element(element.tag, vr_of_tag(element.tag), element.value)),
    st.builds(Element, st.just(0x00091001), st.just("UN"), st.just(b"\1\2")),
)
DATA_SETS = st.recursive(
    st.lists(ELEMENTS, max_size=3).map(lambda elements: {one.tag: one for one in elements}),
    lambda inner: st.tuples(inner, st.lists(inner, max_size=3)).map(
        lambda pair: {**pair[0], CODES: Sequence(CODES, tuple(pair[1]))}
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(DATA_SETS, st.sampled_from(SYNTAXES))
def test_property_what_is_encoded_decodes_to_itself(data_set: DataSet, uid: str) -> None:
    encoded = encode_data_set(data_set.values(), uid)
    assert len(encoded) % 2 == 0
    assert decode_data_set(encoded, uid, LIMIT) == dict(sorted(data_set.items()))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(SYNTAXES))
def test_arbitrary_bytes_decode_or_are_invalid_input(data: bytes, uid: str) -> None:
    for received in (data, zlib.compress(data, wbits=-zlib.MAX_WBITS)):
        try:
            decoded = decode_data_set(received, uid, LIMIT)
        except InvalidInput:
            continue
        assert all(tag == element.tag for tag, element in decoded.items())


def test_values_of_every_vr_are_padded_and_pydicom_reads_them() -> None:
    elements = [
        Element(0x00100010, "PN", b"DOE"),
        Element(PATIENT_ID, "LO", b"A"),
        Element(COMMENTS, "LT", b"abc"),
        Element(0x0020000D, "UI", b"1.2"),
        Element(0x00420011, "OB", b"\1"),
        Element(0x00080120, "UR", b"urn:a"),
    ]
    encoded = encode_data_set(reversed(elements), EXPLICIT)
    found = pydicom.filereader.read_dataset(io.BytesIO(encoded), False, True)
    raw = {int(tag): found.get_item(tag).value for tag in list(found.keys())}
    assert raw == {
        0x00100010: b"DOE ",
        PATIENT_ID: b"A ",
        COMMENTS: b"abc ",
        0x0020000D: b"1.2\0",
        0x00420011: b"\1\0",
        0x00080120: b"urn:a ",
    }
    assert list(raw) == sorted(raw)


@pytest.mark.parametrize("uid", SYNTAXES)
def test_integers_stand_in_the_byte_order_of_the_syntax(uid: str) -> None:
    element = encode_integer(0x00081197, 0x0112, uid)
    assert element.value == (b"\1\x12" if uid == EXPLICIT_VR_BIG_ENDIAN else b"\x12\1")
    assert decode_integer(element, uid) == 0x0112


def test_integers_that_do_not_fit_are_refused_or_absent() -> None:
    for tag, value in ((0x00081197, 0x10000), (0x00081197, -1), (PATIENT_ID, 1)):
        with pytest.raises(InvalidInput, match="cannot be a value of"):
            encode_integer(tag, value, IMPLICIT)
    assert decode_integer(Element(0x00081197, "US", b"\1"), IMPLICIT) is None
    assert decode_integer(Element(PATIENT_ID, "LO", b"12"), IMPLICIT) is None


def test_a_value_too_long_for_explicit_vr_is_refused_and_fits_implicit() -> None:
    element = Element(PATIENT_ID, "LO", bytes(65_536))
    with pytest.raises(InvalidInput, match="more than Explicit VR can tell"):
        encode_data_set([element], EXPLICIT)
    assert decode_data_set(encode_data_set([element], IMPLICIT), IMPLICIT, LIMIT) == {
        PATIENT_ID: element
    }


def test_the_vr_of_the_dictionary_wins_over_the_bytes() -> None:
    encoded = b"\x10\0\x20\0SH\2\0A1" + b"\x09\0\1\x10SH\2\0A1"
    assert decode_data_set(encoded, EXPLICIT, LIMIT) == {
        PATIENT_ID: Element(PATIENT_ID, "LO", b"A1"),
        0x00091001: Element(0x00091001, "SH", b"A1"),
    }


def test_a_sequence_that_was_sent_as_un_is_read() -> None:
    inner = encode_data_set([Element(PATIENT_ID, "LO", b"A1")], IMPLICIT)
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    encoded = b"\x08\0\x32\x10UN\0\0" + len(item).to_bytes(4, "little") + item
    assert decode_data_set(encoded, EXPLICIT, LIMIT) == {
        CODES: Sequence(CODES, ({PATIENT_ID: Element(PATIENT_ID, "LO", b"A1")},))
    }


@pytest.mark.parametrize("uid", SYNTAXES)
def test_undefined_lengths_of_pydicom_are_read(uid: str) -> None:
    inner = Dataset()
    inner.PatientID = "A1"
    inner.is_undefined_length_sequence_item = True
    outer = Dataset()
    outer.ProcedureCodeSequence = pydicom.Sequence([inner, inner])
    outer["ProcedureCodeSequence"].is_undefined_length = True
    outer.PatientID = "A2"
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = uid == IMPLICIT
    buffer.is_little_endian = uid != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(buffer, outer)
    encoded = buffer.getvalue()
    if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        encoded = zlib.compress(encoded, wbits=-zlib.MAX_WBITS)
    item = {PATIENT_ID: Element(PATIENT_ID, "LO", b"A1")}
    assert decode_data_set(encoded, uid, LIMIT) == {
        CODES: Sequence(CODES, (item, item)),
        PATIENT_ID: Element(PATIENT_ID, "LO", b"A2"),
    }


def test_an_element_may_not_leave_its_item() -> None:
    item = b"\xfe\xff\x00\xe0\x08\0\0\0" + b"\x10\0\x20\0\xff\0\0\0"
    encoded = b"\x08\0\x32\x10" + len(item).to_bytes(4, "little") + item + bytes(400)
    with pytest.raises(InvalidInput, match="claims 255 bytes"):
        decode_data_set(encoded, IMPLICIT, LIMIT)


def test_elements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_ELEMENTS", 10)
    with pytest.raises(InvalidInput, match="more than 10 elements"):
        decode_data_set(b"\x10\0\x20\0\0\0\0\0" * 11, IMPLICIT, LIMIT)


def test_size_is_bounded_before_and_after_inflating() -> None:
    deflated = DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    for data, uid in (
        (bytes(101), IMPLICIT),
        (bytes(101), deflated),
        (zlib.compress(bytes(101), wbits=-zlib.MAX_WBITS), deflated),
    ):
        with pytest.raises(InvalidInput, match="longer than 100 bytes"):
            decode_data_set(data, uid, 100)
    with pytest.raises(InvalidInput, match="cannot be inflated"):
        decode_data_set(b"\xff\xff", deflated, 100)


def test_vrs_are_those_of_the_dictionary() -> None:
    for tag in list(DicomDictionary)[::37]:
        assert DicomDictionary[tag][0].startswith(vr_of_tag(tag))
    assert vr_of_tag(0x00091001) == "UN"
