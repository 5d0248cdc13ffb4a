"""A full disk of the archive: senders are told, nothing acknowledged is lost, space is enough."""

import random

import pytest

import centre
import small_disk
from harmoni.dicom.identifier import QueryLevel
from harmoni.dicom.status import Status
from small_disk import MIB

STUDY = "1.2.3.4"
THE_STUDY = {0x0020_000D: STUDY}
SIZES = [800_000, 5 << 20, 30_000]
FULL = int(Status.OUT_OF_RESOURCES)


def check(archive, house, kept):
    """Every acknowledged instance is found once and comes back identical."""
    assert sorted(archive.instances(house, STUDY)) == sorted(
        sample.sop_instance_uid for sample in kept
    )
    got = archive.requestor(house).get(STUDY, kept)
    assert [got[sample.sop_instance_uid].sha256 for sample in kept] == [
        sample.sha256 for sample in kept
    ]


def told_full(archive, house, wanted):
    """Store where there is no room; what was taken all the same."""
    statuses = archive.store(house, wanted)
    assert FULL in statuses
    assert set(statuses) <= {0, FULL}
    return [sample for sample, status in zip(wanted, statuses, strict=True) if status == 0]


def await_no_answers(archive, house):
    centre.until(
        lambda: archive.ask(house, QueryLevel.STUDY, THE_STUDY)[0] == FULL,
        "no query is answered that cannot be audited",
    )


@pytest.mark.parametrize(
    ("reserve_bytes", "leave_bytes"),
    [(4 * MIB, 10 * MIB), (0, 0)],
    ids=["filled by senders", "filled by others"],
)
def test_a_full_disk_refuses_politely_and_recovers_by_space_alone(
    tmp_path, reserve_bytes, leave_bytes
):
    (tmp_path / "files").mkdir()
    wanted = centre.write_instances(tmp_path / "files", STUDY, SIZES * 6, random.Random("full"))
    settings = ["archive.workers=1", f"archive.reserve_bytes={reserve_bytes}"]
    with (
        small_disk.mounted(tmp_path / "centre" / "dc1" / "data", 64) as disk,
        centre.running(tmp_path / "centre", settings=settings) as archive,
    ):
        (house,) = archive.houses
        assert archive.store(house, wanted[:3]) == [0, 0, 0]
        with small_disk.filled(disk, leave_bytes):
            kept = wanted[:3] + told_full(archive, house, wanted[3:])
            assert archive.echo(house) == 0
            if reserve_bytes:  # what was begun is ended
                check(archive, house, kept)
                archive.await_seals()
                assert archive.store(house, wanted[:1]) == [0]  # it is held already
            else:
                await_no_answers(archive, house)
        check(archive, house, kept)
        again = [sample for sample in wanted if sample not in kept]
        assert set(archive.store(house, again)) == {0}
        check(archive, house, wanted)
        archive.await_seals()
        archive.rebuild(house)
        check(archive, house, wanted)


def test_a_full_disk_of_index_keys_or_audit_refuses_politely_too(tmp_path):
    (tmp_path / "files").mkdir()
    wanted = centre.write_instances(tmp_path / "files", STUDY, [30_000] * 8, random.Random("apart"))
    settings = ["archive.workers=1", f"archive.reserve_bytes={MIB}"]
    data = tmp_path / "centre" / "dc1" / "data"
    with (
        small_disk.mounted(data / "index", 16) as index,
        small_disk.mounted(data / "keys", 16) as keys,
        small_disk.mounted(data / "audit", 16) as audit,
        centre.running(tmp_path / "centre", settings=settings) as archive,
    ):
        (house,) = archive.houses
        assert archive.store(house, wanted[:2]) == [0, 0]
        kept = wanted[:2]
        for disk, more in ((index, wanted[2:4]), (keys, wanted[4:6]), (audit, wanted[6:])):
            with small_disk.filled(disk, MIB // 2):
                assert told_full(archive, house, more) == []
                check(archive, house, kept)
            with small_disk.filled(disk, 0):
                assert told_full(archive, house, more) == []
                assert archive.echo(house) == 0
                if disk == audit:
                    await_no_answers(archive, house)
            assert archive.store(house, more) == [0, 0]
            kept += more
            check(archive, house, kept)
        archive.await_seals()
        archive.rebuild(house)
        check(archive, house, kept)
