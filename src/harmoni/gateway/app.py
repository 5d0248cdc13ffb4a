"""The gateway's processes: supervisor, workers, keeper, forwarder. Everything is wired here."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harmoni.audit.event import Participant
from harmoni.config import load_gateway
from harmoni.dicom.pdu import ProposedContext
from harmoni.gateway.backlog import Backlog
from harmoni.gateway.centre import Centre, Line, require_own, tls_files
from harmoni.gateway.forwarder import Forwarder
from harmoni.gateway.house import House
from harmoni.gateway.reporter import CallBack
from harmoni.gateway.space import Space
from harmoni.gateway.standing import Standing
from harmoni.gateway.through import Asker, ThroughFinding, ThroughRetrieving
from harmoni.model.errors import HarmoniError
from harmoni.net import client, tls
from harmoni.net.driver import Channel
from harmoni.policy.access import Peer
from harmoni.role import process
from harmoni.role.handlers import Committing, alarm_in
from harmoni.role.keeper import Keeper
from harmoni.role.process import Program
from harmoni.role.signals import Signals
from harmoni.role.trail import AuditDoor, Trail
from harmoni.role.worker import Acts, Worker
from harmoni.runtime import child, limits, log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics

MODULE: Final = "harmoni.gateway"
_CONNECT_TIMEOUT_S: Final = 10.0
_TICK_S: Final = 1.0


def serve(config_path: Path) -> int:
    """Run the gateway in the foreground until SIGTERM or SIGINT.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
        Busy: another one serves from the same data directory.
    """
    log.configure()
    # Whatever a child would stumble over is said here, once, in a sentence.
    house = _house(config_path, "serve")
    tls.client_context(tls_files(house.config))
    require_own(house.config)
    listen = house.config.listen
    return process.serve(
        house,
        config_path,
        Program(
            module=MODULE, keepers=("keeper", "forwarder"), listen=((listen.host, listen.port),)
        ),
    )


def work(config_path: Path, number: int, table: int, descriptors: Sequence[int]) -> int:
    """Be worker `number` on inherited sockets, counting in an inherited table, until SIGTERM."""
    process.prepare()
    house = _house(config_path, f"w{number}")
    process_log = _log(house, f"worker-{number}")
    metrics = Metrics()
    with AuditDoor(house.open_spool, house.clock) as door:
        return process.work(
            house,
            Worker(house, door, process_log, acts(house, door, process_log, metrics), metrics),
            door,
            number=number,
            table=table,
            sockets=[(descriptor, None) for descriptor in descriptors],
            metrics=metrics,
            process_log=process_log,
        )


def keep(config_path: Path) -> int:
    """Be the keeper until SIGTERM."""
    process.prepare()
    limits.yield_to_workers()
    house = _house(config_path, "keeper")
    process_log = _log(house, "keeper")
    metrics = Metrics()
    besides = {"space": Space(house, process_log).keep}
    keeper = Keeper(house, process_log, metrics, besides)
    return process.keep(house, keeper, metrics, process_log)


def forward(config_path: Path) -> int:
    """Be the forwarder until SIGTERM: send, ask for commitment, report to peers."""
    process.prepare()
    limits.yield_to_workers()
    house = _house(config_path, "forwarder")
    process_log = _log(house, "forwarder")
    metrics, centre, line = Metrics(), Centre(house.config), Line()
    with AuditDoor(house.open_spool, house.clock) as door:
        trail = Trail(door, _ourselves(house))
        standing = Standing(house=house, centre=centre, line=line, log=process_log, metrics=metrics)
        forwarder = Forwarder(
            house=house,
            centre=centre,
            line=line,
            trail=trail,
            log=process_log,
            metrics=metrics,
            alarm=alarm_in(process_log),
        )
        call_back, backlog = CallBack(house, process_log), Backlog(house, metrics)
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(_TICK_S):
                try:
                    trail.close_if_old()
                    door.flush()
                    house.own.events.retire(house.config.pack.quiet_s)
                    house.own.forget_gone()
                    backlog.look()
                except HarmoniError as error:
                    # A full disk or a locked index: the next second tries again.
                    process_log.error("not looked after", why=f"{error.code} {error}")

        with Signals(house, process_log) as signals:
            threads = [
                signals.start_thread("standing", standing.run),
                signals.start_thread("call-back", call_back.run),
                signals.start_thread("tick", tick),
                *(
                    signals.start_thread(f"forward-{number}", forwarder.run)
                    for number in range(house.config.centre.associations)
                ),
            ]
            child.announce_ready()
            signals.wait()
        for duty in (standing, call_back, forwarder):
            duty.end()
        ended.set()
        until_s = house.clock.monotonic_s() + house.config.limits.drain_s
        for thread in threads:
            thread.join(max(0.0, until_s - house.clock.monotonic_s()))
        trail.close()
        house.own.events.retire()
    return os.EX_OK


def acts(house: House, door: AuditDoor, process_log: log.Log, metrics: Metrics) -> Acts:
    """What the gateway does for a peer of its house."""
    config, alarm = house.config, alarm_in(process_log)

    def connect(destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        """Open an association to a peer of the house, in clear text as it calls."""
        return client.open_association(
            host=destination.host,
            port=destination.port,
            tls=None,
            called_ae_title=destination.ae_title,
            calling_ae_title=config.gateway.ae_title,
            contexts=contexts,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
        )

    asker = Asker(house, Centre(config), door, process_log, metrics)
    return Acts(
        find=lambda bound: ThroughFinding(
            asker, bound.holding, bound.trail, config.limits.find_matches
        ),
        retrieve=lambda bound: ThroughRetrieving(
            asker=asker,
            holding=bound.holding,
            entry=bound.entry,
            connect=connect,
            trail=bound.trail,
            alarm=alarm,
        ),
        commit=lambda bound: Committing(
            bound.holding, bound.binding.calling_ae_title, our_gateway=False
        ),
    )


def _house(config_path: Path, name: str) -> House:
    return House(load_gateway(config_path), config_path, name, SystemClock())


def _log(house: House, name: str) -> log.Log:
    return log.get(role="gateway", site=str(house.config.gateway.site), process=name)


def _ourselves(house: House) -> Participant:
    """The gateway as the audit trail names it where it gives to the centre."""
    return Participant(hospital=str(house.hospital), calling_ae_title=house.config.gateway.ae_title)
