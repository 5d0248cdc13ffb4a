"""P10: how fast an index is rebuilt from the packs, and how fast packs are scrubbed.

    python bench/vault.py [--studies 400] [--instances 50] [--runs 5]

Instances of 16 KiB, one pack per study. Prints JSON: medians, and CPU seconds too.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import house as houses
from harmoni.index.scrubbing import Due

_PIXELS_BYTES = 16 << 10
_EVERYTHING = 1 << 60


def fill(house: houses.House, studies: int, instances: int) -> None:
    """Store and seal so many studies of so many instances."""
    pixels = os.urandom(_PIXELS_BYTES)
    for study in range(studies):
        uid = f"1.2.826.0.1.3680043.10.9.{study}"
        for number in range(instances):
            data = houses.data_set(
                study * instances + number, study=uid, series=f"{uid}.{number // 50}", pixels=pixels
            )
            house.store(data, study * instances + number)
        if study % 100 == 99:  # noqa: PLR2004 - fewer open at once than a worker has room for
            house.seal()
    house.seal()


def measured(act: Callable[[], object], runs: int) -> dict[str, float]:
    """Median of wall and CPU seconds of an act."""
    walls, cpus = [], []
    for _ in range(runs):
        wall_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        act()
        after = resource.getrusage(resource.RUSAGE_SELF)
        walls.append(time.perf_counter() - wall_s)
        cpus.append(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        )
    return {"wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus)}


def raw_hash(paths: list[Path]) -> None:
    """SHA-256 of the same files, with nothing else: what a scrub is compared with."""
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while run := file.read(1 << 20):
                digest.update(run)


def main() -> None:
    """Fill a house, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--studies", type=int, default=400)
    options.add_argument("--instances", type=int, default=50)
    options.add_argument("--runs", type=int, default=5)
    wanted = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        house = houses.make_house(Path(directory))
        fill(house, wanted.studies, wanted.instances)
        count = wanted.studies * wanted.instances
        paths = house.files("packs/*/p/*/*.tar")
        size_bytes = sum(path.stat().st_size for path in paths)

        def rebuild() -> None:
            assert house.holding.rebuilder().rebuild().equal

        def scrub() -> None:
            due = Due(scrubbed_before_ms=_EVERYTHING, sealed_before_ms=_EVERYTHING)
            assert all(verdict.sound for verdict in house.holding.scrubber.run(due))

        rebuilt = measured(rebuild, wanted.runs)
        hashed = measured(lambda: raw_hash(paths), wanted.runs)
        scrubbed = measured(scrub, wanted.runs)
    print(
        json.dumps(
            {
                "instances": count,
                "packs": len(paths),
                "size_bytes": size_bytes,
                "rebuild": rebuilt | {"instances_per_s": count / rebuilt["wall_s"]},
                "raw_sha256": hashed | {"mib_per_s": size_bytes / hashed["wall_s"] / (1 << 20)},
                "scrub": scrubbed | {"mib_per_s": size_bytes / scrubbed["wall_s"] / (1 << 20)},
                "scrub_over_raw": hashed["wall_s"] / scrubbed["wall_s"],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
