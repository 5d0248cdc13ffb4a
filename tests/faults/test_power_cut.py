"""What was acknowledged survives a power cut: every byte that was not flushed is gone.

The whole archive role runs on a disk that loses what was not flushed (tests/volatile_disk.py), the
index's database included. While hospitals send, the power fails; the role is started on what is
left. `HARMONI_POWER_CUTS` says how many times, `HARMONI_SEED` repeats a run.
"""

import os
import random
import signal

import psutil
import pytest

import centre
import volatile_disk
from load import Load, ours

CUTS = int(os.environ.get("HARMONI_POWER_CUTS", "2"))
SEED = os.environ.get("HARMONI_SEED") or str(random.SystemRandom().getrandbits(32))
# How much of what was not flushed has reached the disk all the same.
KEPT = (0.0, 0.0, 0.5, 0.9)
MOST_ACKNOWLEDGED = 30  # between two cuts
MOST_CALLS = 300  # of the disk, from then on: some 20 an instance


@pytest.fixture
def disk(tmp_path):
    data = tmp_path / "centre" / "dc1" / "data"
    data.mkdir(parents=True)
    with volatile_disk.mounted(data) as mounted:
        yield mounted


def cut_power(disk, role, after_calls, kept):
    """Stop everything between two calls of the disk, and start the role on what is left of it."""
    disk.fall_silent(after_calls)
    everyone = [psutil.Process(pid) for pid in role.pids()]
    for process in everyone:
        process.send_signal(signal.SIGKILL)
    disk.abort()
    _, alive = psutil.wait_procs(everyone, centre.GONE_S)
    assert not alive, f"they outlive their disk: {alive}"
    centre.until(lambda: role.ended() is not None, "the supervisor is dead")
    disk.cut(SEED, kept)
    role.start()


def await_packs(archive):
    """Wait until every pack is finished: so what has lost its row in the index is found again."""

    def all_finished():
        return not [name for name in archive.left_open() if name.endswith(".tar")]

    centre.until(all_finished, "packs finished")


def lost(archive, load):
    """Which of the acknowledged instances are not found, or do not come back identical."""
    wrong = []
    for (hospital, study), kept in load.acknowledged.items():
        (house,) = [house for house in archive.houses if house.hospital == hospital]
        assert sorted(archive.instances(house, study)) == sorted(kept)
        got = archive.requestor(house).get(study, list(kept.values()))
        wrong += [
            uid
            for uid, sample in kept.items()
            if uid not in got or got[uid].sha256 != sample.sha256
        ]
    return wrong


@pytest.mark.timeout(120 + 30 * CUTS)
def test_nothing_that_was_acknowledged_is_lost_by_power_cuts(disk, tmp_path):
    source = random.Random(SEED)
    folder = tmp_path / "files"
    folder.mkdir()
    print(f"HARMONI_SEED={SEED} HARMONI_POWER_CUTS={CUTS}")  # noqa: T201 - shown on failure
    with centre.running(tmp_path / "centre", hospitals=2, seal_after_s=0.5) as archive:
        own = ours(archive.requestor)
        loads = []
        for number in range(CUTS):
            load = Load(folder)
            loads.append(load)
            for root, house in enumerate(archive.houses, 1):
                for sender in (1, 2):
                    load.start(house, f"1.2.3.{root}.{number + 1}.{sender}", own)
            try:
                load.await_more(source.randint(1, MOST_ACKNOWLEDGED))
                kept = source.choice(KEPT)
                for _ in range(source.choice((1, 1, 2))):  # the second while it still recovers
                    cut_power(disk, archive.role, source.randint(0, MOST_CALLS), kept)
            finally:
                load.end()
            await_packs(archive)
            assert lost(archive, load) == [], f"cut {number + 1}, {kept} of the unflushed kept"
        for house in archive.houses:
            archive.rebuild(house)
        for load in loads:
            assert lost(archive, load) == []
        assert '"damaged": 0' in archive.log
        assert not [line for line in archive.log.splitlines() if "Traceback" in line]
