"""DCMTK's command line tools against the running archive over mutual TLS.

What DCMTK sends is compared with what its own bit-preserving receiver gets from the same sender,
since it re-encodes parts of a data set itself. Its movescu and getscu have no TLS: a proxy shows
the hospital's certificate for them.
"""

import re
import uuid
from collections import defaultdict
from contextlib import suppress

import pydicom
import pytest

import tls_proxy
from archive_role import CALLED, HOST, client_context
from dcmtk import (
    FILES,
    GREEK,
    OPTIONS,
    data_set_in,
    free_port,
    run,
    storescp,
    with_new_uids,
    written,
)
from harmoni.archive.site import ArchiveSite
from harmoni.demo import samples
from harmoni.dicom import part10
from harmoni.index import lookup
from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock
from vendor_files import vendor_files

pytestmark = pytest.mark.peer

HOSPITAL = "hospital-e"
FEWEST_KEPT = 221


def tls_options(role, hospital=HOSPITAL):
    files = role.house(hospital).tls_files
    return ["+tls", files.key, files.certificate, "+cf", files.authorities]


class Sent:
    """The files as sent to the archive: UIDs new, and what DCMTK's receiver got of them."""

    def __init__(self):
        self.studies = {}
        self.reference = {}
        self.patient = uuid.uuid4().hex[:10].upper()


@pytest.fixture(scope="module")
def sent(archive_role, peer, tmp_path_factory):
    store, scp = peer("/usr/bin/storescu"), peer("/usr/bin/storescp")
    folder = tmp_path_factory.mktemp("sent")
    sent, port = Sent(), free_port()
    theirs = tmp_path_factory.mktemp("theirs") / "received"
    with storescp(scp, [peer("/usr/bin/echoscu")], theirs, port):
        for name, options in FILES.items():
            dataset = with_new_uids(name, folder, sent.patient)
            sent.studies[name] = dataset
            arguments = [store, *options, "-R", "-aec", CALLED]
            run(*arguments, HOST, port, folder / name)
            run(*arguments, *tls_options(archive_role), HOST, archive_role.port, folder / name)
    sent.reference = written(theirs)
    assert len(sent.reference) == len(FILES)
    return sent


def sendable():
    """Files for storage that DCMTK has an option for, by that option."""
    files = defaultdict(list)
    for path in vendor_files():
        with suppress(InvalidInput):
            sample = samples.read(path)
            if sample.transfer_syntax_uid in OPTIONS:
                files[OPTIONS[sample.transfer_syntax_uid]].append(path)
    return files


def test_whatever_storescu_sends_is_kept_bit_for_bit(archive_role, peer, tmp_path):
    """Every file of pydicom's; some share their UIDs, and then each is kept."""
    port = free_port()
    theirs = tmp_path / "received"
    with storescp(
        peer("/usr/bin/storescp"), [peer("/usr/bin/echoscu")], theirs, port, "--unique-filenames"
    ):
        for option, paths in sendable().items():
            arguments = [peer("/usr/bin/storescu"), option, "-R", "-nh", "-aec", CALLED]
            run(*arguments, HOST, port, *paths)
            run(*arguments, *tls_options(archive_role), HOST, archive_role.port, *paths)
    beside = ArchiveSite(archive_role.centre.archive, "beside", SystemClock())
    holding = beside.holding(HospitalId(HOSPITAL))
    expected = defaultdict(set)
    for path in theirs.iterdir():
        uid = part10.read_prefix(path.read_bytes()).sop_instance_uid
        expected[uid].add(data_set_in(path))
    kept = {}
    for uid in expected:
        with holding.index.reader() as connection:
            held = lookup.versions(connection, uid)
        kept[uid] = {
            (copy.identity.transfer_syntax_uid, b"".join(map(bytes, holding.recall(copy))))
            for copy in held
        }
    assert sum(map(len, expected.values())) >= FEWEST_KEPT
    assert [uid for uid in expected if kept[uid] != expected[uid]] == []


def test_echoscu(archive_role, peer):
    run(peer("/usr/bin/echoscu"), *tls_options(archive_role), "-aec", CALLED, HOST,
        archive_role.port)  # fmt: skip


def test_echoscu_of_a_wrong_name_is_refused(archive_role, peer):
    output = run(peer("/usr/bin/echoscu"), "-v", *tls_options(archive_role), "-aec", "OTHER", HOST,
        archive_role.port, code=1)  # fmt: skip
    assert "Called AE Title Not Recognized" in output


def find(role, peer, root, *keys):
    options = [option for key in keys for option in ("-k", key)]
    return run(
        peer("/usr/bin/findscu"), "-v", root, *tls_options(role), "-aec", CALLED, *options, HOST,
        role.port,
    )  # fmt: skip


def uids(output, keyword):
    return set(re.findall(rf"UI \[([0-9.]+)[^]]*\] *# .* {keyword}", output))


@pytest.mark.parametrize("root", ["-P", "-S"])
def test_findscu_at_all_levels(archive_role, peer, sent, root):
    for dataset in sent.studies.values():
        above = [f"PatientID={sent.patient}"] if root == "-P" else []
        study = f"StudyInstanceUID={dataset.StudyInstanceUID}"
        series = f"SeriesInstanceUID={dataset.SeriesInstanceUID}"
        output = find(
            archive_role, peer, root, "QueryRetrieveLevel=STUDY", study, *above
        )  # fmt: skip
        assert dataset.StudyInstanceUID in uids(output, "StudyInstanceUID")
        output = find(
            archive_role, peer, root, "QueryRetrieveLevel=SERIES", study, *above,
            "SeriesInstanceUID",
        )  # fmt: skip
        assert dataset.SeriesInstanceUID in uids(output, "SeriesInstanceUID")
        output = find(
            archive_role, peer, root, "QueryRetrieveLevel=IMAGE", study, series, *above,
            "SOPInstanceUID",
        )  # fmt: skip
        assert dataset.SOPInstanceUID in uids(output, "SOPInstanceUID")


def test_findscu_at_patient_level(archive_role, peer, sent):
    output = find(
        archive_role, peer, "-P", "QueryRetrieveLevel=PATIENT", f"PatientID={sent.patient}",
        "PatientName", "SpecificCharacterSet=ISO_IR 192",
    )  # fmt: skip
    assert GREEK in output


@pytest.mark.parametrize(
    "keys",
    [
        ["PatientID={patient}"],
        ["PatientID={part}*"],
        ["PatientID={patient}", "PatientName=Παπ*", "SpecificCharacterSet=ISO_IR 192"],
        ["PatientID={patient}", "PatientName=παπαδόπ?υλος*", "SpecificCharacterSet=ISO_IR 192"],
        ["PatientID={patient}", "StudyDate=20260301-20260302"],
        ["PatientID={patient}", "StudyDate=-20260302"],
    ],
)
def test_findscu_matches_every_study(archive_role, peer, sent, keys):
    texts = [key.format(patient=sent.patient, part=sent.patient[:8]) for key in keys]
    output = find(
        archive_role, peer, "-S", "QueryRetrieveLevel=STUDY", *texts, "StudyInstanceUID"
    )  # fmt: skip
    expected = {dataset.StudyInstanceUID for dataset in sent.studies.values()}
    assert uids(output, "StudyInstanceUID") == expected


def test_findscu_matches_a_greek_name_in_its_own_character_set(archive_role, peer, sent, tmp_path):
    query = pydicom.Dataset()
    query.SpecificCharacterSet = "ISO_IR 126"
    query.QueryRetrieveLevel = "STUDY"
    query.PatientName = "Παπαδόπουλος*"
    query.PatientID = sent.patient
    query.StudyInstanceUID = ""
    query.file_meta = pydicom.dataset.FileMetaDataset()
    query.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    query.save_as(tmp_path / "query.dcm")
    output = run(
        peer("/usr/bin/findscu"), "-v", "-S", *tls_options(archive_role), "-aec", CALLED, HOST,
        archive_role.port, tmp_path / "query.dcm",
    )  # fmt: skip
    assert len(uids(output, "StudyInstanceUID")) == len(FILES)


def test_findscu_matches_a_list_of_uids(archive_role, peer, sent):
    wanted = {dataset.StudyInstanceUID for dataset in list(sent.studies.values())[:3]}
    key = "StudyInstanceUID=" + "\\".join(wanted)
    output = find(archive_role, peer, "-S", "QueryRetrieveLevel=STUDY", key)
    assert uids(output, "StudyInstanceUID") == wanted


def retrieve_options(dataset):
    return [
        "-S", "-aec", CALLED, "-k", "QueryRetrieveLevel=STUDY", "-k",
        f"StudyInstanceUID={dataset.StudyInstanceUID}",
    ]  # fmt: skip


def test_movescu_has_everything_sent_to_storescp_bit_for_bit(archive_role, peer, sent, tmp_path):
    """DCMTK's receiver over TLS, with the hospital's certificate, at a registered destination."""
    house = archive_role.house(HOSPITAL)
    pacs, context = house.peers[0], client_context(house.tls_files)
    options = ["-aet", pacs.ae_title, *tls_options(archive_role)]
    echo = [peer("/usr/bin/echoscu"), *map(str, tls_options(archive_role))]
    with (
        storescp(peer("/usr/bin/storescp"), echo, tmp_path / "pacs", pacs.port, *options),
        tls_proxy.proxy(archive_role.port, context) as port,
    ):
        for dataset in sent.studies.values():
            run(
                peer("/usr/bin/movescu"), *retrieve_options(dataset), "-aem", pacs.ae_title, HOST,
                port,
            )  # fmt: skip
    assert written(tmp_path / "pacs") == sent.reference


def test_getscu_gets_what_is_held_in_a_syntax_that_it_takes(archive_role, peer, sent, tmp_path):
    """It proposes three uncompressed syntaxes in one context, of which the one held most is chosen;
    of these classes one syntax is held.
    """
    names = ["CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "waveform_ecg.dcm"]
    context = client_context(archive_role.house(HOSPITAL).tls_files)
    with tls_proxy.proxy(archive_role.port, context) as port:
        for name in names:
            dataset = sent.studies[name]
            run(
                peer("/usr/bin/getscu"), "+B", "-od", tmp_path, *retrieve_options(dataset), HOST,
                port,
            )  # fmt: skip
    expected = {sent.studies[name].SOPInstanceUID for name in names}
    assert written(tmp_path) == {uid: sent.reference[uid] for uid in expected}


def test_getscu_does_not_get_what_it_cannot_take(archive_role, peer, sent, tmp_path):
    context = client_context(archive_role.house(HOSPITAL).tls_files)
    with tls_proxy.proxy(archive_role.port, context) as port:
        output = run(
            peer("/usr/bin/getscu"), "-v", "+B", "-od", tmp_path,
            *retrieve_options(sent.studies["JPEG2000.dcm"]), HOST, port,
        )  # fmt: skip
    assert re.search(r"Failed Suboperations *: 1", output)
    assert list(tmp_path.iterdir()) == []
