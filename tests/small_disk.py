"""A small file system of its own for a directory, which fills up, and what fills it."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


@contextmanager
def mounted(path: Path, size_mib: int) -> Iterator[Path]:
    """A file system of that size at a directory, made if need be; only root can mount it."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("a small disk needs root to be mounted")
        pytest.skip("a small disk needs root to be mounted")
    path.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size_mib}m", "harmoni-test", str(path)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@contextmanager
def filled(disk: Path, leave_bytes: int) -> Iterator[None]:
    """Somebody else's file leaves so many bytes of a file system, until the block ends.

    A role may write between the look and the filling: then what is left is looked at again.
    """
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        full = False
        while not full:
            state = os.statvfs(disk)
            free_bytes = state.f_bavail * state.f_frsize
            try:
                if free_bytes > leave_bytes:
                    os.posix_fallocate(
                        descriptor, os.fstat(descriptor).st_size, free_bytes - leave_bytes
                    )
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                full = True
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()
