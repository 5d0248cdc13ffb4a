"""Whatever a crash leaves, recovery loses nothing that was acknowledged (R1)."""

import os
import sys

import pytest

from crash import scenario
from crash.harness import explore

SEED = int(os.environ.get("HARMONI_CRASH_SEED", "1"))
# In all, over every scenario; `make soak` asks for ten times as many.
STATES = int(os.environ.get("HARMONI_CRASH_STATES", "2000"))
_SHARES = {"receive and seal": 0.5, "rebuild": 0.25, "let go": 0.25}


@pytest.mark.parametrize("name", scenario.SCENARIOS)
def test_after_a_crash_at_any_point_recovery_loses_nothing_that_was_acknowledged(name, capsys):
    wanted = int(STATES * _SHARES[name])
    explored = explore(name, wanted, seed=SEED, stop_at=5)
    with capsys.disabled():
        sys.stdout.write(f"\n{explored.report(name)}\n")

    assert explored.violations == []
    assert explored.states >= wanted
