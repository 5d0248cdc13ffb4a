"""The centre away: a hospital goes on, is never told that there is nothing, and all is made good.

`stopped` refuses connections; `silent` takes them and says nothing, as behind some firewalls.
"""

import random
import socket
import time
from contextlib import contextmanager, nullcontext

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

import centre as archives
import whole
from harmoni.dicom.identifier import QueryLevel

UNKNOWN = "1.2.3.99"
AWAY = 0xA702
UNABLE = 0xC001
BOUND_S = 30.0
BACK_S = 100.0
SIZES = [2_000, 150_000, 30_000]


@contextmanager
def silent(port):
    """Somebody who takes connections and says nothing."""
    with socket.create_server((whole.HOST, port), backlog=64):
        yield


HOW = {"stopped": lambda _: nullcontext(), "silent": silent}


def study_of(uid):
    """The identifier of a study."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    return identifier


def get(running, study):
    """Retrieve by C-GET: the last response, its identifier, what came, and how long it took."""
    pacs, began_s = whole.Pacs(), time.monotonic()
    with running.associated(
        [
            (CTImageStorage, [ExplicitVRLittleEndian]),
            (StudyRootQueryRetrieveInformationModelGet, [ImplicitVRLittleEndian]),
        ],
        roles=[build_role(CTImageStorage, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, pacs.take)],
    ) as association:
        *_, (response, identifier) = association.send_c_get(
            study_of(study), StudyRootQueryRetrieveInformationModelGet
        )
    return response, identifier, set(pacs.received), time.monotonic() - began_s


def move(running, study):
    """Retrieve by C-MOVE to the PACS itself: the last response, and how long it took."""
    began_s = time.monotonic()
    contexts = [(StudyRootQueryRetrieveInformationModelMove, [ImplicitVRLittleEndian])]
    with running.associated(contexts) as association:
        *_, (response, _) = association.send_c_move(
            study_of(study),
            running.house().peers[0].ae_title,
            StudyRootQueryRetrieveInformationModelMove,
        )
    return response, time.monotonic() - began_s


def uids_of(samples):
    return {sample.sop_instance_uid for sample in samples}


def store(running, folder, study):
    """Store a new study at the gateway; all of it must be taken."""
    samples = archives.write_instances(folder, study, SIZES, random.Random(study))
    assert not running.requestor().store(samples, lambda _: None)
    return samples


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", HOW)
def test_the_house_goes_on_without_its_centre_and_all_is_made_good(tmp_path, how):
    folder, (evicted, held, new) = tmp_path / "files", ("1.2.3.1", "1.2.3.2", "1.2.3.3")
    folder.mkdir()
    # Each worker has to find out by itself, which takes a silent centre's deadline.
    with whole.running(tmp_path / "all", settings=["gateway.workers=1"]) as running:
        studies = {evicted: store(running, folder, evicted)}
        running.await_committed()
        running.evict_all()
        studies[held] = store(running, folder, held)
        running.await_committed()
        running.archive.stop()
        with (
            whole.listening(running.house().peers[0]) as pacs,
            HOW[how](running.centre.archive.listen.port),
        ):
            studies[new] = store(running, folder, new)
            taken, transaction = running.request_commitment(studies[new])
            assert taken == 0
            for study, samples in studies.items():
                status, answers = running.ask(
                    QueryLevel.STUDY, {0x0020_000D: study, 0x0020_1208: ""}
                )
                assert (status, len(answers)) == (0, 1)
                assert answers[0][0x0020_1208] == str(len(samples))
                assert set(running.instances(study)) == uids_of(samples)
            for study in (held, new):
                response, _, came, took_s = get(running, study)
                assert (response.Status, came) == (0, uids_of(studies[study]))
                assert took_s < BOUND_S
            response, identifier, came, took_s = get(running, evicted)
            print(f"{how}: an evicted study is known as unreachable after {took_s:.1f} s")  # noqa: T201
            assert (response.Status, response.ErrorComment) == (AWAY, "archive unreachable")
            assert set(identifier.FailedSOPInstanceUIDList) == uids_of(studies[evicted])
            assert not came
            assert took_s < BOUND_S
            response, took_s = move(running, UNKNOWN)
            assert (response.Status, response.ErrorComment) == (AWAY, "archive unreachable")
            assert took_s < BOUND_S
            assert sum(running.waiting().values()) == len(studies[new])
            assert not pacs.reports
        with whole.listening(running.house().peers[0]) as pacs:
            running.archive.start()
            began_s = time.monotonic()
            report = pacs.await_report(transaction, BACK_S)
            took_s = time.monotonic() - began_s
            print(f"{how}: reported {took_s:.1f} s after the archive was ready again")  # noqa: T201
            assert "FailedSOPSequence" not in report
            told = {each.ReferencedSOPInstanceUID for each in report.ReferencedSOPSequence}
            assert told == uids_of(studies[new])
        running.await_committed(deadline_s=BACK_S)
        for study, samples in studies.items():
            assert sorted(running.site.instances(running.house(), study)) == sorted(
                uids_of(samples)
            )
            assert get(running, study)[2] == uids_of(samples)


def test_a_strict_gateway_answers_no_query_without_its_centre(tmp_path):
    (tmp_path / "files").mkdir()
    with whole.running(tmp_path / "all") as running:
        samples = store(running, tmp_path / "files", "1.2.3.1")
        running.await_committed()
        running.archive.stop()
        running.restart("hospital-a", "centre.strict=true")
        assert running.ask(QueryLevel.STUDY, {0x0020_000D: "1.2.3.1"}) == (UNABLE, [])
        assert store(running, tmp_path / "files", "1.2.3.2")
        running.archive.start()
        archives.until(  # each worker finds out by itself
            lambda: get(running, "1.2.3.1")[2] == uids_of(samples), "it is given again"
        )
