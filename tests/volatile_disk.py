"""A disk whose power can be cut: what was not flushed is lost, with every process that wrote it.

`mounted` puts it at a directory (tests/fuse_server.py serves it, tests/volatile_tree.py says what
is left). To cut the power of running processes: let the disk fall silent, kill them, `cut`. So
nothing happens after the instant at which it fell silent, and no process sees an error first.
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fuse_server

_DEVICE = Path("/dev/fuse")
_ANSWER_S = 60.0


def require() -> None:
    """Skip where nothing can be mounted by FUSE; where CI is set that is a failure."""
    if _DEVICE.exists() and os.geteuid() == 0:
        return
    reason = "NOT TESTED: what a power cut leaves; it takes /dev/fuse, and root to mount"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Disk:
    """The test's side of a mounted disk.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, server: "subprocess.Popen[bytes]") -> None:
        self.path = path
        self._server = server
        self._heard = b""

    def fail(self, call: int, fault: str, below: str = "") -> None:
        """Let one of the following calls fail, and count from 0 again.

        Args:
            call: which, from 1; 0 for none.
            fault: "EIO", of any call; "ENOSPC", of those that change something; "half": a write
                stops half way, and the next finds no space; "flush": a flush fails. What a flush
                that failed was to flush never reaches the disk. Only such calls are counted.
            below: only calls on what lies in this folder count.
        """
        self._tell(f"fail {call} {fault} {below or '.'}")

    def count(self) -> tuple[int, str]:
        """How many calls there were since `fail`, and "<call>:<path>" of what failed or "-"."""
        calls, failed = self._tell("count").split()
        return int(calls), failed

    def fall_silent(self, after_calls: int) -> None:
        """Answer so many more calls only, and return when the next one has come."""
        self._tell(f"silent {after_calls}")
        assert self.hear() == "silent"

    def abort(self) -> None:
        """End the waiting of everybody for a silent disk, with an error: for those killed."""
        self._tell("abort")

    def cut(self, seed: object, kept: float) -> None:
        """Lose what was not flushed, and mount what is left.

        Args:
            seed: repeats a choice.
            kept: the chance of each unflushed sector and name to have reached the disk.
        """
        self._tell(f"cut {seed} {kept}")

    def hear(self) -> str:
        """The next line that the disk says."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._server.stdout], [], [], _ANSWER_S)
            assert ready, "the disk says nothing"
            more = os.read(self._server.stdout.fileno(), 1 << 12)
            assert more, "the disk's server has ended"
            self._heard += more
        line, self._heard = self._heard.split(b"\n", 1)
        return line.decode()

    def _tell(self, command: str) -> str:
        self._server.stdin.write(command.encode() + b"\n")
        self._server.stdin.flush()
        answer = self.hear()
        # It may have fallen silent before it was told what to do next.
        return answer if answer != "silent" else self.hear()


@contextmanager
def mounted(path: Path) -> Iterator[Disk]:
    """An empty disk at an existing directory for the length of a with block."""
    require()
    with subprocess.Popen(
        [sys.executable, fuse_server.__file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        disk = Disk(path, server)
        try:
            assert disk.hear() == "mounted"
            yield disk
        finally:
            server.stdin.close()
            server.wait(_ANSWER_S)
