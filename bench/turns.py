"""What every comparison does: receivers take turns run by run, and medians are printed as JSON.

So what else the machine does meets all of them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

Medians = dict[str, float]
Scenario = Callable[[int, float], Mapping[str, Medians]]
"""Measures one comparison, of so many runs and so much of its load: medians by receiver."""
_Result = TypeVar("_Result")


def take(acts: Mapping[str, Callable[[int], _Result]], runs: int) -> dict[str, list[_Result]]:
    """Let every act have its turn in each run; it is given the run's number, from 0."""
    found: dict[str, list[_Result]] = {name: [] for name in acts}
    for run in range(runs):
        for name, act in acts.items():
            found[name].append(act(run))
    return found


def main(description: str, scenarios: Mapping[str, Scenario]) -> None:
    """Measure the scenarios that the command line asks for, and print."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of instances")
    options.add_argument("--only", nargs="*", default=[""], help="beginnings of names")
    wanted = options.parse_args()
    results = {}
    for name, scenario in scenarios.items():
        if name.startswith(tuple(wanted.only)):
            results[name] = scenario(wanted.runs, wanted.scale)
            sys.stderr.write(f"{name}: {json.dumps(results[name])}\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
