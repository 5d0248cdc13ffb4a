"""Every file of pydicom and pydicom-data, sent as its own bytes, comes back as its own bytes."""

from collections import defaultdict

import pydicom
import pytest
from pynetdicom import _config

from archive_requests import STUDY_GET, get
from harmoni.archive.site import ArchiveSite
from harmoni.demo import samples
from harmoni.index import lookup
from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock
from vendor_files import vendor_files

HOSPITAL = "hospital-c"
# Nothing else is in it: the files of pydicom share UIDs with one another.
EMPTY_HOSPITAL = "hospital-d"
FEWEST_FILES = 142
FEWEST_UNIQUE_FILES = 115
MOST_CONTEXTS = 60


def sendable():
    """What pynetdicom can send: by study, for storage; its file meta says what its data set is."""
    for path in vendor_files():
        try:
            sample = samples.read(path)
            meta = pydicom.filereader.read_file_meta_info(path)
        except (InvalidInput, pydicom.errors.InvalidDicomError):
            continue
        if (
            sample.study_instance_uid
            and meta.get("MediaStorageSOPInstanceUID") == sample.sop_instance_uid
            and meta.get("MediaStorageSOPClassUID") == sample.sop_class_uid
        ):
            yield sample


def send(role, hospital, wanted):
    """The status that each file is answered with, by path."""
    statuses = {}
    pairs = list(dict.fromkeys(sample.pair for sample in wanted))
    for start in range(0, len(pairs), MOST_CONTEXTS):
        some = pairs[start : start + MOST_CONTEXTS]
        contexts = [(abstract, [syntax]) for abstract, syntax in some]
        with role.associated(hospital, contexts) as association:
            for sample in wanted:
                if sample.pair in some:
                    statuses[sample.path] = association.send_c_store(sample.path).Status
    return statuses


@pytest.fixture
def _own_bytes(monkeypatch):
    """Have pynetdicom send a file's data set as it stands there, not one it encodes anew."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)


@pytest.fixture(scope="module")
def by_uid():
    files = defaultdict(list)
    for sample in sendable():
        files[sample.sop_instance_uid].append(sample)
    return files


def bytes_of(sample):
    return sample.transfer_syntax_uid, b"".join(sample.chunks())


def content_of(holding, copy):
    return b"".join(map(bytes, holding.recall(copy)))


@pytest.mark.usefixtures("_own_bytes")
def test_every_file_of_pydicom_comes_back_bit_for_bit(archive_role, by_uid):
    unique = [alike[0] for alike in by_uid.values() if len(alike) == 1]
    assert sum(map(len, by_uid.values())) >= FEWEST_FILES
    assert len(unique) >= FEWEST_UNIQUE_FILES
    assert set(send(archive_role, EMPTY_HOSPITAL, unique).values()) == {0x0000}
    received = {}
    studies = defaultdict(list)
    for sample in unique:
        studies[sample.study_instance_uid].append(sample)
    for study_uid, expected in studies.items():
        pairs = dict.fromkeys(sample.pair for sample in expected)
        final, got = get(
            archive_role,
            EMPTY_HOSPITAL,
            STUDY_GET,
            [(abstract, [syntax]) for abstract, syntax in pairs],
            QueryRetrieveLevel="STUDY",
            StudyInstanceUID=study_uid,
        )
        assert final.Status == 0x0000, expected
        received |= got
    differing = [
        sample.path.name
        for sample in unique
        if received.get(sample.sop_instance_uid) != bytes_of(sample)
    ]
    assert differing == []


@pytest.mark.usefixtures("_own_bytes")
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom about its own odd files
def test_of_two_versions_of_one_uid_both_are_kept_and_one_is_given(archive_role, by_uid):
    conflicts = [
        alike for alike in by_uid.values() if len({bytes_of(sample) for sample in alike}) > 1
    ]
    assert len(conflicts) >= 5
    everything = [sample for alike in conflicts for sample in alike]
    # Another hospital than that of the unique files: nothing there has these UIDs.
    statuses = send(archive_role, HOSPITAL, everything)
    assert set(statuses.values()) == {0x0000}
    beside = ArchiveSite(archive_role.centre.archive, "beside", SystemClock())
    holding = beside.holding(HospitalId(HOSPITAL))
    for alike in conflicts:
        with holding.index.reader() as connection:
            held = lookup.versions(connection, alike[0].sop_instance_uid)
        kept = [(copy.identity.transfer_syntax_uid, content_of(holding, copy)) for copy in held]
        assert sorted(kept) == sorted({bytes_of(sample) for sample in alike})
        pairs = dict.fromkeys(sample.pair for sample in alike)
        final, got = get(
            archive_role,
            HOSPITAL,
            STUDY_GET,
            [(abstract, [syntax]) for abstract, syntax in pairs],
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=alike[0].study_instance_uid,
            SeriesInstanceUID=str(pydicom.dcmread(alike[0].path, force=True).SeriesInstanceUID),
            SOPInstanceUID=alike[0].sop_instance_uid,
        )
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 1)
        assert got[alike[0].sop_instance_uid] in [bytes_of(sample) for sample in alike]
