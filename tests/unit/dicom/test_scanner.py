"""The scanner against pydicom, against any cut, and against anything at all."""

import io
import itertools
import struct
import warnings
import zlib

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from harmoni.dicom import scanner
from harmoni.dicom.part10 import read_prefix
from harmoni.dicom.scanner import Scanner, scan
from harmoni.dicom.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    storage_transfer_syntax,
)
from harmoni.model import header as tags
from harmoni.model.errors import InvalidInput
from harmoni.model.header import Element, Header
from vendor_files import vendor_files

SYNTAXES = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]


def syntax(uid: str) -> TransferSyntax:
    found = storage_transfer_syntax(uid)
    assert found is not None
    return found


def encode(dataset: Dataset, uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = uid == IMPLICIT_VR_LITTLE_ENDIAN
    buffer.is_little_endian = uid != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(buffer, dataset)
    if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(buffer.getvalue()) + deflater.flush()
    return buffer.getvalue()


def sample() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 126"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.StudyDate = "20260102"
    item = Dataset()
    item.PatientID = "NOT THE PATIENT"
    deeper = Dataset()
    deeper.PatientName = "NOT^EITHER"
    item.ReferencedSOPSequence = Sequence([deeper])
    item["ReferencedSOPSequence"].is_undefined_length = True
    deeper.is_undefined_length_sequence_item = True
    item.is_undefined_length_sequence_item = True
    dataset.ReferencedStudySequence = Sequence([item, Dataset()])
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.ReferencedSeriesSequence = Sequence([Dataset()])
    dataset.PatientName = "Παπαδόπουλος^Γεώργιος"
    dataset.PatientID = "1"
    dataset.PatientComments = ""
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.SeriesInstanceUID = "1.2.3.4.5"
    dataset.InstanceNumber = 7
    dataset.NumberOfFrames = 3
    dataset.Rows = 1
    return dataset


def test_every_kept_tag_is_one_of_the_header() -> None:
    expected = {
        tags.SPECIFIC_CHARACTER_SET,
        *tags.PATIENT_TAGS,
        *tags.STUDY_TAGS,
        *tags.SERIES_TAGS,
        *tags.INSTANCE_TAGS,
    }
    assert expected == scanner.VR_OF_TAG.keys()


@pytest.mark.parametrize("tag", sorted(scanner.VR_OF_TAG), ids="{:08X}".format)
def test_value_representations_are_those_of_the_dictionary(tag: int) -> None:
    assert dictionary_VR(tag) == scanner.VR_OF_TAG[tag]


@pytest.mark.parametrize("uid", SYNTAXES)
def test_top_level_is_read_and_sequences_are_stepped_over(uid: str) -> None:
    data = encode(sample(), uid)
    reader = Scanner(syntax(uid))
    reader.feed(data)
    header = reader.header()
    assert (reader.done, reader.broken) == (True, None)
    assert header.character_set == b"ISO_IR 126"
    assert header.patient == (
        Element(0x00100010, "PN", "Παπαδόπουλος^Γεώργιος ".encode("iso8859-7")),
        Element(0x00100020, "LO", b"1 "),
        Element(0x00104000, "LT", b""),
    )
    assert header.study == (
        Element(0x00080020, "DA", b"20260102"),
        Element(0x0020000D, "UI", b"1.2.3.4\0"),
    )
    assert header.series == (Element(0x0020000E, "UI", b"1.2.3.4.5\0"),)
    assert header.instance == (
        Element(0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
        Element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        Element(0x00080018, "UI", b"1.2.3\0"),
        Element(0x00200013, "IS", b"7 "),
        Element(0x00280008, "IS", b"3 "),
    )


@pytest.mark.parametrize("uid", SYNTAXES)
def test_byte_by_byte_and_every_single_cut_give_the_same(uid: str) -> None:
    data = encode(sample(), uid)
    whole = scan(data, syntax(uid))
    slow = Scanner(syntax(uid))
    for index in range(len(data)):
        slow.feed(data[index : index + 1])
    assert slow.header() == whole
    for cut in range(0, len(data), 3):
        reader = Scanner(syntax(uid))
        reader.feed(memoryview(data)[:cut])
        reader.feed(bytearray(data[cut:]))
        assert reader.header() == whole


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[low:high] for low, high in itertools.pairwise(edges)]


def scan_in_pieces(parts: list[bytes], uid: str) -> tuple[Header, bool, str | None]:
    reader = Scanner(syntax(uid))
    for part in parts:
        reader.feed(part)
    return reader.header(), reader.done, reader.broken


TAG_BYTES = st.sampled_from(
    [struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in sorted(scanner.VR_OF_TAG)]
    + [b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0", b"\x08\x00\x40\x11"]
)
NEARLY_DICOM = st.lists(
    st.one_of(
        TAG_BYTES,
        st.sampled_from([b"SQ\0\0", b"UN\0\0", b"PN", b"UI", b"OB\0\0", b"\xff" * 4, b"ZZ", b"??"]),
        st.integers(0, 12).map(lambda length: struct.pack("<H", length)),
        st.integers(0, 12).map(lambda length: struct.pack("<I", length)),
        st.binary(max_size=12),
    ),
    max_size=40,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), NEARLY_DICOM), st.lists(st.integers(0, 999), max_size=6))
def test_arbitrary_bytes_never_raise_and_no_cut_matters(data: bytes, cuts: list[int]) -> None:
    for uid in SYNTAXES:
        deflated = uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        bytes_sent = zlib.compress(data, wbits=-zlib.MAX_WBITS) if deflated else data
        whole = scan_in_pieces([bytes_sent], uid)
        assert scan_in_pieces(pieces(bytes_sent, cuts), uid) == whole
    scan(data, syntax(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_data_sets_never_raise(data: st.DataObject) -> None:
    uid = data.draw(st.sampled_from(SYNTAXES))
    encoded = bytearray(encode(sample(), uid))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cuts = data.draw(st.lists(st.integers(0, 999), max_size=4))
    whole = scan_in_pieces([bytes(encoded)], uid)
    assert scan_in_pieces(pieces(bytes(encoded), cuts), uid) == whole


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


LITTLE = EXPLICIT_VR_LITTLE_ENDIAN
PATIENT_ID = tags.PATIENT_ID


def patient_id(data: bytes, uid: str = LITTLE) -> bytes:
    return scan(data, syntax(uid)).value(PATIENT_ID)


def test_odd_lengths_group_lengths_and_unpadded_values_are_read() -> None:
    data = explicit(0x00080000, b"UL", b"\0\0\0\0") + explicit(0x00080050, b"SH", b"odd")
    assert patient_id(data + explicit(PATIENT_ID, b"LO", b"A12")) == b"A12"


def test_explicit_elements_are_recognized_where_implicit_was_negotiated() -> None:
    data = explicit(0x00080005, b"CS", b"ISO_IR 192") + explicit(PATIENT_ID, b"LO", b"A1")
    assert patient_id(data, IMPLICIT_VR_LITTLE_ENDIAN) == b"A1"


def test_an_implicit_element_among_explicit_ones_is_read() -> None:
    data = explicit(0x00080060, b"CS", b"CT") + implicit(PATIENT_ID, b"A1")
    assert patient_id(data) == b"A1"


def test_unknown_pairs_of_capitals_are_long_when_reserved_bytes_are_zero() -> None:
    long = struct.pack("<HH2sHI", 0x0009, 0x1001, b"QQ", 0, 4) + b"1234"
    short = explicit(0x00091002, b"QQ", b"1234")
    assert patient_id(long + short + explicit(PATIENT_ID, b"LO", b"A1")) == b"A1"


def test_un_gives_way_to_the_dictionary() -> None:
    data = struct.pack("<HH2sHI", 0x0010, 0x0020, b"UN", 0, 2) + b"A1"
    assert scan(data, syntax(LITTLE)).patient == (Element(PATIENT_ID, "LO", b"A1"),)


def test_a_binary_value_where_text_belongs_is_left_out() -> None:
    data = explicit(PATIENT_ID, b"US", b"\1\0") + explicit(0x00100040, b"CS", b"F ")
    assert scan(data, syntax(LITTLE)).patient == (Element(0x00100040, "CS", b"F "),)


@pytest.mark.parametrize("uid", [EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
def test_un_of_undefined_length_is_read_as_implicit_little_endian(uid: str) -> None:
    order = "<" if uid == EXPLICIT_VR_LITTLE_ENDIAN else ">"
    inside = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + implicit(0x00091001, b"\xff" * 4)
        + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    data = struct.pack(f"{order}HH2sHI", 0x0009, 0x1000, b"UN", 0, 0xFFFFFFFF) + inside
    data += struct.pack(f"{order}HH2sH", 0x0010, 0x0020, b"LO", 2) + b"A1"
    assert patient_id(data, uid) == b"A1"


def test_a_missing_item_delimitation_is_forgiven() -> None:
    data = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    data += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + explicit(0x00080050, b"SH", b"x ")
    data += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + explicit(PATIENT_ID, b"LO", b"A1")
    assert patient_id(data) == b"A1"


def test_an_element_between_items_breaks_the_scan_and_keeps_what_was_read() -> None:
    data = explicit(0x00080060, b"CS", b"CT")
    data += struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    data += explicit(0x00080050, b"SH", b"x ")
    reader = Scanner(syntax(LITTLE))
    reader.feed(data)
    assert reader.done
    assert reader.broken == "00080050 stands where it must not, within a sequence"
    assert reader.header().value(tags.MODALITY) == b"CT"


def test_nesting_is_bounded() -> None:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    reader = Scanner(syntax(LITTLE))
    reader.feed((sequence + item) * 100)
    assert reader.broken == "sequences are nested more than 64 deep"


def test_elements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "MAX_ELEMENTS", 10)
    reader = Scanner(syntax(LITTLE))
    for _ in range(11):
        reader.feed(explicit(0x00090010, b"LO", b"xx"))
    assert reader.broken == "more than 10 elements stand before the pixels"


def test_a_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "MAX_INFLATED_BYTES", 1 << 20)
    value = struct.pack("<HH2sHI", 0x0009, 0x1000, b"OB", 0, 1 << 30) + bytes(2 << 20)
    reader = Scanner(syntax(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
    reader.feed(zlib.compress(value, wbits=-zlib.MAX_WBITS))
    assert reader.broken == "the header inflates to more than 1048576 bytes"


def test_bytes_that_are_not_deflated_break_the_scan() -> None:
    reader = Scanner(syntax(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
    reader.feed(b"\xff" * 20)
    assert reader.broken is not None
    assert "deflated stream is invalid" in reader.broken


def test_a_value_beyond_the_limit_is_stepped_over() -> None:
    long = struct.pack("<HH2sHI", 0x0010, 0x4000, b"UT", 0, 65538) + b"x" * 65538
    data = explicit(PATIENT_ID, b"LO", b"A1") + long + explicit(0x00200010, b"SH", b"S1")
    reader = Scanner(syntax(LITTLE))
    for start in range(0, len(data), 1000):
        reader.feed(data[start : start + 1000])
    header = reader.header()
    assert (header.value(0x00104000), header.value(tags.STUDY_ID)) == (b"", b"S1")


def test_the_scan_is_done_at_the_first_element_behind_the_last_kept_one() -> None:
    reader = Scanner(syntax(LITTLE))
    reader.feed(explicit(PATIENT_ID, b"LO", b"A1"))
    assert not reader.done
    reader.feed(explicit(0x00280010, b"US", b"\1\0"))
    assert reader.done
    reader.feed(explicit(PATIENT_ID, b"LO", b"A2"))
    assert reader.header().value(PATIENT_ID) == b"A1"


def test_vendor_files_are_read_as_pydicom_reads_them() -> None:
    """Every scanned tag of every file that both can open; only pydicom leaves UN as it is."""
    compared = 0
    different = {}
    for path in vendor_files():
        data = path.read_bytes()
        try:
            meta = read_prefix(data)
        except InvalidInput:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        expected = {}
        for tag in scanner.VR_OF_TAG.keys() & {int(tag) for tag in dataset.keys()}:  # noqa: SIM118 -- iterating a Dataset converts its elements
            expected[tag] = dataset.get_item(tag).value or b""
        reader = Scanner(syntax(meta.transfer_syntax_uid))
        reader.feed(data[meta.dataset_offset :])
        header = reader.header()
        levels = (header.patient, header.study, header.series, header.instance)
        found = {element.tag: element.value for level in levels for element in level}
        character_set = expected.pop(tags.SPECIFIC_CHARACTER_SET, b"")
        assert reader.broken is None
        if isinstance(character_set, bytes):  # pydicom decodes it where it needs it early
            assert header.character_set == character_set
        if found != expected:
            different[path.name] = (found, expected)
        compared += 1
    assert different == {}
    assert compared > 200
