"""pynetdicom, an independent implementation, against the running archive over mutual TLS."""

import itertools
import ssl
import threading
import uuid
from contextlib import contextmanager

import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom import sop_class as sop

from archive_requests import CT, EXPLICIT, IMPLICIT, STUDY_GET, Receiver, get, image, uid
from archive_role import HOST, dataset

PATIENT_FIND = sop.PatientRootQueryRetrieveInformationModelFind
STUDY_FIND = sop.StudyRootQueryRetrieveInformationModelFind
PATIENT_GET = sop.PatientRootQueryRetrieveInformationModelGet
STUDY_MOVE = sop.StudyRootQueryRetrieveInformationModelMove
COMMITMENT = sop.StorageCommitmentPushModel
HOSPITAL = "hospital-c"
WAIT_S = 30
MANY = 250


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


def test_echo(archive_role):
    with archive_role.associated(HOSPITAL, [(sop.Verification, [IMPLICIT])]) as association:
        assert association.send_c_echo().Status == 0x0000


def find(role, model, syntax=IMPLICIT, pending=0xFF00, **keys):
    with role.associated(HOSPITAL, [(model, [syntax])]) as association:
        *matches, (final, nothing) = association.send_c_find(dataset(**keys), model)
    assert (final.Status, nothing) == (0x0000, None)
    assert {status.Status for status, _ in matches} <= {pending}
    return [match for _, match in matches]


def test_a_key_that_is_not_supported_is_said_so_and_returned_empty(archive_role, study):
    keys = {"PatientID": study.patient, "QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}
    [match] = find(archive_role, sop.StudyRootQueryRetrieveInformationModelFind, **keys)
    assert "MilitaryRank" not in match
    [match] = find(
        archive_role,
        sop.StudyRootQueryRetrieveInformationModelFind,
        pending=0xFF01,
        MilitaryRank="GENERAL",
        **keys,
    )
    assert match.MilitaryRank in {"", None}


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


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_find_tells_the_syntax_and_hash_of_images_to_those_who_ask(archive_role, study, syntax):
    asked = dataset(
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID=study.uid,
        SeriesInstanceUID=study.series,
        SOPInstanceUID="",
        AvailableTransferSyntaxUID="",
    )
    answers = []
    for wanted in (False, True):
        if wanted:
            asked.private_block(0x0009, "HARMONI", create=True).add_new(0x01, "OB", b"")
        with archive_role.associated(HOSPITAL, [(STUDY_FIND, [syntax])]) as association:
            *matches, (final, _) = association.send_c_find(asked, STUDY_FIND)
        assert final.Status == 0x0000
        assert {status.Status for status, _ in matches} == {0xFF00}
        answers.append({match.SOPInstanceUID: match for _, match in matches})
    plain, hashed = answers
    assert set(plain) == set(hashed) == set(study.instances)
    for instance, match in hashed.items():
        assert match.AvailableTransferSyntaxUID == EXPLICIT
        assert len(match.private_block(0x0009, "HARMONI")[0x01].value) == 32
        told = {element.tag for element in match} - {element.tag for element in plain[instance]}
        assert told == {0x0009_0010, 0x0009_1001}


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
    # Who names no hash is told nothing besides.
    assert {len(item) for item in report.ReferencedSOPSequence} == {2}
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
