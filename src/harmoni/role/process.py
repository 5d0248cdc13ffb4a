"""A role's processes: the supervisor that executes them, and what each does about signals."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harmoni.audit.event import Act, AuditEvent
from harmoni.config.sections import HTTPSection, LimitsSection
from harmoni.dicom.events import Limits
from harmoni.model.errors import ConfigurationError, HarmoniError
from harmoni.net import http, notify, places, server, tls
from harmoni.role.keeper import Keeper
from harmoni.role.node import Node
from harmoni.role.signals import Signals
from harmoni.role.trail import AuditDoor
from harmoni.role.worker import Worker
from harmoni.runtime import child, limits, log
from harmoni.runtime.metrics import SHARED_DIRECTORY_VARIABLE, Metrics
from harmoni.runtime.supervise import ChildSpec, Supervisor

_AFTER_DRAIN_S: Final = 10.0
_SWITCH_INTERVAL_S: Final = 0.0002
"""One busy thread must not hold the interpreter for the default 5 ms while others have a socket to
serve; measured before the start: it cuts a worker's rate many times over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a role's child processes are started.

    Attributes:
        module: executed with `python -m`; its arguments are the process, the configuration and for
            a worker its number, the table of places and the listening sockets' descriptors.
        keepers: the processes beside the workers, such as "keeper".
        listen: the addresses to listen on, host and port.
    """

    module: str
    keepers: Sequence[str]
    listen: Sequence[tuple[str, int]]


def serve(node: Node, config_path: Path, program: Program) -> int:
    """Run a role in the foreground until SIGTERM or SIGINT.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
        Busy: another one serves from the same data directory.
    """
    # The lock is never inherited by a child: it is free at once when this process dies.
    with node.lock_for_serving(), TemporaryDirectory(prefix="harmoni-metrics-") as shared:
        os.environ[SHARED_DIRECTORY_VARIABLE] = shared
        return _supervise(node, config_path, program)


def _supervise(node: Node, config_path: Path, program: Program) -> int:
    listeners = [_listen(host, port) for host, port in program.listen]
    command = (sys.executable, "-m", program.module)
    path = str(config_path.absolute())
    table = places.create_table()
    sockets = [listener.fileno() for listener in listeners]
    workers = [
        ChildSpec(
            f"worker-{number}",
            (*command, "worker", path, str(number), str(table), *map(str, sockets)),
            (table, *sockets),
        )
        for number in range(node.settings.node.workers)
    ]
    keepers = [ChildSpec(name, (*command, name, path)) for name in program.keepers]
    process_log = log.get(role=node.role, site=str(node.settings.node.site))

    def ready() -> None:
        process_log.info("ready", ports=[port for _, port in program.listen])
        notify.notify("READY=1")

    supervisor = Supervisor(
        [*workers, *keepers],
        clock=node.clock,
        log=process_log,
        on_ready=ready,
        grace_s=grace_s(node.settings.limits),
    )
    status = supervisor.run()
    if status == os.EX_CONFIG:
        raise ConfigurationError(supervisor.why or "a process could not start; the log says which")
    return status


def _listen(host: str, port: int) -> server.Listener:
    try:
        return server.listen(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "correct [listen] or end what holds the port"
        ) from error


def grace_s(section: LimitsSection) -> float:
    """How long the supervisor lets its children end, in seconds: longer than they may drain.

    A worker that was cut at the end of its drain still retires its packs and writes its audit
    trail; killed in that, it would leave both to recovery.
    """
    return section.drain_s + _AFTER_DRAIN_S


def prepare() -> None:
    """Begin a child process: its interpreter, its log, what the system lets it have."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    log.configure()
    limits.raise_open_files()
    limits.forbid_core_dumps()


def work(
    node: Node,
    worker: Worker,
    door: AuditDoor,
    *,
    number: int,
    table: int,
    sockets: Sequence[tuple[int, tls.ServerContext | None]],
    metrics: Metrics,
    process_log: log.Log,
) -> int:
    """Accept associations until SIGTERM, then drain.

    Args:
        node: what this process has open.
        worker: decides and serves.
        door: the process's audit door.
        number: of this worker.
        table: descriptor of the inherited table in which the workers count connections.
        sockets: inherited listening sockets by descriptor, and the TLS of each, None for plain.
        metrics: counts associations.
        process_log: the process's log.
    """
    section = node.settings.limits
    contexts = [context for _, context in sockets if context is not None]
    serving = server.Server(
        sockets=[(server.adopt(descriptor), context) for descriptor, context in sockets],
        decide=worker.decide,
        serve=worker.serve,
        limits=server.ServerLimits(
            associations=section.associations_per_worker,
            associations_per_address=section.associations_per_address,
            handshake_s=section.handshake_s,
            idle_s=section.idle_s,
            association=Limits(artim_s=section.artim_s),
        ),
        clock=node.clock,
        log=process_log,
        metrics=metrics,
        places=places.SharedPlaces(table, number),
        on_refused=worker.refused,
    )

    def reload_tls() -> None:
        for context in contexts:
            context.reload()

    door.write([AuditEvent(act=Act.APPLICATION_START, at_ms=node.clock.now_ms())])
    with Signals(node, process_log, reload_tls) as signals:
        serving.start()
        signals.start_thread("tick", worker.run_ticks)
        child.announce_ready()
        signals.wait()
    serving.drain(section.drain_s)
    worker.end()
    door.write([AuditEvent(act=Act.APPLICATION_STOP, at_ms=node.clock.now_ms())])
    return os.EX_OK


def keep(node: Node, keeper: Keeper, metrics: Metrics, process_log: log.Log) -> int:
    """Run a keeper, and health and metrics over HTTP where they are wanted, until SIGTERM."""
    http_section = node.settings.http
    monitoring = _monitoring(http_section, keeper, metrics) if http_section.port else None
    with Signals(node, process_log) as signals:
        thread = signals.start_thread("keep", keeper.run)
        try:
            child.announce_ready()
            signals.wait()
        finally:
            keeper.end()
    thread.join()
    if monitoring is not None:
        monitoring.close()
    return os.EX_OK


def _monitoring(section: HTTPSection, keeper: Keeper, metrics: Metrics) -> http.MonitoringServer:
    try:
        return http.MonitoringServer(
            section.host, section.port, health=keeper.health, render=metrics.render
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {section.host}:{section.port}: {error.strerror}; "
            "correct [http] or end what holds the port"
        ) from error


def run_child(program: str, act: Callable[[], int | None]) -> int:
    """Run one child process; its failure to start is told to the supervisor.

    Args:
        program: the command that people use, for who starts this by hand.
        act: gives the exit status; None when the arguments were wrong.
    """
    try:
        status = act()
    except HarmoniError as error:
        if not child.announce_failure(str(error)):
            sys.stderr.write(f"{error.code} {error}\n")
        return os.EX_CONFIG if isinstance(error, ConfigurationError) else os.EX_TEMPFAIL
    if status is None:
        sys.stderr.write(f"these processes are started by `{program}`\n")
        return os.EX_USAGE
    return status
