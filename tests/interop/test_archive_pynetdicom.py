"""pynetdicom, an independent implementation, against the running archive over mutual TLS."""

import itertools
import ssl
import threading
import uuid
from collections import defaultdict
from contextlib import contextmanager

import pydicom
import pytest
from pynetdicom import AE, _config, build_role, evt
from pynetdicom import sop_class as sop

from archive_role import HOST, dataset
from harmoni.archive.site import ArchiveSite
from harmoni.demo import samples
from harmoni.index import lookup
from harmoni.model.errors import InvalidInput
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock
from vendor_files import vendor_files

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PATIENT_FIND = sop.PatientRootQueryRetrieveInformationModelFind
STUDY_FIND = sop.StudyRootQueryRetrieveInformationModelFind
PATIENT_GET = sop.PatientRootQueryRetrieveInformationModelGet
STUDY_GET = sop.StudyRootQueryRetrieveInformationModelGet
STUDY_MOVE = sop.StudyRootQueryRetrieveInformationModelMove
COMMITMENT = sop.StorageCommitmentPushModel
CT = sop.CTImageStorage
HOSPITAL = "hospital-c"
# Nothing else is in it: the files of pydicom share UIDs with one another.
EMPTY_HOSPITAL = "hospital-d"
FEWEST_FILES = 142
FEWEST_UNIQUE_FILES = 115
MOST_CONTEXTS = 60
WAIT_S = 30
MANY = 250


def uid():
    return f"2.25.{uuid.uuid4().int}"


def image(*, study, series, instance, number=1, patient="P1", name="Doe^Jane"):
    made = dataset(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=CT,
        SOPInstanceUID=instance,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        PatientID=patient,
        PatientName=name,
        StudyDate="20260302",
        StudyTime="101500",
        AccessionNumber=patient,
        Modality="CT",
        SeriesNumber=1,
        InstanceNumber=number,
        BitsAllocated=16,
    )
    made.add_new(0x7FE00010, "OW", bytes([number]) * 100_001 + b"\0")
    made.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    made.file_meta.MediaStorageSOPClassUID = CT
    made.file_meta.MediaStorageSOPInstanceUID = instance
    return made


class Study:
    """Five new CT images of one series, stored in the archive."""

    def __init__(self, role, hospital=HOSPITAL):
        self.uid, self.series = uid(), uid()
        self.patient = uuid.uuid4().hex[:12].upper()
        self.instances = [uid() for _ in range(5)]
        with role.associated(hospital, [(CT, [EXPLICIT])]) as association:
            for number, instance in enumerate(self.instances, 1):
                sent = image(
                    study=self.uid,
                    series=self.series,
                    instance=instance,
                    number=number,
                    patient=self.patient,
                    name=f"Παπαδόπουλος^{self.patient}",
                )
                assert association.send_c_store(sent).Status == 0x0000


@pytest.fixture(scope="module")
def study(archive_role):
    return Study(archive_role)


class Receiver:
    """Keeps what arrives by C-STORE, its bytes as they came."""

    def __init__(self):
        self.received = {}
        self.originators = set()
        self.handlers = [(evt.EVT_C_STORE, self.take)]

    def take(self, event):
        request = event.request
        self.received[str(request.AffectedSOPInstanceUID)] = (
            event.context.transfer_syntax,
            request.DataSet.getvalue(),
        )
        self.originators.add(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return 0x0000


def test_echo(archive_role):
    with archive_role.associated(HOSPITAL, [(sop.Verification, [IMPLICIT])]) as association:
        assert association.send_c_echo().Status == 0x0000


def find(role, model, syntax=IMPLICIT, **keys):
    with role.associated(HOSPITAL, [(model, [syntax])]) as association:
        *matches, (final, nothing) = association.send_c_find(dataset(**keys), model)
    assert (final.Status, nothing) == (0x0000, None)
    assert {status.Status for status, _ in matches} <= {0xFF00}
    return [match for _, match in matches]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_find_at_every_level_of_both_roots(archive_role, study, syntax):
    patient = {"PatientID": study.patient}
    at_study = {"StudyInstanceUID": study.uid}
    at_series = {**at_study, "SeriesInstanceUID": study.series}
    at_image = {"SOPInstanceUID": "", "InstanceNumber": ""}
    (found,) = find(
        archive_role,
        PATIENT_FIND,
        syntax,
        QueryRetrieveLevel="PATIENT",
        PatientName="",
        SpecificCharacterSet="ISO_IR 192",
        **patient,
    )
    assert found.PatientName == f"Παπαδόπουλος^{study.patient}"
    assert found.RetrieveAETitle == "HARMONI"
    for model, above in ((PATIENT_FIND, patient), (STUDY_FIND, {})):
        (found,) = find(
            archive_role,
            model,
            syntax,
            QueryRetrieveLevel="STUDY",
            StudyDate="",
            NumberOfStudyRelatedInstances="",
            **above,
            **at_study,
        )
        assert (found.StudyDate, found.NumberOfStudyRelatedInstances) == ("20260302", 5)
        (found,) = find(
            archive_role, model, syntax, QueryRetrieveLevel="SERIES", Modality="", **above,
            **at_series,
        )  # fmt: skip
        assert found.Modality == "CT"
        images = find(
            archive_role, model, syntax, QueryRetrieveLevel="IMAGE", **above, **at_series,
            **at_image,
        )  # fmt: skip
        assert {found.SOPInstanceUID for found in images} == set(study.instances)
        assert {found.InstanceNumber for found in images} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "key",
    [
        {"PatientName": "παπ*^{patient}", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientID": "{patient}"},
        {"AccessionNumber": "?{tail}"},
        {"PatientID": "{patient}", "StudyDate": "20260301-20260303"},
        {"PatientID": "{patient}", "StudyDate": "20260302-"},
        {"StudyInstanceUID": "{uid}\\1.2.3"},
    ],
)
def test_find_matches(archive_role, study, key):
    texts = {"patient": study.patient, "tail": study.patient[1:], "uid": study.uid}
    keys = {keyword: value.format(**texts) for keyword, value in key.items()}
    asked = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", **keys}
    (found,) = find(archive_role, STUDY_FIND, **asked)
    assert found.StudyInstanceUID == study.uid


def test_find_does_not_match_outside_a_range(archive_role, study):
    keys = {"PatientID": study.patient, "StudyInstanceUID": ""}
    asked = {"QueryRetrieveLevel": "STUDY", "StudyDate": "20260303-", **keys}
    assert find(archive_role, STUDY_FIND, **asked) == []


@pytest.fixture(scope="module")
def many(archive_role):
    """A study and series of many small images, so that a cancel comes in the middle."""
    series, of = uid(), uid()
    with archive_role.associated(HOSPITAL, [(CT, [EXPLICIT])]) as association:
        for number in range(MANY):
            sent = image(study=of, series=series, instance=uid(), number=number)
            sent.PixelData = b"\0\0"
            assert association.send_c_store(sent).Status == 0x0000
    return of, series


def test_find_can_be_cancelled(archive_role, many):
    """Once pynetdicom's cancel is there, the last status says so, and the association stays."""
    of, series = many
    contexts = [(STUDY_FIND, [IMPLICIT]), (sop.Verification, [IMPLICIT])]
    with archive_role.associated(HOSPITAL, contexts) as association:
        asked = dataset(
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=of,
            SeriesInstanceUID=series,
            SOPInstanceUID="",
        )
        statuses = []
        for status, _ in association.send_c_find(asked, STUDY_FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 1:
                association.send_c_cancel(7, query_model=STUDY_FIND)
        assert association.send_c_echo().Status == 0x0000
    # A quick archive may have said everything before the cancel came.
    assert statuses[-1] in (0xFE00, 0x0000)
    assert set(statuses[:-1]) == {0xFF00}
    assert (statuses[-1] == 0xFE00) == (len(statuses) < MANY + 1)


def get(role, hospital, model, contexts, **keys):
    receiver = Receiver()
    classes = dict.fromkeys(abstract for abstract, _ in contexts)
    with role.associated(
        hospital,
        [(model, [IMPLICIT]), *contexts],
        roles=[build_role(abstract, scp_role=True) for abstract in classes],
        handlers=receiver.handlers,
    ) as association:
        *_, (final, _) = association.send_c_get(dataset(**keys), model)
    return final, receiver.received


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_get_at_every_level(archive_role, study, level):
    keys = {
        "PatientID": study.patient,
        "StudyInstanceUID": study.uid,
        "SeriesInstanceUID": study.series,
        "SOPInstanceUID": study.instances[:2],
    }
    depth = ("PATIENT", "STUDY", "SERIES", "IMAGE").index(level) + 1
    asked = dict(itertools.islice(keys.items(), depth))
    final, received = get(
        archive_role, HOSPITAL, PATIENT_GET, [(CT, [EXPLICIT])], QueryRetrieveLevel=level, **asked
    )
    expected = study.instances[:2] if level == "IMAGE" else study.instances
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, len(expected))
    assert received.keys() == set(expected)


def test_get_fails_for_what_the_requester_cannot_take(archive_role, study):
    final, received = get(
        archive_role,
        HOSPITAL,
        STUDY_GET,
        [(CT, [IMPLICIT])],
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID=study.uid,
    )
    assert (final.Status, final.NumberOfFailedSuboperations, received) == (0xA702, 5, {})


@contextmanager
def destination(role, hospital, receiver):
    """The hospital's PACS: pynetdicom's storage SCP over TLS."""
    house = role.house(hospital)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(house.tls_files.certificate, house.tls_files.key)
    context.load_verify_locations(house.tls_files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    entity = AE(ae_title=house.peers[0].ae_title)
    entity.add_supported_context(CT, [EXPLICIT])
    server = entity.start_server(
        (HOST, house.peers[0].port),
        block=False,
        ssl_context=context,
        evt_handlers=receiver.handlers,
    )
    try:
        yield house.peers[0].ae_title
    finally:
        server.shutdown()


def test_move_sends_to_the_registered_destination_and_names_its_originator(archive_role, study):
    receiver = Receiver()
    with (
        destination(archive_role, HOSPITAL, receiver) as title,
        archive_role.associated(HOSPITAL, [(STUDY_MOVE, [IMPLICIT])]) as association,
    ):
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
        *_, (final, _) = association.send_c_move(asked, title, STUDY_MOVE, msg_id=42)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 5)
    assert receiver.received.keys() == set(study.instances)
    assert receiver.originators == {("PYNET", 42)}
    _, got = get(
        archive_role,
        HOSPITAL,
        STUDY_GET,
        [(CT, [EXPLICIT])],
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID=study.uid,
    )
    assert receiver.received == got


class Cancelling(Receiver):
    """Cancels the retrieval when the first instance is there, before answering for it."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.association = None

    def take(self, event):
        if not self.received:
            self.association.send_c_cancel(7, query_model=self.model)
        return super().take(event)


def assert_cancelled(association, final, received):
    assert final.Status == 0xFE00
    done, left = final.NumberOfCompletedSuboperations, final.NumberOfRemainingSuboperations
    assert done + left == MANY
    assert 0 < done == len(received) < MANY
    assert association.send_c_echo().Status == 0x0000


def test_get_can_be_cancelled(archive_role, many):
    receiver = Cancelling(STUDY_GET)
    with archive_role.associated(
        HOSPITAL,
        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT]), (sop.Verification, [IMPLICIT])],
        roles=[build_role(CT, scp_role=True)],
        handlers=receiver.handlers,
    ) as association:
        receiver.association = association
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=many[0])
        *_, (final, _) = association.send_c_get(asked, STUDY_GET, msg_id=7)
        assert_cancelled(association, final, receiver.received)


def test_move_can_be_cancelled(archive_role, many):
    receiver = Cancelling(STUDY_MOVE)
    contexts = [(STUDY_MOVE, [IMPLICIT]), (sop.Verification, [IMPLICIT])]
    with (
        destination(archive_role, HOSPITAL, receiver) as title,
        archive_role.associated(HOSPITAL, contexts) as association,
    ):
        receiver.association = association
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=many[0])
        *_, (final, _) = association.send_c_move(asked, title, STUDY_MOVE, msg_id=7)
        assert_cancelled(association, final, receiver.received)


def test_move_says_when_the_destination_is_away(archive_role, study):
    with archive_role.associated(HOSPITAL, [(STUDY_MOVE, [IMPLICIT])]) as association:
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
        *_, (final, failed) = association.send_c_move(asked, "CT_C", STUDY_MOVE)
    assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 5)
    assert set(failed.FailedSOPInstanceUIDList) == set(study.instances)


class Reports:
    """Takes N-EVENT-REPORT and answers it with success."""

    def __init__(self):
        self.arrived = []
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self.take)]
        self._any = threading.Semaphore(0)

    def take(self, event):
        self.arrived.append((event.event_type, event.event_information))
        self._any.release()
        return 0x0000, None

    def wait(self):
        assert self._any.acquire(timeout=WAIT_S)
        return self.arrived[-1]


def request_commitment(association, instances, transaction, sop_class=CT):
    asked = dataset(
        TransactionUID=transaction,
        ReferencedSOPSequence=[
            dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance)
            for instance in instances
        ],
    )
    status, _ = association.send_n_action(
        asked, 1, COMMITMENT, sop.StorageCommitmentPushModelInstance
    )
    return status.Status


def test_commitment_is_reported_on_the_same_association(archive_role):
    study, reports, transaction = Study(archive_role), Reports(), uid()
    with archive_role.associated(
        HOSPITAL, [(COMMITMENT, [IMPLICIT])], handlers=reports.handlers
    ) as association:
        assert request_commitment(association, study.instances, transaction) == 0x0000
        event_type, report = reports.wait()
    assert (event_type, report.TransactionUID) == (1, transaction)
    committed = {item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence}
    assert committed == set(study.instances)
    assert "FailedSOPSequence" not in report


def test_commitment_is_reported_on_an_association_that_the_requester_opens_later(archive_role):
    study, reports, transaction = Study(archive_role), Reports(), uid()
    # Others of the hospital hear nothing of it.
    contexts = [(COMMITMENT, [EXPLICIT])]
    with archive_role.associated(HOSPITAL, contexts, calling="LATER") as association:
        assert request_commitment(association, study.instances, transaction) == 0x0000
    others = Reports()
    with (
        archive_role.associated(HOSPITAL, contexts, calling="OTHER", handlers=others.handlers),
        archive_role.associated(HOSPITAL, contexts, calling="LATER", handlers=reports.handlers),
    ):
        event_type, report = reports.wait()
    assert (event_type, report.TransactionUID) == (1, transaction)
    assert others.arrived == []


def test_commitment_of_the_wrong_class_and_of_other_content_is_refused(archive_role):
    study, reports, transaction = Study(archive_role), Reports(), uid()
    with archive_role.associated(
        HOSPITAL, [(COMMITMENT, [IMPLICIT])], handlers=reports.handlers
    ) as association:
        wrong = sop.MRImageStorage
        assert request_commitment(association, study.instances, transaction, wrong) == 0x0000
        assert request_commitment(association, study.instances[:1], transaction) == 0x0131
        event_type, report = reports.wait()
    assert event_type == 2
    assert [item.FailureReason for item in report.FailedSOPSequence] == [0x0119] * 5


# Bit for bit: every file of pydicom and pydicom-data, sent as its own bytes.


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
