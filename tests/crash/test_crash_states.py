"""Whatever a crash leaves, recovery loses nothing that was acknowledged (R1)."""

import os
import sys

import pytest

from crash import scenario
from crash.harness import explore, explore_recovery

SEED = int(os.environ.get("HARMONI_CRASH_SEED", "1"))
# In all, over every scenario; `make soak` asks for ten times as many.
STATES = int(os.environ.get("HARMONI_CRASH_STATES", "2000"))
# Each within what the scenario has: a run has so many distinct crash states and no more.
_SHARES = {
    "receive and seal": 0.42,
    "rebuild": 0.14,
    "let go": 0.14,
    "scrub and repair": 0.12,
    "rotate keys": 0.1,
    "erase": 0.08,
}
_SECOND = 25
"""States of each recovery that is crashed."""

# However busy the machine is: it is states that are asked for, and not seconds.
pytestmark = pytest.mark.timeout(3600)


def tell(report, capsys):
    """On the terminal at once, and in the captured output, which is all that xdist has (-rP)."""
    sys.stdout.write(report)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")


@pytest.mark.parametrize("name", scenario.SCENARIOS)
def test_after_a_crash_at_any_point_recovery_loses_nothing_that_was_acknowledged(name, capsys):
    wanted = int(STATES * _SHARES[name])
    explored = explore(name, wanted, seed=SEED, stop_at=5)
    tell(explored.report(name), capsys)

    assert explored.violations == []
    assert explored.states >= wanted


@pytest.mark.parametrize("name", scenario.SCENARIOS)
def test_a_crash_during_the_recovery_from_a_crash_loses_nothing_either(name, capsys):
    firsts = max(3, int(STATES * _SHARES[name] / 5) // _SECOND)
    explored = explore_recovery(name, firsts, _SECOND, seed=SEED)
    tell(explored.report(f"recovery of {name}"), capsys)

    assert explored.violations == []
    # Where the first crash came at the end there is little to recover.
    assert explored.states >= firsts * _SECOND / 3
