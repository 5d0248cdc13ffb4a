"""Part 10 prefixes: what we write, what vendors write, and anything at all."""

import io
import struct
import warnings

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.dicom.part10 import MAX_PREFIX_BYTES, FileMeta, file_meta, read_prefix
from harmoni.dicom.uids import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PRIVATE_INFORMATION_CREATOR_UID,
)
from harmoni.model.errors import InvalidInput
from vendor_files import vendor_files

CT = "1.2.840.10008.5.1.4.1.1.2"
DATA_SET = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 2) + b"A1"


def written(private_information: bytes = b"{}", *, sop_instance_uid: str = "1.2.3") -> bytes:
    return file_meta(
        sop_class_uid=CT,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        private_information=private_information,
    )


def meta(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


TRANSFER_SYNTAX = meta(0x00020010, b"UI", EXPLICIT_VR_LITTLE_ENDIAN.encode() + b"\0")


@pytest.mark.parametrize("private_information", [b"", b"{}", b'{"odd":1}', bytes(1000)])
def test_what_is_written_is_read_by_pydicom_and_by_us(private_information: bytes) -> None:
    data = written(private_information) + DATA_SET
    padded = private_information + b"\0" * (len(private_information) % 2)
    dataset = pydicom.dcmread(io.BytesIO(data))
    info = dataset.file_meta
    assert dataset.PatientID == "A1"
    assert info.MediaStorageSOPClassUID == CT
    assert info.MediaStorageSOPInstanceUID == "1.2.3"
    assert info.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert info.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert info.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert info.FileMetaInformationVersion == b"\0\1"
    assert info.FileMetaInformationGroupLength == len(data) - len(DATA_SET) - 144
    assert info.PrivateInformationCreatorUID == PRIVATE_INFORMATION_CREATOR_UID
    assert (info.PrivateInformation or b"") == padded
    assert read_prefix(data) == FileMeta(
        sop_class_uid=CT,
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        private_information=padded,
        dataset_offset=len(data) - len(DATA_SET),
        prefix=data[: -len(DATA_SET)],
    )


@pytest.mark.parametrize("uid", ["", "1" * 65, "1 2", "Ωμέγα"])
def test_a_uid_that_cannot_be_written_is_refused(uid: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be written as a UID"):
        written(sop_instance_uid=uid)


def test_a_prefix_beyond_the_limit_is_refused_both_ways() -> None:
    with pytest.raises(InvalidInput, match="shorten the private information"):
        written(bytes(MAX_PREFIX_BYTES))
    many = meta(0x00020016, b"AE", b"x" * 60_000) * 18
    with pytest.raises(InvalidInput, match="longer than"):
        read_prefix(bytes(128) + b"DICM" + TRANSFER_SYNTAX + many)


def test_the_group_ends_where_another_begins_whatever_its_length_says() -> None:
    for length in (0, 4, 9999):
        prefix = bytes(128) + b"DICM"
        prefix += meta(0x00020000, b"UL", struct.pack("<I", length)) + TRANSFER_SYNTAX
        assert read_prefix(prefix + DATA_SET).prefix == prefix


@pytest.mark.parametrize("lead", [bytes(128) + b"DICM", b"DICM", b""])
def test_preamble_and_group_length_may_be_missing(lead: bytes) -> None:
    prefix = lead + TRANSFER_SYNTAX
    found = read_prefix(prefix + DATA_SET)
    assert (found.prefix, found.transfer_syntax_uid) == (prefix, EXPLICIT_VR_LITTLE_ENDIAN)


def test_elements_of_implicit_vr_are_read() -> None:
    uid = EXPLICIT_VR_LITTLE_ENDIAN.encode() + b"\0"
    prefix = bytes(128) + b"DICM" + struct.pack("<HHI", 2, 0x10, len(uid)) + uid
    assert read_prefix(prefix + DATA_SET).dataset_offset == len(prefix)


def test_private_information_of_others_is_not_taken_for_ours() -> None:
    other = meta(0x00020100, b"UI", b"1.2\0")
    other += struct.pack("<HH2sHI", 2, 0x0102, b"OB", 0, 2) + b"{}"
    assert read_prefix(b"DICM" + TRANSFER_SYNTAX + other).private_information is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no DICOM file"),
        (bytes(200), "no DICOM file"),
        (bytes(128) + b"DICM", "does not name a transfer syntax"),
        (b"DICM" + TRANSFER_SYNTAX[:-1], "cut off"),
        (b"DICM" + TRANSFER_SYNTAX[:5], "cut off"),
        (b"DICM" + struct.pack("<HH2sHI", 2, 2, b"OB", 0, 0xFFFFFFFF), "cut off"),
    ],
)
def test_what_is_no_prefix_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read_prefix(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.sampled_from([b"", b"DICM", bytes(128) + b"DICM\2\0"]))
def test_arbitrary_bytes_give_a_meta_or_invalid_input(data: bytes, lead: bytes) -> None:
    try:
        found = read_prefix(lead + data)
    except InvalidInput:
        return
    assert found.prefix == (lead + data)[: found.dataset_offset]


def test_prefixes_of_vendor_files_are_those_that_pydicom_reads() -> None:
    compared = 0
    for path in vendor_files():
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        info = dataset.file_meta
        if "TransferSyntaxUID" not in info:
            with pytest.raises(InvalidInput):
                read_prefix(data)
            continue
        found = read_prefix(memoryview(data))
        assert found.transfer_syntax_uid == info.TransferSyntaxUID
        assert found.sop_class_uid == info.get("MediaStorageSOPClassUID", "")
        assert found.sop_instance_uid == info.get("MediaStorageSOPInstanceUID", "")
        first = next(iter(dataset.keys()), None)
        little = info.TransferSyntaxUID.is_little_endian
        if first is not None and not info.TransferSyntaxUID.is_deflated:
            order = "little" if little else "big"
            group = int.from_bytes(data[found.dataset_offset :][:2], order)
            assert group == first.group
        compared += 1
    assert compared > 200
