"""What a gateway acknowledged reaches its centre through `kill -9` of any process, at any moment.

`HARMONI_KILLS` says how many kills, `HARMONI_SEED` repeats a run.
"""

import os
import random
import threading

import pytest

import centre as archives
import whole
from load import Load, ours

KILLS = int(os.environ.get("HARMONI_KILLS", "7"))
SEED = os.environ.get("HARMONI_SEED") or str(random.SystemRandom().getrandbits(32))
VICTIMS = (
    *(("gateway", kind) for kind in ("worker", "keeper", "forwarder", "supervisor")),
    *(("archive", kind) for kind in ("worker", "keeper", "supervisor")),
)
SENDERS = 3
MOST_ACKNOWLEDGED = 25  # between two kills
LATEST_S = 0.1


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
        running.await_committed(deadline_s=90)
        running.evict_all()
        for (_, study), kept in load.acknowledged.items():
            assert_kept(running, study, kept)
        running.await_committed()
        running.rebuild()
        running.site.rebuild(running.house())
        for (_, study), kept in load.acknowledged.items():
            assert_kept(running, study, kept)
        assert "Traceback" not in running.log() + running.site.log
