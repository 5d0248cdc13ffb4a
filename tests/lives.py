"""Lives of a process on a disk of our own: a call fails, work goes on, the power is cut.

`each_call_fails` plays the same life for every call that it makes, and lets another process look
at what is left.
"""

import os
import pickle
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

from harmoni.backends.filesystem import Filesystem
from volatile_disk import Disk

Live = Callable[[Path], Generator[int, None, object]]
"""Works below a folder; yields, once, how often it was refused, and goes on without the fault;
returns what it was told."""
Look = Callable[[Path, object], None]
"""Looks, in another life after the power cut, whether what was told is true."""


def each_call_fails(
    disk: Disk,
    fault: str,
    live: Live,
    look: Look,
    *,
    prepare: Callable[[Path], None] = lambda _: None,
    below: str = "",
    every: int = 1,
) -> None:
    """Let the first call fail in one life, another in the next, and so on to the last.

    Args:
        disk: where; each life has a folder of its own.
        fault: how they fail, see `Disk.fail`.
        live: the life.
        look: looks at what it leaves.
        prepare: leaves in the folder what a life begins with.
        below: the folder whose calls fail, such as "/index".
        every: leave out all but every so many.
    """

    def life(fails_at: int) -> tuple[int, int, str]:
        root = disk.path / f"{fault}-{fails_at}"
        Filesystem(disk.path).make_directory(root.name)
        _in_child(lambda: prepare(root))
        disk.fail(fails_at, fault, f"/{root.name}{below}")
        told, refused, calls, failed = _in_child(lambda: _to_the_end(disk, live(root)))
        disk.cut(fails_at, 0.0)
        try:
            _in_child(lambda: look(root, told))
        except AssertionError as error:
            error.add_note(f"what failed: {failed}")
            raise
        return refused, calls, failed

    refused, calls, failed = life(0)
    assert (refused, failed) == (0, "-")
    told = 0
    for fails_at in range(1, calls + 1, every):
        try:
            refused, _, _ = life(fails_at)
        except BaseException as error:
            error.add_note(f"{fault}: call {fails_at} of {calls}")
            raise
        told += bool(refused)
    assert told
    print(  # noqa: T201 - the measured figure
        f"{fault}: every {every}th of {calls} calls failed once; somebody was told {told} times"
    )


def _to_the_end(disk: Disk, life: Generator[int, None, object]) -> tuple[object, int, int, str]:
    """What it was told, how often it was refused, how many calls it made, and what failed."""
    refused = next(life)
    calls, failed = disk.count()
    disk.fail(0, "EIO")
    try:
        next(life)
    except StopIteration as end:
        return end.value, refused, calls, failed
    raise AssertionError("a life yields once")


def _in_child(act: Callable[[], object]) -> object:
    """What an act gives in a process that ends without closing anything."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = ("gives", act())
        except BaseException:  # noqa: BLE001 - the parent raises it
            told = ("raises", traceback.format_exc())
        os.write(writing, pickle.dumps(told))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert said, f"the process ended with {status}"
    outcome, told = pickle.loads(said)
    assert outcome == "gives", told
    return told
