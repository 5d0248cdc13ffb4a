"""`harmoni demo --serve`: the centre as processes, described in one line, until a signal."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harmoni.demo import ports, system
from harmoni.demo.processes import Role
from harmoni.demo.system import Centre, House
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import Clock


def archive_role(centre: Centre, clock: Clock) -> Role:
    """The archive of a centre, not started yet."""
    return _role("archive", centre.config_path, clock)


def gateway_role(house: House, clock: Clock) -> Role:
    """The gateway of a hospital, not started yet."""
    return _role("gateway", house.config_path, clock)


@contextmanager
def running(centre: Centre, clock: Clock) -> Iterator[tuple[Role, Mapping[HospitalId, Role]]]:
    """Every role of a demo for the length of a with block: the archive, and the gateways.

    Raises:
        Unreachable: a role did not become ready.
    """
    with ExitStack() as started:
        archive = started.enter_context(archive_role(centre, clock))
        gateways = {
            house.hospital: started.enter_context(gateway_role(house, clock))
            for house in centre.houses
        }
        yield archive, gateways


def log_path(config_path: Path) -> Path:
    """Where a role of the demo writes its log: beside its configuration, named alike."""
    return config_path.with_suffix(".log")


def _role(name: str, config_path: Path, clock: Clock) -> Role:
    return Role(name, config_path=config_path, log_path=log_path(config_path), clock=clock)


def serve(centre: Centre, clock: Clock, announce: Callable[[Mapping[str, object]], None]) -> None:
    """Start everything, announce it, and run until SIGTERM or SIGINT.

    When a role ends as a whole it is not started again: whoever ended it may want to start it.

    Args:
        centre: what was built.
        clock: measures waits.
        announce: gets the description once everything is ready.

    Raises:
        Unreachable: a role did not become ready.
    """
    over = threading.Event()
    earlier = {
        number: signal.signal(number, lambda *_: over.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with running(centre, clock) as (archive, gateways):
            pids = {hospital: role.pids() for hospital, role in gateways.items()}
            announce(describe(centre, archive.pids(), pids))
            over.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def describe(
    centre: Centre, archive_pids: list[int], gateway_pids: Mapping[HospitalId, list[int]]
) -> Mapping[str, object]:
    """What somebody needs to know to talk to the demo; every path is absolute."""
    archive = centre.archive
    monitored = [archive.http.port, *(house.gateway.http.port for house in centre.houses)]
    return {
        "ready": True,
        "dir": str(centre.directory),
        "hospitals": [_house(house, gateway_pids[house.hospital]) for house in centre.houses],
        "sites": [
            {
                "id": system.SITE,
                "archive": {
                    "ae_title": archive.archive.ae_title,
                    "host": archive.listen.host,
                    "port": archive.listen.port,
                    "pids": archive_pids,
                    "config": str(centre.config_path),
                    "data": str(archive.archive.data),
                },
            }
        ],
        "metrics": [f"http://{ports.HOST}:{port}/metrics" for port in monitored if port],
    }


def lines(centre: Centre) -> list[str]:
    """The same for people: where the roles are, and who may call them."""
    archive = centre.archive
    told = [
        f"The archive takes DICOM over TLS at {archive.listen.host}:{archive.listen.port}.",
        f"  AE title       {archive.archive.ae_title}",
        f"  configuration  {centre.config_path}",
        f"  log            {log_path(centre.config_path)}",
    ]
    if archive.http.port:
        told.append(f"  health         http://{ports.HOST}:{archive.http.port}/healthz")
    for house in centre.houses:
        gateway = house.gateway
        told += [
            f"The gateway of {house.hospital} is at {gateway.listen.host}:{gateway.listen.port}.",
            f"  AE title       {gateway.gateway.ae_title}",
            f"  configuration  {house.config_path}",
            f"  log            {log_path(house.config_path)}",
            f"  certificate    {house.tls_files.certificate}",
        ]
        if gateway.http.port:
            told.append(f"  health         http://{ports.HOST}:{gateway.http.port}/healthz")
        told += [
            f"  peer           {peer.ae_title}, called back at {ports.HOST}:{peer.port}"
            for peer in house.peers
        ]
    return [*told, "It runs until Ctrl-C or SIGTERM."]


def _house(house: House, pids: list[int]) -> Mapping[str, object]:
    gateway = house.gateway
    return {
        "id": str(house.hospital),
        "gateway": {
            "ae_title": gateway.gateway.ae_title,
            "host": gateway.listen.host,
            "port": gateway.listen.port,
            "tls_port": 0,
            "pids": pids,
            "config": str(house.config_path),
            "data": str(gateway.gateway.data),
        },
        "peers": [
            {
                "ae_title": peer.ae_title,
                "role": peer.role,
                "host": ports.HOST,
                "port": peer.port,
            }
            for peer in house.peers
        ],
        "tls": {
            "ca": str(house.tls_files.authorities),
            "certificate": str(house.tls_files.certificate),
            "key": str(house.tls_files.key),
        },
    }
