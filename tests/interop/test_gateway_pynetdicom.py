"""pynetdicom as a hospital's PACS: through its gateway to the centre and back."""

import threading
import uuid
from contextlib import contextmanager

import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom import sop_class as sop

import whole
from archive_requests import CT, EXPLICIT, IMPLICIT, STUDY_GET, Receiver, image, uid
from archive_role import HOST, dataset
from centre import until
from harmoni.archive.site import ArchiveSite
from harmoni.gateway import operate
from harmoni.index import lookup, packs
from harmoni.index.packs import PackState
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock

PATIENT_FIND = sop.PatientRootQueryRetrieveInformationModelFind
STUDY_FIND = sop.StudyRootQueryRetrieveInformationModelFind
PATIENT_GET = sop.PatientRootQueryRetrieveInformationModelGet
STUDY_MOVE = sop.StudyRootQueryRetrieveInformationModelMove
COMMITMENT = sop.StorageCommitmentPushModel
HOSPITAL = "hospital-a"
MANY = 120
REJECTED_BY_USER = 1


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    with whole.running(tmp_path_factory.mktemp("whole") / "all") as running:
        yield running


class Study:
    """New CT images of one series, which the gateway has taken."""

    def __init__(self, everything, count=5, **options):
        self.uid, self.series = uid(), uid()
        self.patient = uuid.uuid4().hex[:12].upper()
        self.instances = [uid() for _ in range(count)]
        with everything.associated([(CT, [EXPLICIT])], **options) as association:
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


def request_commitment(association, instances, transaction):
    asked = dataset(
        TransactionUID=transaction,
        ReferencedSOPSequence=[
            dataset(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=instance)
            for instance in instances
        ],
    )
    status, _ = association.send_n_action(
        asked, 1, COMMITMENT, sop.StorageCommitmentPushModelInstance
    )
    return status.Status


def committed_in(report):
    assert "FailedSOPSequence" not in report
    return {item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence}


@contextmanager
def called_back(node, handlers, **options):
    """A peer at its registered port that takes reports, in the role of their user."""
    entity = AE(ae_title=node.ae_title)
    entity.require_called_aet = True
    entity.add_supported_context(COMMITMENT, [IMPLICIT, EXPLICIT], **options)
    callers = []

    def note(event):
        requested = event.assoc.requestor.primitive
        callers.append((str(requested.calling_ae_title), str(requested.called_ae_title)))

    server = entity.start_server(
        (HOST, node.port),
        block=False,
        evt_handlers=[*handlers, (evt.EVT_REQUESTED, note)],
    )
    try:
        yield callers
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_commitment_is_reported_on_the_same_association(everything, syntax):
    study, pacs, transaction = Study(everything), whole.Pacs(), uid()
    with everything.associated(
        [(COMMITMENT, [syntax])], handlers=pacs.takes_reports
    ) as association:
        assert request_commitment(association, study.instances, transaction) == 0x0000
        report = pacs.await_report(transaction)
    ((event_type, _),) = pacs.reports
    assert event_type == 1
    assert committed_in(report) == set(study.instances)
    assert report.RetrieveAETitle == "GW_A"


@pytest.mark.parametrize("node", [0, 1], ids=["pacs", "modality"])
def test_a_requester_that_has_gone_is_called_back(everything, node):
    """pynetdicom takes a report only where the role of the reporting side was negotiated."""
    peer, pacs, transaction = everything.house().peers[node], whole.Pacs(), uid()
    study = Study(everything, calling=peer.ae_title)
    with called_back(peer, pacs.takes_reports, scu_role=False, scp_role=True) as callers:
        with everything.associated(
            [(COMMITMENT, [IMPLICIT])], calling=peer.ae_title
        ) as association:
            assert request_commitment(association, study.instances, transaction) == 0x0000
        report = pacs.await_report(transaction)
        until(
            lambda: operate.status(everything.beside()).commitments_waiting == 0,
            "the report is done with",
        )
    assert committed_in(report) == set(study.instances)
    assert set(callers) == {("GW_A", peer.ae_title)}
    assert [each.TransactionUID for _, each in pacs.reports].count(transaction) == 1


def test_a_peer_that_was_away_is_called_again(everything):
    node, pacs, transaction = everything.house().peers[0], whole.Pacs(), uid()
    study = Study(everything)
    before = everything.log().count("not reported")
    with everything.associated([(COMMITMENT, [IMPLICIT])]) as association:
        assert request_commitment(association, study.instances, transaction) == 0x0000
    until(lambda: everything.log().count("not reported") > before, "the gateway calls in vain")
    with called_back(node, pacs.takes_reports, scu_role=False, scp_role=True):
        report = pacs.await_report(transaction)
    assert committed_in(report) == set(study.instances)


def test_a_peer_that_does_not_agree_to_the_roles_has_no_report_before_it_does(everything):
    node, pacs, transaction = everything.house().peers[0], whole.Pacs(), uid()
    study = Study(everything)
    before = everything.log().count("not reported")
    with called_back(node, pacs.takes_reports) as callers:
        with everything.associated([(COMMITMENT, [IMPLICIT])]) as association:
            assert request_commitment(association, study.instances, transaction) == 0x0000
        until(lambda: everything.log().count("not reported") > before, "the gateway gives up")
    assert callers != []
    assert pacs.reports == []
    with called_back(node, pacs.takes_reports, scu_role=False, scp_role=True):
        report = pacs.await_report(transaction)
    assert committed_in(report) == set(study.instances)


def test_a_report_that_a_peer_refuses_is_repeated(everything):
    node, pacs, transaction = everything.house().peers[0], whole.Pacs(), uid()
    study = Study(everything)
    refusing = [(evt.EVT_N_EVENT_REPORT, lambda _: (0x0110, None))]
    with called_back(node, refusing, scu_role=False, scp_role=True):
        with everything.associated([(COMMITMENT, [IMPLICIT])]) as association:
            assert request_commitment(association, study.instances, transaction) == 0x0000
        until(lambda: "PACS_A answers 0110" in everything.log(), "the refusal is logged")
    with called_back(node, pacs.takes_reports, scu_role=False, scp_role=True):
        report = pacs.await_report(transaction)
    assert committed_in(report) == set(study.instances)


def sealed_at_centre(everything):
    """The instances that lie in sealed packs of the archive."""
    beside = ArchiveSite(everything.centre.archive, "beside", SystemClock())
    with beside.holding(HospitalId(HOSPITAL)).index.reader() as connection:
        return {
            held.sop_instance_uid
            for row in packs.packs_in(connection, PackState.SEALED)
            for held in lookup.members(connection, row.pack_id)
        }


def test_nothing_is_committed_before_the_centre_has_it(everything):
    """With the centre away the gateway takes and seals it, and neither reports nor lets go."""
    pacs, transaction, at_centre = whole.Pacs(), uid(), set()

    def take(event):
        at_centre.update(sealed_at_centre(everything))
        return pacs.report(event)

    everything.archive.stop()
    try:
        study = Study(everything)
        with everything.associated(
            [(COMMITMENT, [IMPLICIT])], handlers=[(evt.EVT_N_EVENT_REPORT, take)]
        ) as association:
            assert request_commitment(association, study.instances, transaction) == 0x0000
            until(
                lambda: operate.status(everything.beside()).packs_open == 0,
                "the gateway has sealed",
            )
            (here,) = everything.evict(study=study.uid)
            assert here.instances == 0
            assert "not committed elsewhere" in here.stayed[0]
            assert pacs.reports == []
            assert set(study.instances).isdisjoint(sealed_at_centre(everything))
            everything.archive.start()
            report = pacs.await_report(transaction)
    finally:
        if everything.archive.ended() is not None:
            everything.archive.start()
    assert committed_in(report) == set(study.instances)
    assert set(study.instances) <= at_centre


def find(everything, model, syntax=IMPLICIT, **keys):
    with everything.associated([(model, [syntax])]) as association:
        *matches, (final, nothing) = association.send_c_find(dataset(**keys), model)
    assert (final.Status, nothing) == (0x0000, None)
    assert {status.Status for status, _ in matches} <= {0xFF00}
    return [match for _, match in matches]


def get(everything, model, **keys):
    receiver = Receiver()
    with everything.associated(
        [(model, [IMPLICIT]), (CT, [EXPLICIT])],
        roles=[build_role(CT, scp_role=True)],
        handlers=receiver.handlers,
    ) as association:
        *_, (final, _) = association.send_c_get(dataset(**keys), model)
    return final, receiver.received


@contextmanager
def storage(node, receiver):
    """A node of the hospital: pynetdicom's storage SCP."""
    entity = AE(ae_title=node.ae_title)
    entity.add_supported_context(CT, [EXPLICIT])
    server = entity.start_server((HOST, node.port), block=False, evt_handlers=receiver.handlers)
    try:
        yield node.ae_title
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def kept(everything):
    """A study, and what a C-GET gave of it as long as the gateway had its copy."""
    study = Study(everything)
    final, study.on_the_wire = get(
        everything, STUDY_GET, QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid
    )
    assert final.Status == 0x0000
    assert study.on_the_wire.keys() == set(study.instances)
    return study


@pytest.fixture
def let_go(everything, kept):
    """That study, as long as only the centre has it."""
    everything.let_go()
    return kept


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_what_was_let_go_of_is_found_at_every_level_of_both_roots(everything, let_go, syntax):
    patient = {"PatientID": let_go.patient}
    at_study = {"StudyInstanceUID": let_go.uid}
    at_series = {**at_study, "SeriesInstanceUID": let_go.series}
    (found,) = find(
        *(everything, PATIENT_FIND, syntax),
        **{"QueryRetrieveLevel": "PATIENT", "PatientName": "", **patient},
        SpecificCharacterSet="ISO_IR 192",
        NumberOfPatientRelatedInstances="",
    )
    assert found.PatientName == f"Παπαδόπουλος^{let_go.patient}"
    assert found.NumberOfPatientRelatedInstances == 5
    answers = [found]
    for model, above in ((PATIENT_FIND, patient), (STUDY_FIND, {})):
        (found,) = find(
            *(everything, model, syntax),
            **{"QueryRetrieveLevel": "STUDY", "StudyDate": "", **above, **at_study},
            NumberOfStudyRelatedInstances="",
            InstanceAvailability="",
        )
        assert (found.StudyDate, found.NumberOfStudyRelatedInstances) == ("20260302", 5)
        assert found.InstanceAvailability == "NEARLINE"
        answers.append(found)
        (found,) = find(
            *(everything, model, syntax),
            **{"QueryRetrieveLevel": "SERIES", "Modality": "", **above, **at_series},
        )
        assert found.Modality == "CT"
        answers.append(found)
        images = find(
            *(everything, model, syntax),
            **{"QueryRetrieveLevel": "IMAGE", **above, **at_series, "SOPInstanceUID": ""},
        )
        assert {found.SOPInstanceUID for found in images} == set(let_go.instances)
        answers += images
    assert {found.RetrieveAETitle for found in answers} == {"GW_A"}


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_what_was_let_go_of_is_got_at_every_level_bit_for_bit(everything, let_go, level):
    keys = {
        "PatientID": let_go.patient,
        "StudyInstanceUID": let_go.uid,
        "SeriesInstanceUID": let_go.series,
        "SOPInstanceUID": let_go.instances[:2],
    }
    depth = ("PATIENT", "STUDY", "SERIES", "IMAGE").index(level) + 1
    asked = dict(list(keys.items())[:depth])
    final, received = get(everything, PATIENT_GET, QueryRetrieveLevel=level, **asked)
    expected = let_go.instances[:2] if level == "IMAGE" else let_go.instances
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, len(expected))
    assert received == {instance: let_go.on_the_wire[instance] for instance in expected}


def test_what_was_let_go_of_is_moved_bit_for_bit_and_its_originator_named(everything, let_go):
    receiver = Receiver()
    with (
        storage(everything.house().peers[0], receiver) as title,
        everything.associated([(STUDY_MOVE, [IMPLICIT])]) as association,
    ):
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=let_go.uid)
        *_, (final, _) = association.send_c_move(asked, title, STUDY_MOVE, msg_id=42)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 5)
    assert receiver.received == let_go.on_the_wire
    assert receiver.originators == {("PACS_A", 42)}


def test_two_who_get_the_same_at_once_both_have_all_of_it(everything, let_go):
    results = []

    def ask():
        results.append(
            get(everything, STUDY_GET, QueryRetrieveLevel="STUDY", StudyInstanceUID=let_go.uid)
        )

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [final.Status for final, _ in results] == [0x0000, 0x0000]
    assert [received for _, received in results] == [let_go.on_the_wire] * 2


def test_what_nobody_has_is_an_empty_success(everything):
    final, received = get(everything, STUDY_GET, QueryRetrieveLevel="STUDY", StudyInstanceUID=uid())
    assert (final.Status, final.NumberOfCompletedSuboperations, received) == (0x0000, 0, {})


def test_a_modality_may_store_and_commit_and_neither_query_nor_retrieve(everything):
    wanted = [
        *((model, [IMPLICIT]) for model in (STUDY_FIND, PATIENT_FIND, STUDY_MOVE, STUDY_GET)),
        *((sop.Verification, [IMPLICIT]), (COMMITMENT, [IMPLICIT]), (CT, [EXPLICIT])),
    ]
    with everything.associated(wanted, calling="CT_A") as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        refused = {
            context.abstract_syntax: context.result for context in association.rejected_contexts
        }
        assert association.send_c_echo().Status == 0x0000
    assert accepted == {sop.Verification, COMMITMENT, CT}
    assert refused == dict.fromkeys(
        (STUDY_FIND, PATIENT_FIND, STUDY_MOVE, STUDY_GET), REJECTED_BY_USER
    )


class Cancelling(Receiver):
    """Cancels the retrieval when the first instance is there, before answering for it."""

    def __init__(self):
        super().__init__()
        self.association = None

    def take(self, event):
        if not self.received:
            self.association.send_c_cancel(7, query_model=STUDY_MOVE)
        return super().take(event)


def test_a_move_of_what_must_be_fetched_can_be_cancelled(everything):
    study, receiver = Study(everything, count=MANY), Cancelling()
    everything.let_go()
    asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
    node = everything.house().peers[0]
    with (
        storage(node, receiver) as title,
        everything.associated(
            [(STUDY_MOVE, [IMPLICIT]), (sop.Verification, [IMPLICIT])]
        ) as association,
    ):
        receiver.association = association
        *_, (final, _) = association.send_c_move(asked, title, STUDY_MOVE, msg_id=7)
        assert final.Status == 0xFE00
        done, left = final.NumberOfCompletedSuboperations, final.NumberOfRemainingSuboperations
        assert done + left == MANY
        assert 0 < done == len(receiver.received) < MANY
        assert association.send_c_echo().Status == 0x0000
    # Whoever asks again has all of it.
    again = Receiver()
    with (
        storage(node, again) as title,
        everything.associated([(STUDY_MOVE, [IMPLICIT])]) as association,
    ):
        *_, (final, _) = association.send_c_move(asked, title, STUDY_MOVE)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, MANY)
    assert again.received.keys() == set(study.instances)
    assert receiver.received.items() <= again.received.items()
