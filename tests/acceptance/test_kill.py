"""What was acknowledged survives `kill -9` of any process, at any moment, under load.

`HARMONI_KILLS` says how many kills (12 takes less than a minute), `HARMONI_SEED` repeats a run.
"""

import os
import random
import signal
import subprocess
import threading
from collections import defaultdict

import psutil
import pytest

import centre

KILLS = int(os.environ.get("HARMONI_KILLS", "12"))
SEED = os.environ.get("HARMONI_SEED") or str(random.SystemRandom().getrandbits(32))
# Each four kills end each kind; a child that dies more often in a row is started with delay.
VICTIMS = ("worker", "worker", "keeper", "supervisor")
BATCHES_BYTES = ([2_000] * 6 + [300_000] * 2, [1_000, 5 << 20, 40_000], [7 << 20], [20_000] * 10)
MOST_ACKNOWLEDGED = 40  # between two kills
LATEST_S = 0.1
GONE_S = 40.0


class Load:
    """Senders that store different instances until they are told to end, and what they were told.

    A sender ends only after all of its last batch was acknowledged, so at the end everything that
    was ever sent is known to be kept.
    """

    def __init__(self, archive, folder):
        self._archive = archive
        self._folder = folder
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._threads = []
        self.acknowledged = defaultdict(dict)  # (hospital, study) to UID to sample
        self.errors = []
        self.count = 0

    def start(self, house, study, by):
        """Start one sender; it has a study for itself."""
        thread = threading.Thread(target=self._send, args=(house, study, by))
        thread.start()
        self._threads.append(thread)

    def await_more(self, number):
        """Return when so many more instances were acknowledged."""
        with self._changed:
            wanted = self.count + number
            done = self._changed.wait_for(lambda: self.count >= wanted or self.errors, 60)
            assert not self.errors, self.errors
            assert done, "nothing is acknowledged any more"

    def end(self):
        """End the senders."""
        self._over.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a sender cannot get rid of its last batch"
        assert not self.errors, self.errors

    def _send(self, house, study, by):
        source = random.Random(study)
        first = 1
        try:
            while not self._over.is_set():
                sizes = source.choice(BATCHES_BYTES)
                batch = centre.write_instances(self._folder, study, sizes, source, first)
                first += len(batch)
                by(house, batch, lambda sample: self._note(house, study, sample))
                for sample in batch:
                    sample.path.unlink()
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            with self._changed:
                self.errors.append(error)
                self._changed.notify_all()

    def _note(self, house, study, sample):
        with self._changed:
            self.acknowledged[house.hospital, study][sample.sop_instance_uid] = sample
            self.count += 1
            self._changed.notify_all()

    def ours(self, house, batch, note):
        """Our own requestor, which sends again what was not answered."""
        refused = self._archive.requestor(house).store(batch, note)
        assert not refused, f"nothing was full or wrong, yet refused: {refused}"

    def dcmtk(self, house, batch, note):
        """DCMTK's storescu, started again for what was not answered."""
        waiting = {sample.path: sample for sample in batch}

        def sent():
            for path, status in self._archive.storescu(house, list(waiting)).items():
                assert status == "Success", status
                note(waiting.pop(path))
            return not waiting

        centre.until(sent, f"storescu stores {len(waiting)} files", 60)


def kill(archive, victim, source):
    """End a process of the archive by SIGKILL; after the supervisor, start the role anew."""
    pids = archive.role.pids()
    if victim != "supervisor":
        chosen = centre.children(pids[0], victim)
        if chosen:  # it may wait for its next start
            os.kill(source.choice(chosen).pid, signal.SIGKILL)
        return
    everyone = [psutil.Process(pid) for pid in pids[1:] if psutil.pid_exists(pid)]
    os.kill(pids[0], signal.SIGKILL)
    _, alive = psutil.wait_procs(everyone, GONE_S)
    assert not alive, f"they outlive their supervisor: {alive}"
    centre.until(lambda: archive.role.ended() is not None, "the supervisor is dead")
    archive.role.start()


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
        load = Load(archive, folder)
        for root, house in enumerate(archive.houses, 1):
            for number, by in enumerate((load.ours, load.ours, load.dcmtk), 1):
                load.start(house, f"1.2.3.{root}.{number}", by)
        try:
            victims = []
            for _ in range(KILLS):
                if not victims:
                    victims = source.sample(VICTIMS, len(VICTIMS))
                load.await_more(source.randint(1, MOST_ACKNOWLEDGED))
                threading.Event().wait(source.uniform(0, LATEST_S))
                kill(archive, victims.pop(), source)
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
        _, alive = psutil.wait_procs(everyone, GONE_S)
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
    _, alive = psutil.wait_procs(everyone, GONE_S)
    assert not alive
    assert "Traceback" not in (tmp_path / "output").read_text()
