"""pynetdicom, an independent implementation, as requester of our services on plain loopback."""

import threading
from contextlib import contextmanager

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from harmoni.dicom import part10
from harmoni.net import client
from harmoni.policy.access import Peer, Right
from memory_archive import MemoryArchive
from served_archive import CT, IMPLICIT, JPEG, instance, served
from vendor_files import vendor_files

STUDY = "1.2.3"


@pytest.fixture
def archive():
    archive = MemoryArchive()
    for number in range(1, 6):
        archive.keep(instance(number, study=STUDY, size=200_000))
    archive.keep(instance(1, study="1.2.4"))
    return archive


@contextmanager
def associated(running, *contexts, roles=(), handlers=()):
    entity = AE(ae_title="PYNET")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for abstract, syntaxes in contexts:
        entity.add_requested_context(abstract, syntaxes)
    association = entity.associate(
        "127.0.0.1",
        running.port,
        ae_title="HARMONI",
        ext_neg=list(roles),
        evt_handlers=list(handlers),
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()
        assert association.is_released


def identifier(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def held(archive, prefix=STUDY + ".") -> dict[str, tuple[str, bytes]]:
    return {
        uid: (stored.transfer_syntax_uid, stored.data)
        for uid, stored in archive.instances.items()
        if uid.startswith(prefix)
    }


class Receiver:
    """Keeps what arrives by C-STORE, its bytes as they came."""

    def __init__(self, status=0x0000):
        self.received = {}
        self.originators = set()
        self.status = status

    def take(self, event):
        request = event.request
        uid = request.AffectedSOPInstanceUID
        self.received[str(uid)] = (event.context.transfer_syntax, request.DataSet.getvalue())
        self.originators.add(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return self.status


def test_echo():
    with (
        served(MemoryArchive()) as running,
        associated(running, (Verification, [IMPLICIT])) as association,
    ):
        assert association.send_c_echo().Status == 0x0000


def test_a_file_sent_chunk_by_chunk_is_kept_bit_for_bit():
    path = next(path for path in vendor_files() if path.name == "JPEG2000.dcm")
    content = path.read_bytes()
    meta = part10.read_prefix(content)
    archive = MemoryArchive()
    with (
        served(archive) as running,
        associated(running, (meta.sop_class_uid, [meta.transfer_syntax_uid])) as association,
    ):
        assert association.send_c_store(path).Status == 0x0000
    (stored,) = archive.instances.values()
    assert stored.transfer_syntax_uid == meta.transfer_syntax_uid
    assert stored.data == content[meta.dataset_offset :]


def test_find_at_every_level(archive):
    asked = identifier(QueryRetrieveLevel="PATIENT", PatientID="P1.2.3", PatientName="")
    images = identifier(
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{STUDY}.1",
        SOPInstanceUID="",
        InstanceNumber="",
    )
    with (
        served(archive) as running,
        associated(
            running,
            (PatientRootQueryRetrieveInformationModelFind, [IMPLICIT]),
            (StudyRootQueryRetrieveInformationModelFind, [IMPLICIT]),
        ) as association,
    ):
        patients = list(
            association.send_c_find(asked, PatientRootQueryRetrieveInformationModelFind)
        )
        found = list(association.send_c_find(images, StudyRootQueryRetrieveInformationModelFind))
    assert [status.Status for status, _ in patients] == [0xFF00, 0x0000]
    assert patients[0][1].PatientName == "DOE^JANE"
    assert patients[0][1].RetrieveAETitle == "HARMONI"
    assert [match.InstanceNumber for _, match in found[:-1]] == [1, 2, 3, 4, 5]


def test_find_can_be_cancelled(archive):
    archive.endless = True
    asked = identifier(QueryRetrieveLevel="STUDY", PatientName="DOE*", StudyInstanceUID="")
    model = StudyRootQueryRetrieveInformationModelFind
    with (
        served(archive, max_answers=10**9) as running,
        associated(running, (model, [IMPLICIT])) as association,
    ):
        statuses = []
        for number, (status, _) in enumerate(association.send_c_find(asked, model, msg_id=5)):
            statuses.append(status.Status)
            if number == 3:
                association.send_c_cancel(5, query_model=model)
    assert statuses[-1] == 0xFE00


def test_get_brings_each_instance_in_its_syntax_bit_for_bit(archive):
    archive.keep(instance(9, study=STUDY, transfer_syntax_uid=JPEG))
    receiver = Receiver()
    model = StudyRootQueryRetrieveInformationModelGet
    with (
        served(archive) as running,
        associated(
            running,
            (model, [IMPLICIT]),
            (CTImageStorage, [IMPLICIT]),
            (CTImageStorage, [JPEG]),
            roles=[build_role(CTImageStorage, scp_role=True)],
            handlers=[(evt.EVT_C_STORE, receiver.take)],
        ) as association,
    ):
        asked = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        *_, (final, _) = association.send_c_get(asked, model)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 6)
    assert receiver.received == held(archive)


def test_get_counts_and_names_what_the_receiver_refuses(archive):
    receiver = Receiver(status=0xA700)
    model = StudyRootQueryRetrieveInformationModelGet
    with (
        served(archive) as running,
        associated(
            running,
            (model, [IMPLICIT]),
            (CTImageStorage, [IMPLICIT]),
            roles=[build_role(CTImageStorage, scp_role=True)],
            handlers=[(evt.EVT_C_STORE, receiver.take)],
        ) as association,
    ):
        asked = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        *_, (final, failed) = association.send_c_get(asked, model)
    assert (final.Status, final.NumberOfFailedSuboperations) == (0xA702, 5)
    assert set(failed.FailedSOPInstanceUIDList) == set(held(archive))


def connect(target, proposed):
    return client.open_association(
        host=target.host,
        port=target.port,
        tls=None,
        called_ae_title=target.ae_title,
        calling_ae_title="HARMONI",
        contexts=proposed,
    )


@contextmanager
def storage_scp(receiver, archive):
    entity = AE(ae_title="PACS")
    entity.add_supported_context(CTImageStorage, [IMPLICIT])
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver.take)]
    )
    archive.connect_to = connect
    archive.destinations["PACS"] = Peer(
        ae_title="PACS",
        rights=frozenset({Right.DESTINATION}),
        host="127.0.0.1",
        port=server.server_address[1],
    )
    try:
        yield
    finally:
        server.shutdown()


def test_move_sends_to_a_third_party_and_names_its_originator(archive):
    receiver = Receiver()
    jpeg = instance(9, study=STUDY, transfer_syntax_uid=JPEG)
    archive.keep(jpeg)
    model = StudyRootQueryRetrieveInformationModelMove
    with (
        storage_scp(receiver, archive),
        served(archive) as running,
        associated(running, (model, [IMPLICIT])) as association,
    ):
        asked = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        *_, (final, failed) = association.send_c_move(asked, "PACS", model, msg_id=42)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0xB000, 5)
    assert failed.FailedSOPInstanceUIDList == jpeg.sop_instance_uid
    assert receiver.received.keys() == held(archive).keys() - {jpeg.sop_instance_uid}
    assert receiver.originators == {("PYNET", 42)}


def test_commitment_is_reported_on_the_same_association(archive):
    reports = []
    arrived = threading.Event()

    def take(event):
        reports.append((event.event_type, event.event_information))
        arrived.set()
        return 0x0000, None

    request = identifier(TransactionUID="2.25.77", ReferencedSOPSequence=[])
    for uid in [*held(archive), "1.9.9"]:
        request.ReferencedSOPSequence.append(
            identifier(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uid)
        )
    with (
        served(archive) as running,
        associated(
            running,
            (StorageCommitmentPushModel, [IMPLICIT]),
            handlers=[(evt.EVT_N_EVENT_REPORT, take)],
        ) as association,
    ):
        status, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0x0000
        assert arrived.wait(20)
        with archive.changed:
            assert archive.changed.wait_for(lambda: archive.answered_reports, 20)
    ((event_type, report),) = reports
    assert (event_type, report.TransactionUID) == (2, "2.25.77")
    assert len(report.ReferencedSOPSequence) == 5
    assert [item.FailureReason for item in report.FailedSOPSequence] == [0x0112]
