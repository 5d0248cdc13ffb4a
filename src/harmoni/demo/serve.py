"""`harmoni demo --serve`: the centre as processes, described in one line, until a signal."""

import signal
import threading
from collections.abc import Callable, Mapping
from typing import Final

from harmoni.demo import ports, system
from harmoni.demo.processes import Role
from harmoni.demo.system import Centre, House
from harmoni.runtime.clock import Clock

LOG_NAME: Final = "archive.log"


def archive_role(centre: Centre, clock: Clock) -> Role:
    """The archive of a centre, not started yet."""
    return Role(
        "archive",
        config_path=centre.config_path,
        log_path=centre.config_path.parent / LOG_NAME,
        clock=clock,
    )


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
        with archive_role(centre, clock) as archive:
            announce(describe(centre, archive.pids()))
            over.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def describe(centre: Centre, archive_pids: list[int]) -> Mapping[str, object]:
    """What somebody needs to know to talk to the demo; every path is absolute."""
    archive = centre.archive
    metrics = [f"http://{ports.HOST}:{archive.http.port}/metrics"] if archive.http.port else []
    return {
        "ready": True,
        "dir": str(centre.directory),
        "hospitals": [_house(house) for house in centre.houses],
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
        "metrics": metrics,
    }


def lines(centre: Centre) -> list[str]:
    """The same for people: where the archive is, and what each hospital shows to it."""
    archive = centre.archive
    told = [
        f"The archive takes DICOM over TLS at {archive.listen.host}:{archive.listen.port}.",
        f"  AE title       {archive.archive.ae_title}",
        f"  configuration  {centre.config_path}",
        f"  log            {centre.config_path.parent / LOG_NAME}",
    ]
    if archive.http.port:
        told.append(f"  health         http://{ports.HOST}:{archive.http.port}/healthz")
    for house in centre.houses:
        told += [
            f"{house.hospital} calls it as {house.gateway_ae_title}, with",
            f"  certificate    {house.tls_files.certificate}",
            f"  key            {house.tls_files.key}",
            f"  authority      {house.tls_files.authorities}",
        ]
        told += [
            f"  C-MOVE to      {peer.ae_title} at {ports.HOST}:{peer.port}" for peer in house.peers
        ]
    return [*told, "It runs until Ctrl-C or SIGTERM."]


def _house(house: House) -> Mapping[str, object]:
    return {
        "id": str(house.hospital),
        "gateway": {"ae_title": house.gateway_ae_title},
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
