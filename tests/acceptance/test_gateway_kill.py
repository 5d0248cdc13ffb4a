"""What a gateway acknowledged reaches its centre through `kill -9` of any process, at any moment.

`HARMONI_KILLS` says how many kills, `HARMONI_SEED` repeats a run.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import centre as archives
import whole
from harmoni.demo.receiver import Pacs
from harmoni.model.errors import HarmoniError
from harmoni.runtime.clock import SystemClock
from load import Load, ours

KILLS = int(os.environ.get("HARMONI_KILLS", "7"))
SEED = os.environ.get("HARMONI_SEED") or str(random.SystemRandom().getrandbits(32))
VICTIMS = (
    *(("gateway", kind) for kind in ("worker", "keeper", "forwarder", "supervisor")),
    *(("archive", kind) for kind in ("worker", "keeper", "supervisor")),
)
SENDERS = 2
MOST_ACKNOWLEDGED = 25  # between two kills
LATEST_S = 0.1
COMMITTED_S = 120.0
# The command `harmoni gateway evict`, which ends itself by SIGKILL at one moment.
KILLED = """
import os, signal, sys
from harmoni.cli.app import main
from harmoni.holdings import let_go
from harmoni.index import ingest

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def remove_and_die(self, pack_id):
    self._files.remove(self._layout.sealed_pack(pack_id))
    die()

{moment}
sys.exit(main())
"""
MOMENTS = {
    "after the event, before its row": "ingest.record_facts = die",
    "after the row, before the file is removed": "let_go.LetGo._remove = die",
    "after the file is removed": "let_go.LetGo._remove = remove_and_die",
}


def assert_kept(running, study, kept):
    """Gateway and archive tell of each instance once, and each comes back through the gateway."""
    house = running.house()
    wanted = sorted(kept)
    assert sorted(running.instances(study)) == wanted
    assert sorted(running.site.instances(house, study)) == wanted
    assert running.requestor().count(study) == [len(kept)]
    got = running.requestor().get(study, list(kept.values()))
    assert {uid: each.sha256 for uid, each in got.items()} == {
        uid: sample.sha256 for uid, sample in kept.items()
    }


@pytest.mark.timeout(120 + 20 * KILLS)
def test_everything_acknowledged_is_committed_at_the_centre_and_comes_back_after_kills(tmp_path):
    source = random.Random(SEED)
    folder = tmp_path / "files"
    folder.mkdir()
    print(f"HARMONI_SEED={SEED} HARMONI_KILLS={KILLS}")  # noqa: T201 - shown on failure
    with whole.running(tmp_path / "all") as running:
        roles = {"gateway": running.gateway(), "archive": running.archive}
        load = Load(folder)
        for number in range(1, SENDERS + 1):
            load.start(running.house(), f"1.2.3.{number}", ours(lambda _: running.requestor()))
        try:
            victims = []
            for _ in range(KILLS):
                if not victims:
                    victims = source.sample(VICTIMS, len(VICTIMS))
                load.await_more(source.randint(1, MOST_ACKNOWLEDGED))
                threading.Event().wait(source.uniform(0, LATEST_S))
                role, victim = victims.pop()
                archives.kill(roles[role], victim, source)
        finally:
            load.end()
        began_s = time.monotonic()
        running.await_committed(deadline_s=COMMITTED_S)
        took_s = time.monotonic() - began_s
        print(f"{load.count} instances, all committed {took_s:.1f} s after the last")  # noqa: T201
        running.evict_all()
        for (_, study), kept in load.acknowledged.items():
            assert_kept(running, study, kept)
        running.await_committed()
        running.rebuild()
        running.site.rebuild(running.house())
        for (_, study), kept in load.acknowledged.items():
            assert_kept(running, study, kept)
        assert "Traceback" not in running.log() + running.site.log


def evict_and_die(running, study, moment):
    """Let `harmoni gateway evict` be killed at one moment."""
    command = [sys.executable, "-c", KILLED.format(moment=MOMENTS[moment])]
    arguments = ["gateway", "evict", "--study", study]
    done = subprocess.run(
        [*command, *arguments, "--config", str(running.house().config_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def test_an_eviction_that_was_killed_loses_no_instance_and_is_completed(tmp_path):
    source = random.Random(SEED)
    folder = tmp_path / "files"
    folder.mkdir()
    studies = {f"1.2.3.{number}": moment for number, moment in enumerate(MOMENTS, 1)}
    with whole.running(tmp_path / "all") as running:
        kept = {}
        for study in studies:
            batch = archives.write_instances(folder, study, [3_000, 200_000, 50_000], source)
            assert not running.requestor().store(batch, lambda _: None)
            kept[study] = {sample.sop_instance_uid: sample for sample in batch}
        running.await_committed()
        images = running.packs()
        for study, moment in studies.items():
            evict_and_die(running, study, moment)
            assert_kept(running, study, kept[study])
        running.await_committed()  # what the killed commands left open is finished
        running.evict_all()
        assert not [path for path in images if path.exists()]
        for study in studies:
            assert_kept(running, study, kept[study])
        running.await_committed()
        running.rebuild()
        for study in studies:
            assert_kept(running, study, kept[study])


@pytest.mark.parametrize(
    ("role", "victim"),
    [("gateway", "worker"), ("archive", "worker"), ("gateway", "supervisor")],
    ids=lambda value: value,
)
def test_a_fetch_that_was_killed_is_done_again_and_gives_every_instance(tmp_path, role, victim):
    source = random.Random(SEED)
    print(f"HARMONI_SEED={SEED}")  # noqa: T201 - shown on failure
    folder, study = tmp_path / "files", "1.2.3.4"
    folder.mkdir()
    samples = archives.write_instances(folder, study, [2 << 20] * 16, source)
    one = ["gateway.workers=1", "archive.workers=1"]
    with whole.running(tmp_path / "all", settings=one) as running:
        pacs = running.house().peers[0]
        assert not running.requestor().store(samples, lambda _: None)
        running.await_committed()
        running.evict_all()
        roles = {"gateway": running.gateway(), "archive": running.archive}

        def moved():
            try:
                return running.requestor().move(study, pacs.ae_title) == len(samples)
            except HarmoniError:
                return False

        with Pacs(pacs, SystemClock()) as receiver:
            moving = threading.Thread(target=moved)
            moving.start()
            wanted = source.randint(0, len(samples) // 2)
            archives.until(lambda: len(receiver.receiver.received()) >= wanted, "some arrived")
            archives.kill(roles[role], victim, source)
            moving.join(60)
            assert not moving.is_alive()
            receiver.receiver.forget()
            archives.until(moved, "it is moved")
            got = receiver.receiver.received()
        wanted = {sample.sop_instance_uid: sample for sample in samples}
        assert {uid: each.sha256 for uid, each in got.items()} == {
            uid: sample.sha256 for uid, sample in wanted.items()
        }
        assert_kept(running, study, wanted)
        running.await_committed()
        running.evict_all()
        assert_kept(running, study, wanted)


def test_a_study_that_is_let_go_of_while_it_is_given_arrives_whole(tmp_path):
    folder, study, source = tmp_path / "files", "1.2.3.4", random.Random(SEED)
    folder.mkdir()
    with whole.running(tmp_path / "all") as running:
        samples = []
        for first in (1, 4, 7):  # a pack each
            samples += archives.write_instances(folder, study, [80_000] * 3, source, first)
            assert not running.requestor().store(samples[-3:], lambda _: None)
            running.await_committed()
        moved, peer = [], running.house().peers[0]
        with whole.listening(peer) as pacs:
            pacs.ready.clear()
            moving = threading.Thread(
                target=lambda: moved.append(running.requestor().move(study, peer.ae_title))
            )
            moving.start()
            assert pacs.asked.wait(60)
            running.evict_all()
            assert not running.packs()
            pacs.ready.set()
            moving.join(60)
        assert moved == [len(samples)]
        assert {uid: hashlib.sha256(data).digest() for uid, (_, data) in pacs.received.items()} == {
            sample.sop_instance_uid: sample.sha256 for sample in samples
        }
