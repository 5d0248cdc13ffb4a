"""Measure everything, and write bench/results.json and bench/RESULTS.md.

    python bench/run.py [--only PART ...] [--quick]

Each part is a script of this folder that prints JSON. What `--only` leaves out stays as an earlier
run measured it, with that run's commit and time. Measure on a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import report

from harmoni.runtime.clock import SystemClock
from harmoni.sealing.document import time_text

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results.json"
PAGE: Final = HERE / "RESULTS.md"
# A part, and its options for a quick look, whose figures say nothing.
PARTS: Final[Mapping[str, Sequence[str]]] = {
    "ingest": ("--runs", "1", "--scale", "0.05"),
    "query_beside": ("--runs", "1", "--scale", "0.05"),
    "retrieve": ("--runs", "1", "--scale", "0.05"),
    "vault": ("--runs", "1", "--studies", "20"),
    "line": ("--runs", "1", "--scale", "0.05"),
    "memory": ("--size", "64", "--stall", "1", "--instances", "3"),
    "sizes": ("--ct", "20", "--studies", "20"),
    "cold_start": ("--runs", "1", "--studies", "1000", "--open", "20"),
}


def measured(part: str, options: Sequence[str]) -> dict[str, Any]:
    """What a part's script prints."""
    begun_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, HERE / f"{part}.py", *options],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    sys.stderr.write(f"{part}: {time.perf_counter() - begun_s:.0f} s\n")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def machine() -> dict[str, str]:
    """What it is measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{len(names)} x {names[0]}",
        "memory": f"{memory_bytes / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of the peers."""
    commands = {
        "DCMTK": ["/usr/bin/storescp", "--version"],
        "Orthanc": ["/usr/sbin/Orthanc", "--version"],
        "pynetdicom": [sys.executable, "-m", "pip", "show", "pynetdicom"],
    }
    found = {}
    for name, command in commands.items():
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        words = (done.stdout + done.stderr).split()
        found[name] = next((word.lstrip("v") for word in words if word[-1:].isdigit()), "unknown")
    return found


def commit() -> str:
    """Of the tree that is measured, with a mark if it has changes."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure, write."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    options.add_argument("--quick", action="store_true", help="see that it runs; writes nothing")
    wanted = options.parse_args()
    before: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    parts: dict[str, Any] = before.get("parts", {})
    of_commit = commit()
    for part in wanted.only:
        found = measured(part, PARTS[part] if wanted.quick else ())
        parts[part] = {
            "commit": of_commit,
            "at": time_text(SystemClock().now_ms()),
            "results": found,
        }
        if not wanted.quick:
            results = {"machine": machine(), "versions": versions(), "parts": parts}
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            PAGE.write_text(report.page(results))


if __name__ == "__main__":
    main()
