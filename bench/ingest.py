"""P1 to P6: how fast instances are taken in, beside the peers, in one run on one machine.

    python bench/ingest.py [--runs 5] [--scale 1.0] [--only P1 ...]

The sender is DCMTK's storescu. Each receiver begins with nothing, and the receivers take turns run
by run, so that what else the machine does meets all of them. Prints JSON: medians of the seconds to
the last answer, and of the receiver's CPU seconds to that and, of HARMONI, until all is sealed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import loads
import receivers
from loads import Load, Measured

CT: Final = Load(count=1000, pixels_bytes=512 << 10)
SMALL: Final = Load(count=2000, pixels_bytes=16 << 10)
_PEERS: Final = ("storescp", "orthanc", "pynetdicom", "dcmqrscp")
SCENARIOS: Final[Mapping[str, tuple[Load, tuple[str, ...]]]] = {
    "P1 CT": (CT, ("harmoni", *_PEERS)),
    "P2 small": (SMALL, ("harmoni", *_PEERS)),
    "P2b studies of one": (replace(SMALL, studies=2000), ("harmoni", "orthanc")),
    "P2b mixed": (replace(SMALL, studies=200, associations=8), ("harmoni", "orthanc")),
    "P3 Nagle CT": (replace(CT, count=200, nagle=True), ("harmoni", "storescp", "orthanc")),
    "P3 Nagle small": (replace(SMALL, count=200, nagle=True), ("harmoni", "storescp", "orthanc")),
    "P5 TLS": (CT, ("harmoni_tls", "harmoni", "storescp_tls")),
    "P6 four associations": (
        replace(CT, associations=4, studies=4),
        ("harmoni_two_workers", "harmoni", "orthanc"),
    ),
}


def measured(load: Load, names: tuple[str, ...], runs: int) -> dict[str, dict[str, float]]:
    """Medians of every receiver for one load."""
    found: dict[str, list[Measured]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        running = {}
        for name in names:
            folder = Path(directory) / name
            folder.mkdir()
            running[name] = stack.enter_context(receivers.KINDS[name](folder))
        for run in range(runs):
            for name, receiver in running.items():
                found[name].append(loads.measure(receiver, load, run))
    return {name: loads.medians(each, load) for name, each in found.items()}


def main() -> None:
    """Measure every scenario, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of instances")
    options.add_argument("--only", nargs="*", default=[], help="beginnings of names")
    wanted = options.parse_args()
    results = {}
    for name, (load, names) in SCENARIOS.items():
        if wanted.only and not name.startswith(tuple(wanted.only)):
            continue
        scaled = replace(load, count=max(load.associations, int(load.count * wanted.scale)))
        results[name] = measured(scaled, names, wanted.runs)
        sys.stderr.write(f"{name}: {json.dumps(results[name])}\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
