"""P14: how soon an archive with a million studies answers after a kill that left 500 open packs.

    python bench/cold_start.py [--studies 1000000] [--open 500] [--runs 5] [--keep DIR]

The real role, as processes. Seconds from its execution: `ready` (systemd is told), `echo` and
`store` (a C-ECHO, a C-STORE of a new study answered over TLS), `affected` (a study in a pack that
the killed worker left given back by C-GET), `committed` (the report on the stored study; it was
asked for right after it), `replayed` (none of the packs that were left is open any more). CPU
seconds are of all its processes. Prints JSON: medians.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import old_archive
import psutil

import centre as centres
from harmoni.demo import serve
from harmoni.demo.processes import Role
from harmoni.demo.samples import Sample
from harmoni.demo.system import Centre
from harmoni.model.identifiers import PackId
from harmoni.runtime.clock import SystemClock

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_LONGEST_S = 3600.0


def forget_files() -> bool:
    """Have the kernel drop what it remembers of files; False where this user may not."""
    try:
        _DROP_CACHES.write_text("3\n")
    except OSError:
        return False
    return True


def cpu_s(role: Role) -> float:
    """CPU seconds of a role's processes so far."""
    times = [psutil.Process(pid).cpu_times() for pid in role.pids()]
    return sum(each.user + each.system for each in times)


def measure(centre: Centre, left: list[PackId], run: str, sample: Sample) -> dict[str, float]:
    """Start the role, ask it, wait for its replay, end it."""
    role = serve.archive_role(centre, SystemClock())
    found: dict[str, float] = {}
    begun_s = time.perf_counter()

    def note(what: str) -> None:
        found[f"{what}_s"] = time.perf_counter() - begun_s

    role.start()
    try:
        note("ready")
        running, house = centres.Running(centre, role), centre.houses[0]
        assert running.echo(house) == 0
        note("echo")
        assert running.store(house, [sample]) == [0]
        note("store")
        found["store_cpu_s"] = cpu_s(role)
        port = centre.archive.http.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == HTTPStatus.OK
        note("health")

        def commit() -> None:
            assert running.requestor(house).commit([sample]) == {}
            note("committed")

        commitment = threading.Thread(target=commit)
        commitment.start()
        got = running.requestor(house).get(old_archive.study_uid(run, len(left) - 1), [sample])
        assert len(got) == old_archive.MEMBERS
        note("affected")
        names = {f"{pack_id}.tar" for pack_id in left}
        folder = running.data / f"packs/{house.hospital}/open"
        await_(lambda: names.isdisjoint(each.name for each in folder.iterdir()))
        note("replayed")
        found["replayed_cpu_s"] = cpu_s(role)
        commitment.join(_LONGEST_S)
        found["keeper_peak_bytes"] = peak_bytes(role)
    finally:
        role.stop()
    return found


def peak_bytes(role: Role) -> int:
    """The most memory that the keeper had."""
    [keeper] = centres.children(role.pids()[0], "keeper")
    status = Path(f"/proc/{keeper.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def await_(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    centres.until(condition, "the replay", _LONGEST_S)


def run_once(centre: Centre, count: int, folder: Path) -> dict[str, float]:
    """Leave open packs, forget files, measure."""
    run = str(time.time_ns() // 1_000_000_000)
    left = old_archive.leave_open(centre, count, run)
    sample = centres.write_instance(folder, f"1.2.826.0.1.3680043.10.15.{run}", 1, bytes(1 << 16))
    found = {"caches_dropped": float(forget_files())}
    return found | measure(centre, left, run, sample)


def main() -> None:
    """Make the archive, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--studies", type=int, default=1_000_000)
    options.add_argument("--open", type=int, default=500)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--keep", type=Path, help="make the archive here, or find it again")
    wanted = options.parse_args()
    # An installed program is compiled; whoever develops may have told Python not to.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as directory:
        begun_s = time.perf_counter()
        centre = old_archive.build(wanted.keep or Path(directory) / "archive", wanted.studies)
        made_s = time.perf_counter() - begun_s
        runs = [run_once(centre, wanted.open, Path(directory)) for _ in range(wanted.runs)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print(
        json.dumps(
            {"studies": wanted.studies, "open_packs": wanted.open, "made_s": made_s}
            | medians
            | {"runs": runs},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
