"""A gateway whose disk fails under it: refused, fenced, salvaged, forwarded.

The whole role runs on a disk that a test can let fail (tests/volatile_disk.py), with a real centre.
"""

import random

import pytest

import centre as archives
import volatile_disk
import whole
from harmoni.index import lookup
from harmoni.model.identifiers import PackId

FAULTS = ("flush", "half")


def store(running, samples):
    """Store one after another; which were taken. Every other one was refused by A700."""
    taken = []
    refused = running.requestor().store(samples, taken.append)
    assert all("A700" in why for why in refused.values()), set(refused.values())
    return taken


def packs_of(running, samples):
    """In which packs the gateway has instances."""
    with running.beside().own.index.reader() as connection:
        return {
            held.location.pack_id
            for sample in samples
            for held in lookup.versions(connection, sample.sop_instance_uid)
        }


@pytest.mark.timeout(240)
def test_what_a_failing_disk_took_is_salvaged_and_reaches_the_centre(tmp_path):
    (tmp_path / "files").mkdir()
    data = tmp_path / "all" / "hospital-a" / "gateway" / "data"
    data.mkdir(parents=True)
    with (
        volatile_disk.mounted(data) as disk,
        whole.running(
            tmp_path / "all", seal_after_s=1.0, settings=["gateway.workers=1"]
        ) as running,
    ):
        running.archive.stop()
        kept = {}
        for number, fault in enumerate(FAULTS, 1):
            study = f"1.2.3.{number}"
            samples = archives.write_instances(
                tmp_path / "files", study, [30_000] * 6, random.Random(study)
            )
            assert store(running, samples[:3]) == samples[:3]
            pack = max(data.glob("packs/*/open/*.tar"))
            disk.fail(1, fault, f"/{pack.relative_to(data)}")
            assert store(running, samples[3:4]) == []
            assert disk.count()[1].endswith(pack.name)
            disk.fail(0, fault)
            assert store(running, samples[3:]) == samples[3:]
            kept[study] = samples
            archives.until(lambda gone=pack: not gone.exists(), "the fenced pack is salvaged")
            assert packs_of(running, samples[:3]) == {PackId(pack.stem).successor()}
        running.archive.start()
        running.await_committed()
        at_centre = running.site.requestor(running.house())
        for study, samples in kept.items():
            got = at_centre.get(study, samples)
            assert [got[each.sop_instance_uid].sha256 for each in samples] == [
                each.sha256 for each in samples
            ]
        running.rebuild()
        assert "Traceback" not in running.log()
