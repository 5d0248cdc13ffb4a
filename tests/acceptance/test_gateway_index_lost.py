"""A gateway that has lost its index has it again from its store, and asks before it sends."""

import json
import random
import re
import shutil
import urllib.request

import centre as archives
import whole
from harmoni.dicom.identifier import QueryLevel

SIZES = [2_000, 150_000, 30_000]
LATE = "gateway.commit_after_s=600"
SOON = "gateway.commit_after_s=0.5"
DELIVERED = re.compile(r'^harmoni_forwarded_total\{outcome="delivered"\} (\S+)$', re.MULTILINE)


def sent_by(house):
    """How many instances the gateway has sent to the centre since it was started."""
    address = f"http://{whole.HOST}:{house.gateway.http.port}/metrics"
    with urllib.request.urlopen(address) as answer:
        found = DELIVERED.search(answer.read().decode())
    return int(float(found[1])) if found else 0


def lose_and_rebuild(running):
    """Remove the gateway's index with all its files, and rebuild it from the store."""
    house = running.house()
    index = running.data() / "index" / str(house.hospital)
    shutil.rmtree(index)
    index.mkdir()
    done = archives.harmoni(
        *("vault", "rebuild", "--json", "--config", str(house.config_path)),
        *("--hospital", str(house.hospital)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["equal"] is None


def test_a_lost_index_is_rebuilt_with_its_stubs_and_only_what_the_centre_lacks_is_sent(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    source = random.Random("index")
    evicted, sent, queued = (
        archives.write_instances(folder, f"1.2.3.{number}", SIZES, source) for number in (1, 2, 3)
    )
    with whole.running(tmp_path / "all", settings=[LATE]) as running:
        house, requestor = running.house(), running.requestor()
        assert not requestor.store(evicted, lambda _: None)
        assert requestor.commit(evicted) == {}
        running.await_committed()
        running.evict_all()
        assert not requestor.store(sent, lambda _: None)
        archives.until(lambda: running.waiting() == {"sent": len(sent)}, "it is sent")
        running.archive.stop()
        assert not requestor.store(queued, lambda _: None)
        archives.until(
            lambda: running.waiting() == {"sent": len(sent), "queued": len(queued)}, "it waits"
        )
        assert sent_by(house) == len(evicted) + len(sent)
        running.gateway().stop()

        lose_and_rebuild(running)
        assert running.waiting() == {"doubtful": len(sent) + len(queued)}

        running.archive.start()
        running.restart("hospital-a", SOON)
        running.await_committed()
        assert sent_by(house) == len(queued)
        for samples in (evicted, sent, queued):
            study = samples[0].study_instance_uid
            wanted = sorted(sample.sop_instance_uid for sample in samples)
            assert sorted(running.instances(study)) == wanted
            assert sorted(running.site.instances(house, study)) == wanted
        (answer,) = running.ask(
            QueryLevel.STUDY,
            {0x0020_000D: evicted[0].study_instance_uid, 0x0008_0056: "", 0x0020_1208: ""},
        )[1]
        assert (answer[0x0008_0056], answer[0x0020_1208]) == ("NEARLINE", str(len(evicted)))
        for samples in (evicted, sent, queued):
            got = requestor.get(samples[0].study_instance_uid, samples)
            assert {uid: each.sha256 for uid, each in got.items()} == {
                sample.sop_instance_uid: sample.sha256 for sample in samples
            }
        running.await_committed()
        running.rebuild()


def test_a_gateway_goes_on_by_itself_when_the_index_it_lost_is_rebuilt_under_it(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    source = random.Random("index")
    before, after = (
        archives.write_instances(folder, f"1.2.3.{number}", SIZES, source) for number in (1, 2)
    )
    with whole.running(tmp_path / "all", settings=[LATE]) as running:
        requestor = running.requestor()
        assert not requestor.store(before, lambda _: None)
        archives.until(lambda: running.waiting() == {"sent": len(before)}, "it is sent")
        lose_and_rebuild(running)
        assert not requestor.store(after, lambda _: None)
        assert requestor.commit(after) == {}
        running.await_committed()
        assert sent_by(running.house()) == len(before) + len(after)
        running.evict_all()
        for samples in (before, after):
            got = requestor.get(samples[0].study_instance_uid, samples)
            assert {uid: each.sha256 for uid, each in got.items()} == {
                sample.sop_instance_uid: sample.sha256 for sample in samples
            }
        running.await_committed()
        running.rebuild()
