"""What was acknowledged survives `kill -9` of any process, at any moment, under load.

`HARMONI_KILLS` says how many kills (12 takes less than a minute), `HARMONI_SEED` repeats a run.
"""

import os
import random
import signal
import subprocess
import threading

import psutil
import pytest

import centre
from load import Load, ours

KILLS = int(os.environ.get("HARMONI_KILLS", "12"))
SEED = os.environ.get("HARMONI_SEED") or str(random.SystemRandom().getrandbits(32))
# Each four kills end each kind; a child that dies more often in a row is started with delay.
VICTIMS = ("worker", "worker", "keeper", "supervisor")
MOST_ACKNOWLEDGED = 40  # between two kills
LATEST_S = 0.1


def dcmtk(archive):
    """Store with DCMTK's storescu, started again for what was not answered."""

    def store(house, batch, note):
        waiting = {sample.path: sample for sample in batch}

        def sent():
            for path, status in archive.storescu(house, list(waiting)).items():
                assert status == "Success", status
                note(waiting.pop(path))
            return not waiting

        centre.until(sent, f"storescu stores {len(waiting)} files", 60)

    return store


def missing(archive, house, study, kept):
    """What of the acknowledged instances is not found once, or does not come back identical."""
    told = archive.instances(house, study)
    assert sorted(told) == sorted(kept)
    assert archive.requestor(house).count(study) == [len(kept)]
    got = archive.requestor(house).get(study, list(kept.values()))
    assert set(got) == set(kept)
    return [uid for uid, sample in kept.items() if got[uid].sha256 != sample.sha256]


@pytest.mark.timeout(60 + 20 * KILLS)
def test_nothing_that_was_acknowledged_is_lost_by_kills(peer, tmp_path):
    peer(centre.STORESCU)
    source = random.Random(SEED)
    folder = tmp_path / "files"
    folder.mkdir()
    print(f"HARMONI_SEED={SEED} HARMONI_KILLS={KILLS}")  # noqa: T201 - shown on failure
    with centre.running(tmp_path / "centre", hospitals=2, seal_after_s=0.5) as archive:
        load = Load(folder)
        own = ours(archive.requestor)
        for root, house in enumerate(archive.houses, 1):
            for number, by in enumerate((own, own, dcmtk(archive)), 1):
                load.start(house, f"1.2.3.{root}.{number}", by)
        try:
            victims = []
            for _ in range(KILLS):
                if not victims:
                    victims = source.sample(VICTIMS, len(VICTIMS))
                load.await_more(source.randint(1, MOST_ACKNOWLEDGED))
                threading.Event().wait(source.uniform(0, LATEST_S))
                centre.kill(archive.role, victims.pop(), source)
        finally:
            load.end()
        archive.await_seals()
        for (hospital, study), kept in load.acknowledged.items():
            (house,) = [house for house in archive.houses if house.hospital == hospital]
            assert missing(archive, house, study, kept) == []
        for house in archive.houses:
            archive.rebuild(house)
        for (hospital, study), kept in load.acknowledged.items():
            (house,) = [house for house in archive.houses if house.hospital == hospital]
            assert sorted(archive.instances(house, study)) == sorted(kept)
        assert '"damaged": 0' in archive.log
        assert not [line for line in archive.log.splitlines() if "Traceback" in line]


def test_nothing_outlives_a_killed_supervisor(tmp_path):
    with centre.running(tmp_path) as archive:
        supervisor, *others = archive.role.pids()
        everyone = [psutil.Process(pid) for pid in others]
        assert len(everyone) == 3  # two workers and the keeper
        os.kill(supervisor, signal.SIGKILL)
        _, alive = psutil.wait_procs(everyone, centre.GONE_S)
        assert not alive


def test_nothing_outlives_a_supervisor_that_was_killed_before_its_children_were_ready(tmp_path):
    """They say that they are ready to nobody, and must not stumble over that."""
    with centre.running(tmp_path) as archive:
        config_path = archive.centre.config_path
    with (tmp_path / "output").open("wb") as output:
        serving = subprocess.Popen(
            [*centre.HARMONI, "archive", "serve", "--config", str(config_path)],
            stdout=output,
            stderr=output,
        )
    supervisor = psutil.Process(serving.pid)
    centre.until(lambda: len(supervisor.children()) == 3, "the children are started")
    everyone = supervisor.children()
    serving.kill()
    serving.wait()
    _, alive = psutil.wait_procs(everyone, centre.GONE_S)
    assert not alive
    assert "Traceback" not in (tmp_path / "output").read_text()
