"""A gateway at a full disk (R10): it refuses politely, loses nothing, and recovers by itself.

What was let go of is relayed from the centre without room for a copy.
The centre is away until the disk is full to the reserve. Nobody restarts anything, nor lets go of
anything by hand, until the senders are accepted again.
"""

import random

import pytest

import centre as archives
import small_disk
import whole
from harmoni.dicom import uids
from small_disk import MIB

STUDIES = ("1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4")
RECOVERED_S = 60.0


def store(running, samples):
    """Store at the gateway: what was taken; everything else must have been refused by A700."""
    taken = []
    refused = running.requestor().store(samples, taken.append)
    assert all("A700" in why for why in refused.values()), set(refused.values())
    return taken


def of_study(samples, study):
    return [each for each in samples if each.sop_instance_uid.startswith(f"{study}.")]


def hashes(samples):
    return {each.sop_instance_uid: each.sha256 for each in samples}


@pytest.mark.timeout(240)
def test_a_full_gateway_refuses_politely_loses_nothing_and_recovers_by_itself(tmp_path):
    (tmp_path / "files").mkdir()
    source = random.Random("full gateway")
    wanted = [
        sample
        for study in STUDIES
        for sample in archives.write_instances(
            tmp_path / "files", study, [5 << 20] + [900_000] * 12, source
        )
    ]
    settings = ["gateway.workers=1", f"gateway.reserve_bytes={8 * MIB}"]
    data = tmp_path / "all" / "hospital-a" / "gateway" / "data"
    with (
        small_disk.mounted(data, 44),
        whole.running(tmp_path / "all", settings=settings) as running,
    ):
        evicted = store(running, wanted[:13])
        running.await_committed()
        running.evict_all()
        with small_disk.filled(data, 4 * MIB):
            before = {path: path.stat().st_size for path in data.glob("packs/*/*/**/*.tar")}
            relayed = running.requestor().get(STUDIES[0], evicted)
            assert {uid: each.sha256 for uid, each in relayed.items()} == hashes(evicted)
            assert {path: path.stat().st_size for path in data.glob("packs/*/*/**/*.tar")} == before
        running.archive.stop()

        kept = evicted + store(running, wanted[13:])
        rest = [each for each in wanted if each not in kept]
        assert rest
        config = str(running.house().config_path)
        with (
            small_disk.filled(data, 4 * MIB),
            running.associated([(uids.VERIFICATION, [uids.IMPLICIT_VR_LITTLE_ENDIAN])]) as pacs,
        ):
            assert store(running, rest[-1:]) == []
            assert store(running, kept[-1:]) == kept[-1:]  # it is held already
            assert pacs.send_c_echo().Status == 0
            for study in STUDIES:
                assert set(running.instances(study)) == {
                    each.sop_instance_uid for each in of_study(kept, study)
                }
            told = archives.harmoni("status", "--config", config)
            assert "reserve" in told.stdout, told
            assert archives.harmoni("gateway", "evict", "--config", config).returncode == 0

        running.archive.start()

        def taken() -> bool:
            for each in store(running, rest):
                rest.remove(each)
            return not rest

        archives.until(taken, "the senders are accepted again", RECOVERED_S)
        running.await_committed()
        at_centre = running.site.requestor(running.house())
        for study in STUDIES:
            sent = of_study(wanted, study)
            got = at_centre.get(study, sent)
            assert {uid: each.sha256 for uid, each in got.items()} == hashes(sent)
