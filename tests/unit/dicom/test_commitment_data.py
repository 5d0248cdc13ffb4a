"""Commitment requests and reports, with pydicom as the other side."""

import contextlib
import io

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from harmoni.dicom import commitment_data
from harmoni.dicom.commitment_data import (
    CommitmentReport,
    Reference,
    encode_commitment_report,
    encode_commitment_request,
    parse_commitment_report,
    parse_commitment_request,
)
from harmoni.dicom.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from harmoni.model.errors import InvalidInput

SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
IMPLICIT = IMPLICIT_VR_LITTLE_ENDIAN
CT = "1.2.840.10008.5.1.4.1.1.2"
DIGEST = bytes(range(32))
PLAIN = Reference(sop_class_uid=CT, sop_instance_uid="1.2.3")
HASHED = Reference(sop_class_uid=CT, sop_instance_uid="1.2.4", sha256=DIGEST)
PLACED = Reference(
    sop_class_uid=CT, sop_instance_uid="1.2.6", sha256=DIGEST, copies=2, sites=("dc1", "dc2")
)
FAILED = Reference(sop_class_uid=CT, sop_instance_uid="1.2.5", failure_reason=0x0112)


def pydicom_bytes(dataset: Dataset, uid: str = IMPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = uid == IMPLICIT
    buffer.is_little_endian = uid != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def pydicom_reads(data: bytes, uid: str) -> Dataset:
    return pydicom.filereader.read_dataset(
        io.BytesIO(data), uid == IMPLICIT, uid != EXPLICIT_VR_BIG_ENDIAN
    )


def pydicom_request(uids: list[str]) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = "1.9"
    dataset.ReferencedSOPSequence = Sequence()
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = CT
        item.ReferencedSOPInstanceUID = uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


@pytest.mark.parametrize("uid", SYNTAXES)
def test_requests_of_others_are_read(uid: str) -> None:
    data = pydicom_bytes(pydicom_request(["1.2.3"]), uid)
    assert parse_commitment_request(data, uid) == ("1.9", (PLAIN,))


@pytest.mark.parametrize("uid", SYNTAXES)
def test_requests_come_back_and_pydicom_reads_them(uid: str) -> None:
    data = encode_commitment_request("1.9", [PLAIN, HASHED], uid)
    assert parse_commitment_request(data, uid) == ("1.9", (PLAIN, HASHED))
    dataset = pydicom_reads(data, uid)
    assert dataset.TransactionUID == "1.9"
    first, second = dataset.ReferencedSOPSequence
    assert (first.ReferencedSOPClassUID, first.ReferencedSOPInstanceUID) == (CT, "1.2.3")
    assert len(first) == 2
    assert second.private_block(0x0009, "HARMONI")[0x01].value == DIGEST


@pytest.mark.parametrize("uid", SYNTAXES)
def test_reports_come_back_and_pydicom_reads_them(uid: str) -> None:
    data = encode_commitment_report("1.9", [PLAIN, HASHED], [FAILED], uid, "GATEWAY")
    assert parse_commitment_report(data, uid) == CommitmentReport(
        transaction_uid="1.9",
        committed=(PLAIN, HASHED),
        failed=(FAILED,),
        retrieve_ae_title="GATEWAY",
    )
    dataset = pydicom_reads(data, uid)
    assert dataset.RetrieveAETitle == "GATEWAY"
    assert dataset.FailedSOPSequence[0].FailureReason == 0x0112
    assert all("RetrieveAETitle" not in item for item in dataset.ReferencedSOPSequence)


@pytest.mark.parametrize("uid", SYNTAXES)
def test_a_report_says_how_many_copies_there_are_and_where(uid: str) -> None:
    data = encode_commitment_report("1.9", [HASHED, PLACED], [], uid, "GATEWAY")
    assert parse_commitment_report(data, uid).committed == (HASHED, PLACED)
    bare, placed = (
        item.private_block(0x0009, "HARMONI")
        for item in pydicom_reads(data, uid).ReferencedSOPSequence
    )
    assert 0x04 not in bare
    assert 0x05 not in bare
    if uid != IMPLICIT:
        assert placed[0x04].VR == "US"
        assert placed[0x04].value == 2
        assert list(placed[0x05].value) == ["dc1", "dc2"]


def test_too_many_copies_for_their_element_are_refused() -> None:
    many = Reference(sop_class_uid=CT, sop_instance_uid="1.2", sha256=DIGEST, copies=70_000)
    with pytest.raises(InvalidInput, match="whose VR is US"):
        encode_commitment_report("1.9", [many], [], IMPLICIT, "X")


def test_a_report_of_failures_only_names_no_place_and_no_empty_sequence() -> None:
    dataset = pydicom_reads(encode_commitment_report("1.9", [], [FAILED], IMPLICIT, "X"), IMPLICIT)
    assert "RetrieveAETitle" not in dataset
    assert "ReferencedSOPSequence" not in dataset


def test_the_private_block_is_found_where_its_creator_reserved_it() -> None:
    dataset = pydicom_request(["1.2.4"])
    item = dataset.ReferencedSOPSequence[0]
    item.private_block(0x0009, "SOMEBODY ELSE", create=True).add_new(0x01, "LO", "x")
    item.private_block(0x0009, "HARMONI", create=True).add_new(0x01, "OB", DIGEST)
    assert parse_commitment_request(pydicom_bytes(dataset), IMPLICIT) == ("1.9", (HASHED,))


def test_a_private_block_without_its_hash_is_refused() -> None:
    dataset = pydicom_request(["1.2.4"])
    block = dataset.ReferencedSOPSequence[0].private_block(0x0009, "HARMONI", create=True)
    block.add_new(0x01, "OB", DIGEST[:30])
    with pytest.raises(InvalidInput, match="lacks its SHA-256"):
        parse_commitment_request(pydicom_bytes(dataset), IMPLICIT)


@pytest.mark.parametrize(
    ("number", "vr", "value", "why"),
    [
        (0x04, "US", [2, 3], "copies of a reference, 00091004, is not one value"),
        (0x04, "LO", "", "copies of a reference, 00091004, is not one value"),
        (0x04, "SQ", [], "copies of a reference, 00091004, is not one value"),
        (0x05, "LO", "", "sites of a reference, 00091005, are not names"),
        (0x05, "LO", ["dc1", ""], "sites of a reference, 00091005, are not names"),
        (0x05, "UN", b"dc\xe9 ", "sites of a reference, 00091005, are not names"),
        (0x05, "UN", b"x" * 66, "sites of a reference, 00091005, are not names"),
    ],
)
def test_copies_and_sites_that_cannot_be_read_are_refused(
    number: int, vr: str, value: object, why: str
) -> None:
    dataset = pydicom_request(["1.2.4"])
    block = dataset.ReferencedSOPSequence[0].private_block(0x0009, "HARMONI", create=True)
    block.add_new(0x01, "OB", DIGEST)
    block.add_new(number, vr, value)
    with pytest.raises(InvalidInput, match=why):
        parse_commitment_report(
            pydicom_bytes(dataset, EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN
        )


def test_requests_that_lack_what_they_need_are_refused() -> None:
    with pytest.raises(InvalidInput, match="names no instance"):
        parse_commitment_request(pydicom_bytes(pydicom_request([])), IMPLICIT)
    with pytest.raises(InvalidInput, match="is no UID for 00081155"):
        parse_commitment_request(pydicom_bytes(pydicom_request([""])), IMPLICIT)
    nameless = pydicom_request(["1.2.3"])
    del nameless.TransactionUID
    with pytest.raises(InvalidInput, match="is no UID for 00081195"):
        parse_commitment_request(pydicom_bytes(nameless), IMPLICIT)
    with pytest.raises(InvalidInput, match="longer than"):
        parse_commitment_request(bytes(commitment_data.MAX_COMMITMENT_BYTES + 1), IMPLICIT)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_arbitrary_and_mutated_bytes_are_read_or_invalid_input(data: st.DataObject) -> None:
    uid = data.draw(st.sampled_from(SYNTAXES))
    encoded = bytearray(encode_commitment_report("1.9", [PLAIN, PLACED], [FAILED], uid, "X"))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    noise = data.draw(st.binary(max_size=60))
    for read in (parse_commitment_request, parse_commitment_report):
        for received in (bytes(encoded), noise):
            with contextlib.suppress(InvalidInput):
                read(received, uid)
