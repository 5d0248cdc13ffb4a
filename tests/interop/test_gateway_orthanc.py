"""Orthanc as a hospital's PACS: it stores to the gateway, gets its commitment, and gets all back.

Orthanc writes a data set anew when it sends and when it receives. So each file goes from it to
itself first; what it has then is what it sends, and is what it must have again in the end.
"""

import contextlib
import uuid

import pytest
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

import orthanc
import whole
from archive_role import HOST
from centre import until
from dcmtk import FILES, free_port, with_new_uids
from harmoni.dicom import part10

pytestmark = pytest.mark.peer

GATEWAY = "gw"
ITSELF = "itself"
NODE = "node"
REPORT_S = 60.0


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    with whole.running(tmp_path_factory.mktemp("whole") / "all") as running:
        yield running


@pytest.fixture(scope="module")
def pacs(everything, peer, tmp_path_factory):
    """Orthanc under the name and at the port of the hospital's PACS."""
    house = everything.house()
    us, node = house.peers
    with orthanc.running(
        peer(orthanc.PROGRAM),
        tmp_path_factory.mktemp("orthanc") / "pacs",
        ae_title=us.ae_title,
        port=us.port,
        http_port=free_port(),
        modalities={
            GATEWAY: {
                "AET": house.gateway_ae_title,
                "Host": HOST,
                "Port": house.gateway.listen.port,
            },
            ITSELF: {"AET": us.ae_title, "Host": HOST, "Port": us.port},
            NODE: {"AET": node.ae_title, "Host": HOST, "Port": node.port},
        },
    ) as running:
        yield running


class Study:
    """Files of one new patient, each a study of its own, in Orthanc as it receives them itself."""

    def __init__(self, pacs, folder):
        self.patient = uuid.uuid4().hex[:10].upper()
        self.data_sets = {}
        self.ids = {}
        for name in FILES:
            dataset = with_new_uids(name, folder, self.patient)
            self.ids[dataset.SOPInstanceUID] = pacs.upload((folder / name).read_bytes())
            self.data_sets[dataset.SOPInstanceUID] = dataset
        assert send(pacs, ITSELF, self)["FailedInstancesCount"] == 0
        self.had = had(pacs, self)

    def pairs(self):
        return [(self.data_sets[uid].SOPClassUID, syntax) for uid, (syntax, _) in self.had.items()]


def send(pacs, modality, study, **more):
    resources = list(study.ids.values())
    asked = {"Resources": resources, "Synchronous": True, **more}
    return pacs.post(f"/modalities/{modality}/store", asked)


def had(pacs, study):
    """Transfer syntax and data set of each of a study's instances, as Orthanc has them now."""
    found = {}
    for uid, identity in study.ids.items():
        content = pacs.read(f"/instances/{identity}/file")
        meta = part10.read_prefix(content)
        found[uid] = meta.transfer_syntax_uid, content[meta.dataset_offset :]
    return found


def reported(pacs, transaction):
    """The report on a commitment, when it has come to Orthanc's own port."""
    path = f"/storage-commitment/{transaction}"
    until(lambda: pacs.get(path)["Status"] != "Pending", "the commitment is reported", REPORT_S)
    return pacs.get(path)


def commit(pacs, study):
    asked = {"Resources": list(study.ids.values())}
    answer = pacs.post(f"/modalities/{GATEWAY}/storage-commitment", asked)
    return reported(pacs, answer["ID"])


def query(pacs, level, **keys):
    """A query that Orthanc has done: its path."""
    asked = {"Level": level, "Query": keys}
    return pacs.post(f"/modalities/{GATEWAY}/query", asked)["Path"]


def answers(pacs, path):
    return [
        pacs.get(f"{path}/answers/{number}/content?simplify")
        for number in pacs.get(f"{path}/answers")
    ]


@contextlib.contextmanager
def storage(node, study):
    """A storage SCP of pynetdicom's at a node of the hospital, and what it receives."""
    receiver = whole.Pacs()
    entity = AE(ae_title=node.ae_title)
    entity.supported_contexts = [
        build_context(
            abstract, [syntax for sop_class, syntax in study.pairs() if sop_class == abstract]
        )
        for abstract in dict.fromkeys(sop_class for sop_class, _ in study.pairs())
    ]
    server = entity.start_server(
        (HOST, node.port), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver.take)]
    )
    try:
        yield receiver
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def committed(everything, pacs, tmp_path_factory):
    """A study that the gateway has taken, and the report that Orthanc got on it."""
    study = Study(pacs, tmp_path_factory.mktemp("files"))
    with storage(everything.house().peers[1], study) as receiver:
        assert send(pacs, NODE, study)["FailedInstancesCount"] == 0
    study.on_the_wire = receiver.received
    done = send(pacs, GATEWAY, study)
    assert (done["InstancesCount"], done["FailedInstancesCount"]) == (len(FILES), 0)
    study.report = commit(pacs, study)
    return study


@pytest.fixture
def let_go(everything, pacs, committed):
    """That study when only the centre has it: deleted in Orthanc, let go of by the gateway."""
    for identity in set(committed.ids.values()).intersection(pacs.instances()):
        pacs.delete(f"/instances/{identity}")
    everything.let_go()
    return committed


def test_orthanc_echoes_the_gateway(pacs):
    assert pacs.post(f"/modalities/{GATEWAY}/echo", {}) == {}


def test_orthanc_is_told_at_its_own_port_that_everything_is_committed(committed):
    report = committed.report
    assert (report["Status"], report["Failures"]) == ("Success", [])
    assert {(item["SOPClassUID"], item["SOPInstanceUID"]) for item in report["Success"]} == {
        (dataset.SOPClassUID, uid) for uid, dataset in committed.data_sets.items()
    }
    assert report["RemoteAET"] == "GW_A"


def test_orthanc_asks_for_commitment_right_after_it_has_stored(pacs, tmp_path):
    study = Study(pacs, tmp_path)
    done = send(pacs, GATEWAY, study, StorageCommitment=True)
    report = reported(pacs, done["StorageCommitmentTransactionUID"])
    assert report["Status"] == "Success"
    assert {item["SOPInstanceUID"] for item in report["Success"]} == set(study.ids)


def test_orthanc_finds_what_the_gateway_let_go_of_at_every_level(pacs, let_go):
    studies = answers(pacs, query(pacs, "Study", PatientID=let_go.patient))
    expected = {dataset.StudyInstanceUID for dataset in let_go.data_sets.values()}
    assert {answer["StudyInstanceUID"] for answer in studies} == expected
    assert {answer["RetrieveAETitle"] for answer in studies} == {"GW_A"}
    for uid, dataset in let_go.data_sets.items():
        above = {"StudyInstanceUID": dataset.StudyInstanceUID}
        (found,) = answers(pacs, query(pacs, "Series", **above))
        assert found["SeriesInstanceUID"] == dataset.SeriesInstanceUID
        above["SeriesInstanceUID"] = dataset.SeriesInstanceUID
        (found,) = answers(pacs, query(pacs, "Instance", **above))
        assert found["SOPInstanceUID"] == uid


def test_orthanc_has_again_what_it_deleted_and_the_gateway_let_go_of(pacs, let_go):
    assert set(pacs.instances()).isdisjoint(let_go.ids.values())
    path = query(pacs, "Study", PatientID=let_go.patient)
    pacs.post(f"{path}/retrieve", {"TargetAet": "PACS_A", "Synchronous": True})
    assert had(pacs, let_go) == let_go.had


def test_orthanc_has_another_node_sent_what_it_once_sent_bit_for_bit(everything, pacs, let_go):
    """That node keeps the bytes as they come, and once got the same ones from Orthanc itself."""
    path = query(pacs, "Study", PatientID=let_go.patient)
    with storage(everything.house().peers[1], let_go) as receiver:
        pacs.post(f"{path}/retrieve", {"TargetAet": "CT_A", "Synchronous": True})
    assert receiver.received == let_go.on_the_wire
