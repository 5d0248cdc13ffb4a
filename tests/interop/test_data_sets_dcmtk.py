"""DCMTK reads what we write: file meta information, answers and commitment reports."""

import subprocess

import pytest

from harmoni.dicom import commitment_data, identifier, part10, uids
from harmoni.dicom.identifier import Key, Query, QueryLevel, Universal
from vendor_files import vendor_files

pytestmark = pytest.mark.peer

NAMES = [
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "JPEG2000.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "image_dfl.dcm",
    "chrGreek.dcm",
    "reportsi.dcm",
    "color3d_jpeg_baseline.dcm",
]
SYNTAXES = [
    (uids.IMPLICIT_VR_LITTLE_ENDIAN, "-ti"),
    (uids.EXPLICIT_VR_LITTLE_ENDIAN, "-te"),
    (uids.EXPLICIT_VR_BIG_ENDIAN, "-tb"),
]


@pytest.fixture
def dump(peer, tmp_path):
    program = peer("/usr/bin/dcmdump")

    def run(data, *options):
        path = tmp_path / "dumped.dcm"
        path.write_bytes(data)
        ran = subprocess.run(
            [program, *options, str(path)], capture_output=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode("utf-8", "replace")

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_behind_our_prefix_is_dumped_as_the_original(dump, name):
    original = next(path for path in vendor_files() if path.name == name).read_bytes()
    meta = part10.read_prefix(original)
    ours = part10.file_meta(
        sop_class_uid=meta.sop_class_uid or "1.2",
        sop_instance_uid=meta.sop_instance_uid or "1.2",
        transfer_syntax_uid=meta.transfer_syntax_uid,
        private_information=b'{"odd":1}',
    )
    dumped = dump(ours + original[meta.dataset_offset :])
    head, data_set = dumped.split("# Dicom-Data-Set\n")
    assert data_set == dump(original).split("# Dicom-Data-Set\n")[1]
    assert f"[{uids.IMPLEMENTATION_CLASS_UID}]" in head
    assert "7b\\22\\6f\\64\\64\\22\\3a\\31\\7d\\00" in head


@pytest.mark.parametrize(("syntax", "option"), SYNTAXES)
def test_an_answer_is_dumped_in_the_requesters_set(dump, syntax, option):
    query = Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=(Key(0x00100010, "PN", Universal()), Key(0x00081032, "SQ", Universal())),
        character_set=b"\\ISO 2022 IR 126",
    )
    answer = identifier.encode_answer(
        query,
        {0x00100010: "Παπαδόπουλος^Γεώργιος"},
        transfer_syntax_uid=syntax,
        retrieve_ae_title="GATEWAY",
    )
    dumped = dump(answer, "-f", option, "+U8")
    assert "PN [Παπαδόπουλος^Γεώργιος]" in dumped
    assert "AE [GATEWAY]" in dumped
    assert "SQ (Sequence with explicit length #=0)" in dumped


@pytest.mark.parametrize(("syntax", "option"), SYNTAXES)
def test_a_commitment_report_is_dumped(dump, syntax, option):
    committed = commitment_data.Reference(
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3",
        sha256=bytes(32),
        copies=2,
        sites=("dc1", "dc2"),
    )
    failed = commitment_data.Reference(
        sop_class_uid="1.2", sop_instance_uid="1.2.4", failure_reason=0x0112
    )
    report = commitment_data.encode_commitment_report("1.9", [committed], [failed], syntax, "X")
    dumped = dump(report, "-f", option)
    assert "UI [1.2.3]" in dumped
    assert "US 274 " in dumped
