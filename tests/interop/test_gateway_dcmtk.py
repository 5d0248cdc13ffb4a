"""DCMTK's command line tools as a hospital's PACS: through its gateway to the centre and back.

The reference for what comes back is what DCMTK's own bit-preserving receiver gets from the same
sender.
"""

import re
import uuid

import pydicom
import pytest

import whole
from archive_role import HOST
from dcmtk import FILES, free_port, run, storescp, with_new_uids, written

pytestmark = pytest.mark.peer

PACS = "PACS_A"
GATEWAY = "GW_A"
# What getscu can take in the one context that it proposes; see tests/interop/test_archive_dcmtk.py.
UNCOMPRESSED = ["CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "waveform_ecg.dcm"]


class Sent:
    """The files as DCMTK sent them to the gateway, and what its own receiver got of them."""

    def __init__(self, port):
        self.port = port
        self.patient = uuid.uuid4().hex[:10].upper()
        self.studies = {}
        self.reference = {}

    def uids(self):
        return {dataset.StudyInstanceUID for dataset in self.studies.values()}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    with whole.running(tmp_path_factory.mktemp("whole") / "all", hospitals=2) as running:
        yield running


@pytest.fixture(scope="module")
def sent(everything, peer, tmp_path_factory):
    store, scp = peer("/usr/bin/storescu"), peer("/usr/bin/storescp")
    folder = tmp_path_factory.mktemp("sent")
    sent, port = Sent(everything.house().gateway.listen.port), free_port()
    theirs = tmp_path_factory.mktemp("theirs") / "received"
    with storescp(scp, [peer("/usr/bin/echoscu")], theirs, port):
        for name, options in FILES.items():
            sent.studies[name] = with_new_uids(name, folder, sent.patient)
            for called in (port, sent.port):
                run(
                    *(store, *options, "-R", "-aet", PACS, "-aec", GATEWAY),
                    *(HOST, called, folder / name),
                )
    sent.reference = written(theirs)
    assert len(sent.reference) == len(FILES)
    return sent


@pytest.fixture
def let_go(everything, sent):
    """What was sent, as long as the gateway has no copy of it."""
    everything.let_go()
    return sent


def find(peer, port, folder, keys, *, calling=PACS, called=GATEWAY):
    """The answers to a query, study root."""
    folder.mkdir()
    options = [option for key in (*keys, "InstanceAvailability") for option in ("-k", key)]
    run(
        *(peer("/usr/bin/findscu"), "-S", "-X", "-aet", calling, "-aec", called),
        *(*options, HOST, port),
        folder=folder,
    )
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.iterdir())]


def at_every_level(peer, sent, folder):
    """All answers about what was sent, in text, but for availability."""
    folder.mkdir()
    told = {
        "studies": find(
            *(peer, sent.port, folder / "studies"),
            [
                "QueryRetrieveLevel=STUDY",
                f"PatientID={sent.patient}",
                *("StudyInstanceUID", "StudyDate", "PatientName", "AccessionNumber"),
                *("ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
                "NumberOfStudyRelatedSeries",
            ],
        )
    }
    for name, dataset in sent.studies.items():
        study = f"StudyInstanceUID={dataset.StudyInstanceUID}"
        told[f"series of {name}"] = find(
            *(peer, sent.port, folder / f"{name}.series"),
            [
                *("QueryRetrieveLevel=SERIES", study, "SeriesInstanceUID", "Modality"),
                *("NumberOfSeriesRelatedInstances", "SeriesNumber"),
            ],
        )
        told[f"images of {name}"] = find(
            *(peer, sent.port, folder / f"{name}.images"),
            [
                *("QueryRetrieveLevel=IMAGE", study),
                f"SeriesInstanceUID={dataset.SeriesInstanceUID}",
                *("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "AvailableTransferSyntaxUID"),
            ],
        )
    return told


def without_availability(told):
    for answers in told.values():
        for answer in answers:
            del answer.InstanceAvailability
    return {name: sorted(answer.to_json() for answer in answers) for name, answers in told.items()}


def availability(told):
    return {answer.InstanceAvailability for answers in told.values() for answer in answers}


def test_echoscu(everything, peer):
    port = everything.house().gateway.listen.port
    run(peer("/usr/bin/echoscu"), "-aet", PACS, "-aec", GATEWAY, HOST, port)


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        (PACS, "HARMONI", "Called AE Title Not Recognized"),
        ("STRANGER", GATEWAY, "Calling AE Title Not Recognized"),
        ("PACS_B", GATEWAY, "Calling AE Title Not Recognized"),
    ],
)
def test_a_wrong_name_is_refused_for_good_with_its_reason(
    everything, peer, calling, called, reason
):
    port = everything.house().gateway.listen.port
    output = run(
        *(peer("/usr/bin/echoscu"), "-v", "-aet", calling, "-aec", called, HOST, port), code=1
    )
    assert "Result: Rejected Permanent, Source: Service User" in output
    assert f"Reason: {reason}" in output


def test_findscu_is_answered_alike_before_and_after_the_gateway_let_go(
    everything, peer, sent, tmp_path
):
    before = at_every_level(peer, sent, tmp_path / "before")
    everything.let_go()
    after = at_every_level(peer, sent, tmp_path / "after")
    assert availability(after) == {"NEARLINE"}
    assert {answer.StudyInstanceUID for answer in after["studies"]} == sent.uids()
    assert {
        answer.SOPInstanceUID for name in FILES for answer in after[f"images of {name}"]
    } == set(sent.reference)
    assert {answer.RetrieveAETitle for answers in after.values() for answer in answers} == {GATEWAY}
    assert without_availability(after) == without_availability(before)


def study_of(sent, name):
    return [
        *("-S", "-aet", PACS, "-aec", GATEWAY, "-k", "QueryRetrieveLevel=STUDY", "-k"),
        f"StudyInstanceUID={sent.studies[name].StudyInstanceUID}",
    ]


def test_movescu_has_the_pacs_sent_what_was_let_go_of_bit_for_bit(
    everything, peer, let_go, tmp_path
):
    port = everything.house().peers[0].port
    folder = tmp_path / "pacs"
    with storescp(
        peer("/usr/bin/storescp"), [peer("/usr/bin/echoscu")], folder, port, "-aet", PACS
    ):
        for name in FILES:
            output = run(
                *(peer("/usr/bin/movescu"), "-v", *study_of(let_go, name), "-aem", PACS),
                *(HOST, let_go.port),
            )
            assert "Received Final Move Response (Success)" in output
    assert written(folder) == let_go.reference


def test_getscu_gets_what_was_let_go_of_bit_for_bit(everything, peer, let_go, tmp_path):
    for name in UNCOMPRESSED:
        run(
            *(peer("/usr/bin/getscu"), "+B", "-od", tmp_path, *study_of(let_go, name)),
            *(HOST, let_go.port),
        )
    expected = {let_go.studies[name].SOPInstanceUID for name in UNCOMPRESSED}
    assert written(tmp_path) == {uid: let_go.reference[uid] for uid in expected}


def test_getscu_of_one_image_gets_that_image(everything, peer, let_go, tmp_path):
    dataset = let_go.studies["CT_small.dcm"]
    run(
        *(peer("/usr/bin/getscu"), "+B", "-od", tmp_path, "-S", "-aet", PACS, "-aec", GATEWAY),
        *("-k", "QueryRetrieveLevel=IMAGE"),
        *("-k", f"StudyInstanceUID={dataset.StudyInstanceUID}"),
        *("-k", f"SeriesInstanceUID={dataset.SeriesInstanceUID}"),
        *("-k", f"SOPInstanceUID={dataset.SOPInstanceUID}", HOST, let_go.port),
    )
    uid = dataset.SOPInstanceUID
    assert written(tmp_path) == {uid: let_go.reference[uid]}


def test_another_hospitals_study_matches_nothing_and_is_given_to_nobody(
    everything, peer, let_go, tmp_path
):
    theirs = everything.house("hospital-b").gateway.listen.port
    keys = ["QueryRetrieveLevel=STUDY", f"PatientID={let_go.patient}", "StudyInstanceUID"]
    assert find(peer, theirs, tmp_path / "a", keys, calling="PACS_B", called="GW_B") == []
    uid = let_go.studies["CT_small.dcm"].StudyInstanceUID
    keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={uid}"]
    assert find(peer, theirs, tmp_path / "b", keys, calling="PACS_B", called="GW_B") == []
    received = tmp_path / "received"
    received.mkdir()
    output = run(
        *(peer("/usr/bin/getscu"), "-v", "+B", "-od", received, "-S"),
        *("-aet", "PACS_B", "-aec", "GW_B", "-k", keys[0], "-k", keys[1], HOST, theirs),
    )
    assert re.search(r"Completed Suboperations *: 0", output)
    assert list(received.iterdir()) == []
    # Nor is one hospital's PACS a place where another's gateway may send to.
    output = run(
        *(peer("/usr/bin/movescu"), "-v", *study_of(let_go, "CT_small.dcm"), "-aem", "PACS_B"),
        *(HOST, let_go.port),
        code=69,
    )
    assert "Refused: MoveDestinationUnknown" in output
