"""Both rescue programs as a stranger runs them: without HARMONI, each on its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harmoni import rescue

SOURCE = Path(rescue.__file__).parent
LONGEST_S = 100
# The interpreter of the tests has HARMONI installed; whoever imports it here fails.
ALONE = (
    "import runpy, sys; sys.modules['harmoni'] = None; sys.argv = sys.argv[1:];"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
# A child begins with the peak of its parent, so that the parent must be small.
MEASURED = (
    "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ);"
    "_, status, usage = os.wait4(pid, 0); print(usage.ru_maxrss);"
    "sys.exit(os.waitstatus_to_exitcode(status))"
)


@dataclass(frozen=True)
class Answer:
    code: int
    lines: list[str]
    errors: str


def command(name: str) -> list[str]:
    """What is typed before the options."""
    if name == "rescue.py":
        return [sys.executable, "-I", "-c", ALONE, str(SOURCE / name)]
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: run `make peers`")
        pytest.skip("node is missing: rescue.mjs is not run; run `make peers`")
    return [node, str(SOURCE / name)]


def runner(name: str, folder: Path) -> Callable[..., Answer]:
    """A function that runs one of the programs and tells how it went."""
    before = command(name)

    def run(*arguments: object) -> Answer:
        done = subprocess.run(
            [*before, *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode().splitlines(), done.stderr.decode())

    return run


def peak_kib(name: str, *arguments: object) -> int:
    """The most memory that a run takes; it must end with 0."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURED, *command(name), *map(str, arguments)],
        capture_output=True,
        timeout=LONGEST_S,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def datasets(folder: Path) -> Sequence[bytes]:
    """The datasets of all .dcm files, without preamble and file meta (PS3.10 7.1), sorted."""
    found = []
    for path in folder.glob("*.dcm"):
        data = path.read_bytes()
        assert data[128:132] == b"DICM"
        found.append(data[144 + int.from_bytes(data[140:144], "little") :])
    return sorted(found)
