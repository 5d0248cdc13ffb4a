"""P8: how well a gateway uses the line to its archive, when the centre comes back.

    python bench/line.py [--runs 5] [--scale 1.0] [--only small ...]

A gateway role and an archive role with `delaying_proxy` between them, 10 ms each way. The gateway
takes everything in while nobody listens at the centre. Then the line is there, and seconds are
told: `found_s` until the gateway notices (it looks again after a pause, the longer the centre was
away), and from then on `sent_s` until every instance was answered with success, `committed_s` until
the centre has committed itself to every one (the quiet time before it is asked for is a second
here). `small` is compared with one association of DCMTK's storescu to the same archive, TLS, same
line, one instance at a time. `CT` runs at 100 Mbit/s besides, by a token bucket (`tc`) in a network
namespace of its own, which ends with this process and needs root; `line_share` is of the bits of
data sets alone: of what TCP with 1,500 byte packets can carry 95 % at most. Prints JSON: medians.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import delaying_proxy
import loads
import psutil
import receivers
from loads import Load

import centre as centres
from harmoni import config
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import samples, serve, system
from harmoni.demo.processes import Role
from harmoni.gateway.house import House as Gateway
from harmoni.index import jobs
from harmoni.index.jobs import JobState
from harmoni.net import server
from harmoni.runtime.clock import SystemClock
from whole import Whole

DELAY_S: Final = 0.010
LINE_BITS_PER_S: Final = 100e6
_LONGEST_S: Final = 600.0
_PEER_COUNT: Final = 200
_NEW_NETWORK: Final = 0x4000_0000  # CLONE_NEWNET
_OF_THIS_THREAD: Final = Path("/proc/thread-self/ns/net")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is sent over which line."""

    load: Load
    limited: bool = False
    """Whether the line has a rate."""
    peer: bool = False
    """Whether a peer is measured beside it."""


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "small": Scenario(load=Load(count=2000, pixels_bytes=16 << 10, studies=20), peer=True),
    "small, one study": Scenario(load=Load(count=2000, pixels_bytes=16 << 10)),
    "CT": Scenario(load=Load(count=200, pixels_bytes=512 << 10), limited=True),
}


class Network:
    """A network of its own (namespaces(7)) for this thread and what it starts, in a with block.

    It ends with the last process in it, and takes its line with it.
    """

    def __init__(self) -> None:
        self._system = ctypes.CDLL(None, use_errno=True)
        self._outside = os.open(_OF_THIS_THREAD, os.O_RDONLY)

    def __enter__(self) -> Self:
        assert self._system.unshare(_NEW_NETWORK) == 0, "CT needs root for its line: --only small"
        self._inside = os.open(_OF_THIS_THREAD, os.O_RDONLY)
        _run("ip link set lo up mtu 1500")
        return self

    def __exit__(self, *_: object) -> None:
        self._enter(self._outside)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Be in the machine's own network."""
        self._enter(self._outside)
        try:
            yield
        finally:
            self._enter(self._inside)

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Give it the line's rate. The bucket holds 5 ms; what does not fit waits for 100 ms."""
        rate = f"tbf rate {LINE_BITS_PER_S:.0f}bit burst 64kb latency 100ms"
        _run(f"tc qdisc add dev lo root {rate}")
        try:
            yield
        finally:
            _run("tc qdisc del dev lo root")

    def _enter(self, namespace: int) -> None:
        assert self._system.setns(namespace, _NEW_NETWORK) == 0


def _run(command: str) -> None:
    subprocess.run(["/usr/bin/env", *command.split()], check=True)


@dataclass(frozen=True, slots=True)
class Ends:
    """The two roles, and the line between them that is there or not."""

    whole: Whole
    port: int
    """Where the gateway looks for its centre."""
    network: Network | None

    @contextmanager
    def line(self) -> Iterator[None]:
        """Have the line for the length of a with block."""
        with ExitStack() as stack:
            listener = stack.enter_context(server.listen(delaying_proxy.HOST, self.port))
            if self.network is not None:
                stack.enter_context(self.network.limited())
            with self.network.outside() if self.network is not None else nullcontext():
                archive = self.whole.centre.archive.listen.port
                proxy = delaying_proxy.running(listener, archive, DELAY_S)
                stack.enter_context(proxy)
            yield

    def store(self, folder: Path) -> None:
        """Have the gateway take in what lies in a folder."""
        found = samples.collect(folder)
        assert not found.skipped
        assert not self.whole.requestor().store(found.samples, lambda _: None)


@contextmanager
def built(folder: Path, *, limited: bool) -> Iterator[Ends]:
    """Start both roles, without a line."""
    clock, port = SystemClock(), receivers.free_port()
    centre = system.build(folder, hospitals=1, seal_after_s=1.0, settings=(), clock=clock)
    [house] = centre.houses
    gateway = config.override(house.gateway, f"centre.port={port}")
    path = house.config_path
    Filesystem(path.parent).replace(path.name, config.render(gateway).encode())
    with ExitStack() as stack:
        archive = stack.enter_context(serve.archive_role(centre, clock))
        network = stack.enter_context(Network()) if limited else None
        role = stack.enter_context(serve.gateway_role(house, clock))
        yield Ends(Whole(centre, archive, {house.hospital: role}), port, network)


def forwarded(ends: Ends, load: Load, run: int) -> dict[str, float]:
    """Fill the gateway, give it the line, wait."""
    gateway, roles = ends.whole.beside(), (ends.whole.gateway(), ends.whole.archive)
    until(lambda: (state := gateway.centre_state()) is not None and not state.up)
    with tempfile.TemporaryDirectory() as name:
        size_bytes = load.write(Path(name), run)
        ends.store(Path(name))
    begun_ms = gateway.clock.now_ms()
    with ends.line():
        until(lambda: (state := gateway.centre_state()) is not None and state.up)
        state = gateway.centre_state()
        assert state is not None
        cpu_s = [cpu(role) for role in roles]
        until(lambda: not waiting(gateway, JobState.QUEUED, JobState.DOUBTFUL))
        sent_ms = gateway.clock.now_ms()
        gateway_cpu_s, archive_cpu_s = (
            cpu(role) - before for role, before in zip(roles, cpu_s, strict=True)
        )
        until(lambda: not waiting(gateway, *JobState))
        committed_ms = gateway.clock.now_ms()
    gateway.own.index.database().close()
    sent_s = (sent_ms - state.since_ms) / 1000
    return {
        "found_s": (state.since_ms - begun_ms) / 1000,
        "sent_s": sent_s,
        "committed_s": (committed_ms - state.since_ms) / 1000,
        "gateway_cpu_s": gateway_cpu_s,
        "archive_cpu_s": archive_cpu_s,
        "instances_per_s": load.count / sent_s,
        "mbit_per_s": size_bytes * 8 / sent_s / 1e6,
    }


def waiting(gateway: Gateway, *states: JobState) -> int:
    """How many jobs are in one of these states."""
    with gateway.own.index.reader() as connection:
        depth = jobs.depth(connection).by_state
    assert not depth[JobState.PARKED]
    return sum(depth[state] for state in states)


def cpu(role: Role) -> float:
    """CPU seconds so far of a role's processes, its keeper aside."""
    return receivers.Receiver(0, psutil.Process(role.pids()[0])).cpu_s()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    centres.until(condition, "the line is used", _LONGEST_S)


def one_by_one(ends: Ends, load: Load, run: int) -> dict[str, float]:
    """Send to the archive on one association of a peer's, over the same line."""
    centre = ends.whole.centre
    receiver = receivers.Receiver(
        ends.port,
        psutil.Process(ends.whole.archive.pids()[0]),
        options=receivers.tls_options(centre.houses[0].tls_files),
    )
    few = replace(load, count=min(load.count, _PEER_COUNT), studies=1)
    with ends.line():
        found = loads.measure(receiver, few, run)
    return {"wall_s": found.wall_s, "instances_per_s": few.count / found.wall_s}


def measured(scenario: Scenario, load: Load, runs: int) -> dict[str, dict[str, float]]:
    """Medians of one scenario."""
    found: dict[str, list[dict[str, float]]] = {"harmoni": []}
    with (
        tempfile.TemporaryDirectory() as name,
        built(Path(name), limited=scenario.limited) as ends,
    ):
        for run in range(runs):
            found["harmoni"].append(forwarded(ends, load, run))
            if scenario.peer:
                told = one_by_one(ends, load, runs + run)
                found.setdefault("storescu", []).append(told)
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for name, each in found.items()
    }
    ours = medians["harmoni"]
    if scenario.limited:
        ours["line_share"] = ours["mbit_per_s"] * 1e6 / LINE_BITS_PER_S
    if scenario.peer:
        ours["over_storescu"] = ours["instances_per_s"] / medians["storescu"]["instances_per_s"]
    return medians


def main() -> None:
    """Measure every scenario, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of instances")
    options.add_argument("--only", nargs="*", default=[], help="beginnings of names")
    wanted = options.parse_args()
    results = {}
    for name, scenario in SCENARIOS.items():
        if wanted.only and not name.startswith(tuple(wanted.only)):
            continue
        count = max(1, int(scenario.load.count * wanted.scale))
        results[name] = measured(scenario, replace(scenario.load, count=count), wanted.runs)
        sys.stderr.write(f"{name}: {json.dumps(results[name])}\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
