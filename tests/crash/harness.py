"""One scenario through the harness: played, its states enumerated, each recovered and looked at."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pytest

import house as houses
from crash import scenario
from crash.invariants import Examiner
from crash.look import Violated
from crash.second_crash import recovery_of
from crash.states import States
from crash.work import Run
from harmoni.sealing import bech32
from harmoni.vault.layout import Layout

_MEMORY = Path("/dev/shm")
_SPREAD = 17
"""Of so many first crashes one is followed by a second, so that they lie all over the run."""


@dataclass(slots=True)
class Explored:
    """What came of it."""

    states: int
    by_phase: Counter[str]
    seconds: float
    violations: list[str] = field(default_factory=list)

    def report(self, name: str) -> str:
        """One line, and one for each phase."""
        head = f"{name}: {self.states} distinct states, {self.states / self.seconds:.1f}/s"
        return "\n".join([head, *(f"    {phase}: {n}" for phase, n in self.by_phase.items())])


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one; a state is written and removed within milliseconds."""
    where = _MEMORY if _MEMORY.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="harmoni-crash-", dir=where))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def explore(
    name: str,
    wanted: int,
    *,
    seed: int,
    stop_at: int = 1,
    planted: Callable[[pytest.MonkeyPatch], None] | None = None,
    stays: bool = False,
) -> Explored:
    """Look at so many distinct states of a scenario, or until so many violations are found.

    Args:
        name: which scenario.
        wanted: how many distinct states.
        seed: decides every choice by chance.
        stop_at: how many violations are enough.
        planted: changes the product while the scenario is played.
        stays: and when it recovers as well.
    """
    with scratch() as root, pytest.MonkeyPatch.context() as patched:
        if planted is not None:
            planted(patched)
        run = scenario.play(name, root / "run", seed)
        if not stays:
            patched.undo()
        return _examined(run, root / "state", wanted, seed, stop_at)


def explore_recovery(name: str, firsts: int, each: int, *, seed: int) -> Explored:
    """Crash a scenario at so many places, and the recovery from each again, in so many states."""
    total = Explored(0, Counter(), 0.0)
    with scratch() as root:
        run = scenario.play(name, root / "run", seed)
        states = States(run.journal, Layout(houses.HOSPITAL).current_index, seed)
        found = islice(states.some(firsts * _SPREAD), 0, None, _SPREAD)
        for number, state in enumerate(found):
            second = recovery_of(run, state, root / "second", seed + 1 + number)
            shutil.rmtree(root / "second")
            if second is None:
                continue
            explored = _examined(second, root / "state", each, seed, 1)
            total.states += explored.states
            total.by_phase += explored.by_phase
            total.seconds += explored.seconds
            total.violations += [f"{said}, after {state.how}" for said in explored.violations]
    return total


def _examined(run: Run, root: Path, wanted: int, seed: int, stop_at: int) -> Explored:
    states = States(run.journal, Layout(houses.HOSPITAL).current_index, seed)
    examiner = Examiner(run, root)
    violations: list[str] = []
    began = time.monotonic()
    # Every state has the same recipients: decoding them is a tenth of its time.
    with patch.object(bech32, "decode", lru_cache(bech32.decode)):
        for state in states.some(wanted):
            try:
                examiner.examine(state)
            except Violated as violation:
                violations.append(f"{violation}, seed {seed}")
                if len(violations) >= stop_at:
                    break
    return Explored(states.distinct, states.by_phase, time.monotonic() - began, violations)
