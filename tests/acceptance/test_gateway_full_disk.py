"""A gateway at a full disk (R10): it refuses politely, loses nothing, and recovers by itself.

What was let go of before is relayed from the centre without room for a copy. Then the centre is
away until the disk is full to the reserve, and below it. Nobody restarts anything, nor lets go of
anything by hand, until the senders are accepted again.
"""

import random

import pytest

import centre as archives
import small_disk
import whole
from harmoni.dicom import uids
from harmoni.dicom.identifier import QueryLevel
from harmoni.dicom.status import Status
from harmoni.index import lookup
from small_disk import MIB

STUDIES = ("1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4")
FULL = int(Status.OUT_OF_RESOURCES)
RECOVERED_S = 150.0


def store(running, samples):
    """Store at the gateway: what was taken; everything else must have been refused by A700."""
    taken = []
    refused = running.requestor().store(samples, taken.append)
    assert all("A700" in why for why in refused.values()), set(refused.values())
    return taken


def of_study(samples, study):
    return [each for each in samples if each.sop_instance_uid.startswith(f"{study}.")]


def echo(running):
    with running.associated([(uids.VERIFICATION, [uids.IMPLICIT_VR_LITTLE_ENDIAN])]) as pacs:
        return pacs.send_c_echo().Status


def copies(running, samples):
    """How many copies the gateway has, or had, of instances."""
    with running.beside().own.index.reader() as connection:
        found = [lookup.versions(connection, each.sop_instance_uid) for each in samples]
    return sum(map(len, found))


def hashes(samples):
    return {each.sop_instance_uid: each.sha256 for each in samples}


@pytest.mark.timeout(300)
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
        with small_disk.filled(data, 4 * MIB):  # letting go by hand works below the reserve
            running.evict_all()
        with small_disk.filled(data, 0):  # by somebody else, who takes the reserve as well
            assert store(running, wanted[13:14]) == []
            assert echo(running) == 0
            archives.until(
                lambda: running.ask(QueryLevel.STUDY, {0x0020_000D: STUDIES[0]})[0] == FULL,
                "no query is answered that cannot be audited",
            )
        with small_disk.filled(data, 4 * MIB):
            relayed = running.requestor().get(STUDIES[0], evicted)
            assert {uid: each.sha256 for uid, each in relayed.items()} == hashes(evicted)
            assert copies(running, evicted) == len(evicted)  # the stubs, and nothing else
        running.archive.stop()

        kept = evicted + store(running, wanted[13:])
        rest = [each for each in wanted if each not in kept]
        assert rest
        config = str(running.house().config_path)
        with small_disk.filled(data, 4 * MIB):
            assert store(running, rest[-1:]) == []
            assert store(running, kept[-1:]) == kept[-1:]  # it is held already
            assert echo(running) == 0
            for study in STUDIES:
                assert set(running.instances(study)) == set(hashes(of_study(kept, study)))
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
