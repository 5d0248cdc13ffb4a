"""A full data disk: senders are told, nothing acknowledged is lost, and space is enough."""

import errno
import os
import random
import subprocess

import pytest

import centre
from harmoni.dicom.identifier import QueryLevel
from harmoni.dicom.status import Status

STUDY = "1.2.3.4"
DISK_MIB = 64
MIB = 1 << 20
SIZES = [800_000, 5 << 20, 30_000]
FULL = int(Status.OUT_OF_RESOURCES)


@pytest.fixture
def small_disk(tmp_path):
    """A data directory on a file system of its own, which only root can make."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("a small disk needs root to be mounted")
        pytest.skip("a small disk needs root to be mounted")
    data = tmp_path / "centre" / "dc1" / "data"
    data.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "harmoni-test", str(data)]
    subprocess.run(["mount", *options], check=True)
    yield data
    subprocess.run(["umount", str(data)], check=True)


def fill(ballast, leave_bytes):
    """Write a file that leaves so many bytes of its file system.

    The archive may write between the look and the filling: then what is left is looked at again.
    """
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        filled = False
        while not filled:
            state = os.statvfs(ballast.parent)
            try:
                os.posix_fallocate(descriptor, 0, state.f_bavail * state.f_frsize - leave_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                filled = True
    finally:
        os.close(descriptor)


def check(archive, house, kept):
    """Every acknowledged instance is found once and comes back identical."""
    assert sorted(archive.instances(house, STUDY)) == sorted(
        sample.sop_instance_uid for sample in kept
    )
    got = archive.requestor(house).get(STUDY, kept)
    assert [got[sample.sop_instance_uid].sha256 for sample in kept] == [
        sample.sha256 for sample in kept
    ]


@pytest.mark.parametrize("leave_bytes", [8 * MIB, 0], ids=["filled by senders", "filled by others"])
def test_a_full_disk_refuses_politely_and_recovers_by_space_alone(
    small_disk, tmp_path, leave_bytes
):
    source = random.Random("full")
    (tmp_path / "files").mkdir()
    wanted = centre.write_instances(tmp_path / "files", STUDY, SIZES * 6, source)
    ballast = small_disk / "ballast"
    with centre.running(tmp_path / "centre", settings=["archive.workers=1"]) as archive:
        (house,) = archive.houses
        assert archive.store(house, wanted[:3]) == [0, 0, 0]
        fill(ballast, leave_bytes)
        statuses = archive.store(house, wanted[3:])
        assert FULL in statuses
        assert set(statuses) <= {0, FULL}
        kept = wanted[:3] + [
            sample for sample, status in zip(wanted[3:], statuses, strict=True) if status == 0
        ]
        assert archive.echo(house) == 0
        if leave_bytes:  # a query is answered only if it can be audited
            assert len(archive.find(house, QueryLevel.STUDY, {0x0020_000D: STUDY})) == 1
            check(archive, house, kept)
        else:
            centre.until(
                lambda: archive.ask(house, QueryLevel.STUDY, {0x0020_000D: STUDY})[0] == FULL,
                "no query is answered that cannot be audited",
            )

        ballast.unlink()
        check(archive, house, kept)
        again = [sample for sample in wanted if sample not in kept]
        assert set(archive.store(house, again)) == {0}
        check(archive, house, wanted)
        archive.await_seals()
        archive.rebuild(house)
        check(archive, house, wanted)
