"""P1 to P6: how fast instances are taken in, beside the peers, in one run on one machine.

    python bench/ingest.py [--runs 5] [--scale 1.0] [--only P1 ...]

The sender is DCMTK's storescu. Each receiver begins with nothing. Prints JSON: medians of the
seconds to the last answer, and of the receiver's CPU seconds to that and, of HARMONI, until all is
sealed.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import loads
import receivers
import turns
from loads import CT, SMALL, Load
from turns import Medians

_PEERS: Final = ("storescp", "orthanc", "pynetdicom", "dcmqrscp")
SCENARIOS: Final[Mapping[str, tuple[Load, tuple[str, ...]]]] = {
    "P1 CT": (CT, ("harmoni", *_PEERS)),
    # Not dcmqrscp: its time for each grows with what it has, to half a minute for all.
    "P2 small": (SMALL, ("harmoni", *_PEERS[:-1])),
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


def measured(load: Load, names: tuple[str, ...], runs: int, scale: float) -> dict[str, Medians]:
    """Medians of every receiver for one load."""
    scaled = load.scaled(scale)
    with receivers.running({name: receivers.KINDS[name] for name in names}) as running:
        acts = {
            name: partial(loads.measure, receiver, scaled) for name, receiver in running.items()
        }
        found = turns.take(acts, runs)
    return {name: loads.medians(each, scaled) for name, each in found.items()}


if __name__ == "__main__":
    turns.main(__doc__, {name: partial(measured, *each) for name, each in SCENARIOS.items()})
