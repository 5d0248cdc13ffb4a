"""Whatever a crash leaves, recovery loses nothing that was acknowledged (R1)."""

import os
import sys

import pytest

from crash import scenario
from crash.harness import explore, explore_recovery

SEED = int(os.environ.get("HARMONI_CRASH_SEED", "1"))
# In all, over every scenario; `make soak` asks for ten times as many.
STATES = int(os.environ.get("HARMONI_CRASH_STATES", "2000"))
_SHARES = {"receive and seal": 0.5, "rebuild": 0.25, "let go": 0.25}
_SECOND = 25
"""States of each recovery that is crashed."""


@pytest.mark.parametrize("name", scenario.SCENARIOS)
def test_after_a_crash_at_any_point_recovery_loses_nothing_that_was_acknowledged(name, capsys):
    wanted = int(STATES * _SHARES[name])
    explored = explore(name, wanted, seed=SEED, stop_at=5)
    with capsys.disabled():
        sys.stdout.write(f"\n{explored.report(name)}\n")

    assert explored.violations == []
    assert explored.states >= wanted


@pytest.mark.parametrize("name", scenario.SCENARIOS)
def test_a_crash_during_the_recovery_from_a_crash_loses_nothing_either(name, capsys):
    firsts = int(STATES * _SHARES[name] / 5) // _SECOND
    explored = explore_recovery(name, firsts, _SECOND, seed=SEED)
    with capsys.disabled():
        sys.stdout.write(f"\n{explored.report(f'recovery of {name}')}\n")

    assert explored.violations == []
    assert explored.states >= firsts * _SECOND / 2
