"""How much memory a process takes, as the kernel counts it (proc_pid_status(5))."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 0.02
_FORGET_PEAK = "5"


@dataclass
class Peak:
    """The most that a process had, in bytes; both are known once the block has ended."""

    resident_bytes: int = 0
    """With the pages of files that it maps, programs and index, which the kernel may take back."""
    anonymous_bytes: int = 0
    """Its own memory alone, looked at fifty times a second."""


@contextmanager
def peak(pid: int) -> Iterator[Peak]:
    """The most memory that a process has during the block."""
    proc, found, over = Path(f"/proc/{pid}"), Peak(), threading.Event()

    def sized(name: str) -> int:
        lines = (proc / "status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith(f"{name}:")]
        return int(line.split()[1]) << 10

    def look() -> None:
        while not over.wait(_LOOK_S):
            found.anonymous_bytes = max(found.anonymous_bytes, sized("RssAnon"))

    (proc / "clear_refs").write_text(_FORGET_PEAK)
    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield found
    finally:
        over.set()
        watch.join()
    found.resident_bytes = sized("VmHWM")
