"""The wall clock of a running gateway and archive jumps; nothing is lost, reordered or stuck.

Each role's programs take their time from a file that the test writes (tests/wrong_clock); the
machine's clock stays.
"""

import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import centre as archives
import whole
from harmoni.audit import spool
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom.identifier import QueryLevel, compose_query
from harmoni.evidence.seal_log import SealLog
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.vault import custody

HOUR_MS, DAY_MS, YEAR_MS = 3_600_000, 86_400_000, 366 * 86_400_000


def until_year(year):
    """How far it is from now to a year."""
    return int((datetime(year, 1, 2, tzinfo=UTC).timestamp() - time.time()) * 1000)


# The first after a restart; then the roles run on, so that nothing is set right by a start.
JUMPS_MS = {
    "back to 1970": until_year(1970),
    "to what is right": 0,
    "back by an hour": -HOUR_MS,
    "back by a day": -DAY_MS,
    "beyond 2038": until_year(2040),
    "back again": 0,
    "ahead by a year": YEAR_MS,
    "right again": 0,
}


@pytest.fixture
def set_clock(tmp_path, monkeypatch):
    """Sets by how much the clock of every role that is started from now on is wrong."""
    file = tmp_path / "clock"
    file.touch()

    def set_to(wrong_by_ms):
        # In place and always of one length, so that nobody reads half of it.
        with file.open("r+b") as clock:
            clock.write(f"{wrong_by_ms:+032d}".encode())

    set_to(0)
    folder = Path(__file__).parent.parent / "wrong_clock"
    monkeypatch.setenv("HARMONI_TEST_CLOCK", str(file))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return set_to


def of_study(number):
    return compose_query("STUDY", QueryLevel.STUDY, {0x0020_000D: f"1.2.3.{number}"})


def check_seal_log(data):
    """No number is missing, and nothing was sealed before it was opened."""
    [folder] = (data / "log").glob("*/*")
    log = SealLog(Filesystem(data), HospitalId(folder.parent.name), SiteId(folder.name))
    records = [record for _, record in log.records()]
    assert records
    assert all(record.sealed_at_ms >= record.pack_id.time_ms for record in records)


def check_audit(data, key_file):
    """Every spool is whole, and of a writer's spools the later one has the later name."""
    key = custody.audit_key(custody.load(key_file))
    by_writer = {}
    for name in spool.names(Filesystem(data)):
        assert spool.verify(Filesystem(data), name, key).problems == ()
        writer, _, start = name.removesuffix(".spool").rpartition("-")
        by_writer.setdefault(writer, []).append((int(start), (data / name).stat().st_mtime_ns))
    for spools in by_writer.values():
        written = [written_ns for _, written_ns in sorted(spools)]
        assert written == sorted(written)


@pytest.mark.timeout(240)
def test_roles_whose_clock_jumps_lose_nothing_and_nothing_waits_for_ever(tmp_path, set_clock):
    (tmp_path / "files").mkdir()
    set_clock(0)
    with whole.running(tmp_path / "all", settings=["gateway.workers=1"]) as running:
        requestor, wanted = running.requestor(), []
        for number, (jump, wrong_by_ms) in enumerate(JUMPS_MS.items(), 1):
            set_clock(wrong_by_ms)
            if number == 1:
                running.restart()
            study = f"1.2.3.{number}"
            samples = archives.write_instances(
                tmp_path / "files", study, [20_000] * 2, random.Random(study)
            )
            wanted += samples
            assert requestor.store(samples, lambda _: None) == {}, jump
            assert len(running.instances(study)) == 2, jump
        running.await_committed()
        running.evict_all()
        at_centre = running.site.requestor(running.house())
        for number in range(1, len(JUMPS_MS) + 1):
            sent = [each for each in wanted if each.sop_instance_uid.startswith(f"1.2.3.{number}.")]
            got = at_centre.get(f"1.2.3.{number}", sent)
            assert [got[each.sop_instance_uid].sha256 for each in sent] == [
                each.sha256 for each in sent
            ]
        packs = [
            max(held.location.pack_id for held in running.beside().own.plan(of_study(number)))
            for number in range(1, len(JUMPS_MS) + 1)
        ]
        assert packs == sorted(packs)
        running.rebuild()
    gateway, archive = running.house().gateway, running.centre.archive
    check_audit(gateway.gateway.data, gateway.custody.key_file)
    check_audit(archive.archive.data, archive.custody.key_file)
    for data in (gateway.gateway.data, archive.archive.data):
        check_seal_log(data)
