"""What `runtime.limits` gives up for good is given up in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("limits.raise_open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]", "True"),
        ("(limits.forbid_core_dumps(), resource.getrlimit(resource.RLIMIT_CORE))[1]", "(0, 0)"),
        ("limits.yield_to_workers() - before", "10"),
    ],
)
def test_the_process_has_what_it_asked_for(act, expected):
    script = (
        "import os, resource\nfrom harmoni.runtime import limits\n"
        f"before = os.nice(0)\nprint({act})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == expected
