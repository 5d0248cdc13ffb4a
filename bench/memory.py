"""P11: how much memory the processes take while something long, or much at once, passes through.

    python bench/memory.py [--size 4096] [--stall 55] [--instances 50]

An archive and a gateway before it, one worker each. An instance of so many MiB, made while it is
sent, is taken in by the gateway's worker, forwarded, sealed and committed, and given back by C-GET
from the gateway and from the archive, to a receiver that stalls in the middle (after 60 s without a
byte it would be aborted); it must come back with the same SHA-256. Then eight associations send CT
of 512 KiB each at once, to either. Prints JSON: the most MiB that each process had, `resident` with
the files that it maps, `anonymous` its own alone.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import centre as centres
import long_instance
import resident
import whole
from harmoni.demo.processes import Role
from harmoni.demo.requestor import Requestor
from long_instance import LongInstance
from whole import Whole

Told = dict[str, dict[str, float]]
ASSOCIATIONS: Final = 8
CT_BYTES: Final = 512 << 10
_MIB: Final = 1 << 20
_STUDY: Final = "1.2.826.0.1.3680043.10.16"
_LONGEST_S: Final = 3600.0


def measured(act: Callable[[], None], processes: Mapping[str, int]) -> Told:
    """What each process had at most while something was done."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(resident.peak(pid)) for name, pid in processes.items()}
        act()
    return {
        name: {
            "resident": round(peak.resident_bytes / _MIB, 1),
            "anonymous": round(peak.anonymous_bytes / _MIB, 1),
        }
        for name, peak in found.items()
    }


def processes(name: str, role: Role, *kinds: str) -> dict[str, int]:
    """The processes of a role that are watched."""
    found = {}
    for kind in kinds:
        [process] = centres.children(role.pids()[0], kind)
        found[f"{name} {kind}"] = process.pid
    return found


def store(requestor: Requestor, instances: list[LongInstance]) -> None:
    """Send instances on one association."""
    assert not requestor.store(instances, lambda _: None)


def get(requestor: Requestor, instance: LongInstance, stall_s: float) -> None:
    """Have it sent back, stall in its middle, and compare."""
    receiver = long_instance.StallingReceiver(after_bytes=instance.size_bytes // 2, stall_s=stall_s)
    requestor.get(instance.study_instance_uid, [instance], receiver)
    received = receiver.received()[instance.sop_instance_uid]
    assert (received.sha256, received.size_bytes) == (instance.sha256, instance.size_bytes)


def store_at_once(requestor: Requestor, root: str, count: int) -> None:
    """Send CT on eight associations, a study each."""
    source = random.Random(root)  # noqa: S311 - of pixels
    with tempfile.TemporaryDirectory() as folder:
        senders = [
            threading.Thread(
                target=store,
                args=(
                    requestor,
                    centres.write_instances(
                        Path(folder), f"{root}.{each}", [CT_BYTES] * count, source
                    ),
                ),
            )
            for each in range(ASSOCIATIONS)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()


def acts(running: Whole, instance: LongInstance, stall_s: float, count: int) -> dict[str, Told]:
    """Everything, one after another."""
    ours, theirs = running.requestor(), running.site.requestor(running.house())
    gateway = processes("gateway", running.gateway(), "worker", "keeper", "forwarder")
    archive = processes("archive", running.archive, "worker", "keeper")

    def pass_on() -> None:
        store(ours, [instance])
        running.await_committed(deadline_s=_LONGEST_S)
        running.site.await_seals(_LONGEST_S)

    return {
        "in, forwarded, sealed": measured(pass_on, gateway | archive),
        "out of the gateway": measured(lambda: get(ours, instance, stall_s), gateway),
        "out of the archive": measured(lambda: get(theirs, instance, stall_s), archive),
        "eight into the gateway": measured(
            lambda: store_at_once(ours, f"{_STUDY}.2", count), gateway
        ),
        "eight into the archive": measured(
            lambda: store_at_once(theirs, f"{_STUDY}.3", count), archive
        ),
    }


def main() -> None:
    """Measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=4096, help="of the long instance, in MiB")
    options.add_argument("--stall", type=float, default=55.0, help="seconds")
    options.add_argument("--instances", type=int, default=50, help="of each association")
    wanted = options.parse_args()
    instance = long_instance.make(f"{_STUDY}.1", 1, wanted.size * _MIB)
    settings = ["archive.workers=1", "gateway.workers=1"]
    with (
        tempfile.TemporaryDirectory() as folder,
        whole.running(Path(folder), settings=settings) as running,
    ):
        found = acts(running, instance, wanted.stall, wanted.instances)
    worst_mib = {
        name: max(each[name]["resident"] for each in found.values() if name in each)
        for name in dict.fromkeys(name for each in found.values() for name in each)
    }
    told = {"instance_bytes": instance.size_bytes, "worst_mib": worst_mib, **found}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
