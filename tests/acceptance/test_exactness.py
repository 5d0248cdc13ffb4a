"""Every file that can be sent goes through a gateway to its centre and comes back byte for byte.

The files are those of pydicom and pydicom-data. Their own bytes are sent, and what comes back is
received by pynetdicom, which keeps the bytes as they came. Files with the same SOP Instance UID and
other content go to different hospitals as far as there are hospitals, and otherwise to the same one
after the earlier file has come back: then the newest is given.
"""

import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom import sop_class as sop
from pynetdicom.presentation import build_context

import whole
from archive_requests import IMPLICIT
from archive_role import HOST, dataset
from harmoni.demo import samples
from harmoni.dicom import uids
from harmoni.dicom.scanner import Scanner
from harmoni.model.errors import InvalidInput
from harmoni.model.header import SOP_INSTANCE_UID
from vendor_files import vendor_files

STUDY_GET = sop.StudyRootQueryRetrieveInformationModelGet
STUDY_MOVE = sop.StudyRootQueryRetrieveInformationModelMove
HOSPITALS = [f"hospital-{letter}" for letter in "abcd"]
SEAL_AFTER_S = 0.2
FEWEST_SENT = 220
FEWEST_RETRIEVED = 205


@dataclass
class Files:
    """What is sent, by hospital one round after the other, and why the rest is not."""

    rounds: dict[str, list[list[samples.Sample]]]
    unsendable: Counter
    twins: int


def sendable():
    """Every file that can be sent, and for the others why they cannot."""
    found, unsendable = [], Counter()
    for path in vendor_files():
        try:
            sample = samples.read(path)
        except InvalidInput as error:
            unsendable[str(error)] += 1
            continue
        if identified(sample):
            found.append(sample)
        else:
            unsendable["its data set has no SOP Instance UID (A900)"] += 1
    return found, unsendable


def identified(sample):
    scanner = Scanner(uids.storage_transfer_syntax(sample.transfer_syntax_uid))
    for chunk in sample.chunks():
        scanner.feed(chunk)
    return scanner.header().uid(SOP_INSTANCE_UID) == sample.sop_instance_uid


@pytest.fixture(scope="module")
def files():
    found, unsendable = sendable()
    versions, twins = defaultdict(dict), 0
    for sample in found:
        held = versions[sample.sop_instance_uid]
        identity = sample.transfer_syntax_uid, sample.sha256
        twins += identity in held
        held.setdefault(identity, sample)
    rounds = {hospital: [] for hospital in HOSPITALS}
    for several in versions.values():
        for number, sample in enumerate(several.values()):
            turn, which = divmod(number, len(HOSPITALS))
            turns = rounds[HOSPITALS[which]]
            turns.extend([] for _ in range(turn + 1 - len(turns)))
            turns[turn].append(sample)
    return Files(rounds, unsendable, twins)


def bytes_of(sample):
    return sample.transfer_syntax_uid, b"".join(sample.chunks())


def got(everything, hospital, study, expected):
    """What a C-GET of a study brings."""
    receiver = whole.Pacs()
    pairs = dict.fromkeys(sample.pair for sample in expected)
    roles = [
        build_role(abstract, scp_role=True)
        for abstract in dict.fromkeys(abstract for abstract, _ in pairs)
    ]
    with everything.associated(
        [(STUDY_GET, [IMPLICIT]), *((abstract, [syntax]) for abstract, syntax in pairs)],
        hospital=hospital,
        roles=roles,
        handlers=[(evt.EVT_C_STORE, receiver.take)],
    ) as association:
        *_, (final, _) = association.send_c_get(named(study), STUDY_GET)
    assert final.Status == 0x0000, study
    return receiver.received


def moved(everything, hospital, study, title):
    """How many instances a C-MOVE of a study sends."""
    with everything.associated([(STUDY_MOVE, [IMPLICIT])], hospital=hospital) as association:
        *_, (final, _) = association.send_c_move(named(study), title, STUDY_MOVE)
    assert final.Status == 0x0000, study
    return final.NumberOfCompletedSuboperations


def named(study) -> Dataset:
    return dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)


@contextmanager
def storage(node, wanted):
    """A node of the hospital that takes what is wanted, and what it has received."""
    receiver, entity = whole.Pacs(), AE(ae_title=node.ae_title)
    syntaxes = defaultdict(dict)
    for sample in wanted:
        syntaxes[sample.sop_class_uid][sample.transfer_syntax_uid] = None
    entity.supported_contexts = [
        build_context(abstract, list(several)) for abstract, several in syntaxes.items()
    ]
    server = entity.start_server(
        (HOST, node.port), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver.take)]
    )
    try:
        yield receiver.received
    finally:
        server.shutdown()


def retrieved(everything, hospital, wanted):
    """What comes back of one hospital's files: every other study by C-GET, the rest by C-MOVE."""
    studies = defaultdict(list)
    for sample in wanted:
        studies[sample.study_instance_uid].append(sample)
    received = {}
    node = everything.house(hospital).peers[0]
    with storage(node, wanted) as arrived:
        for number, (study, expected) in enumerate(studies.items()):
            if number % 2:
                received |= got(everything, hospital, study, expected)
            else:
                moved(everything, hospital, study, node.ae_title)
        received |= arrived
    return received


def go_through(everything, hospital, rounds):
    """Send, have committed, let go of and get back one hospital's files.

    Returns:
        The samples that came back, and those that did not or not as they were.
    """
    newest, identical, different = {}, [], []
    for some in rounds:
        requestor = everything.requestor(hospital)
        assert requestor.store(some, lambda _: None) == {}
        assert requestor.commit(some) == {}
        everything.let_go(hospital)
        # What has no study cannot be asked for; it is safe, and the centre keeps it.
        wanted = [sample for sample in some if sample.study_instance_uid]
        newest |= {sample.sop_instance_uid: sample for sample in wanted}
        studies = {sample.study_instance_uid for sample in wanted}
        expected = [each for each in newest.values() if each.study_instance_uid in studies]
        received = retrieved(everything, hospital, expected)
        assert received.keys() == {sample.sop_instance_uid for sample in expected}
        for sample in wanted:
            same = received[sample.sop_instance_uid] == bytes_of(sample)
            (identical if same else different).append(sample)
    return identical, different


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")  # some files' UIDs
def test_every_file_that_can_be_sent_comes_back_through_the_gateway_bit_for_bit(files, tmp_path):
    with (
        whole.running(
            tmp_path / "all",
            hospitals=len(HOSPITALS),
            seal_after_s=SEAL_AFTER_S,
            settings=["archive.workers=1", "gateway.gateway.workers=1"],
        ) as everything,
        ThreadPoolExecutor(len(HOSPITALS)) as pool,
    ):
        # Every hospital at the same time: what takes long is waiting for packs to be sealed.
        results = list(
            pool.map(
                lambda hospital: go_through(everything, hospital, files.rounds[hospital]), HOSPITALS
            )
        )
    every = [sample for rounds in files.rounds.values() for some in rounds for sample in some]
    sent, nameless = len(every), sum(not sample.study_instance_uid for sample in every)
    identical = sum(len(same) for same, _ in results)
    different = [sample.path.name for _, others in results for sample in others]
    lines = [
        f"{len(vendor_files())} files: {sent} sent, {files.twins} more are copies of those",
        f"{identical} came back byte for byte, transfer syntax included",
        f"{nameless} belong to no study and cannot be asked for; they are committed",
        f"{sum(files.unsendable.values())} cannot be sent:",
        *(f"  {count:3} {reason}" for reason, count in files.unsendable.most_common()),
    ]
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert different == []
    assert sent >= FEWEST_SENT
    assert identical >= FEWEST_RETRIEVED
    assert identical + nameless == sent
    assert sent + files.twins + sum(files.unsendable.values()) == len(vendor_files())
