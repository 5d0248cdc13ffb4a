"""A pack between its creation and its lock looks like one whose writer died; the keeper must not
take it away from the worker that makes it."""

import random

import centre
from system_calls import STRACE, attached

# The worker's every lock comes so late that the keeper, who looks every second, is there first.
LATE_LOCK = ("-e", "inject=flock:delay_enter=1500000")


def test_a_keeper_that_is_faster_than_the_lock_takes_no_pack_away(peer, tmp_path):
    peer(STRACE)
    (tmp_path / "files").mkdir()
    source = random.Random("lock")
    earlier = centre.write_instances(tmp_path / "files", "1.2.2", [500], source)
    wanted = centre.write_instances(tmp_path / "files", "1.2.3", [500], source)
    with centre.running(tmp_path / "centre", settings=["archive.workers=1"]) as archive:
        (house,) = archive.houses
        (worker,) = centre.children(archive.role.pids()[0], "worker")
        # The first opens the index, which takes locks of its own.
        assert archive.store(house, earlier) == [0]
        with attached(worker.pid, tmp_path / "trace", ["flock"], *LATE_LOCK) as trace:
            statuses = archive.store(house, wanted)
        assert any("/open/" in path for call in trace.calls for path in call.paths)
        assert statuses == [0]
        archive.await_seals()
        got = archive.requestor(house).get("1.2.3", wanted)
        assert [got[sample.sop_instance_uid].sha256 for sample in wanted] == [
            sample.sha256 for sample in wanted
        ]
