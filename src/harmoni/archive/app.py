"""The archive's processes: a supervisor, its workers and its keeper. Everything is wired here."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from harmoni.archive.keeper import Keeper
from harmoni.archive.site import ArchiveSite
from harmoni.archive.trail import AuditDoor
from harmoni.archive.worker import Worker
from harmoni.audit.event import Act, AuditEvent
from harmoni.config import ArchiveConfig, load_archive
from harmoni.config.archive import LimitsSection
from harmoni.dicom.events import Limits
from harmoni.model.errors import ConfigurationError, HarmoniError
from harmoni.net import http, notify, server, tls
from harmoni.runtime import child, limits, log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics
from harmoni.runtime.supervise import ChildSpec, Supervisor

_AFTER_DRAIN_S: Final = 10.0
_SWITCH_INTERVAL_S: Final = 0.0002
"""One busy thread must not hold the interpreter for the default 5 ms while others have a socket to
serve; measured before the start: it cuts a worker's rate many times over."""


def serve(config_path: Path) -> int:
    """Run the archive in the foreground until SIGTERM or SIGINT.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
    """
    config = load_archive(config_path)
    log.configure()
    clock = SystemClock()
    # Whatever a child would stumble over is said here, once, in a sentence.
    ArchiveSite(config, "serve", clock)
    tls.ServerContext(tls_files(config))
    try:
        listener = server.listen(config.listen.host, config.listen.port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {config.listen.host}:{config.listen.port}: {error.strerror}; "
            "correct [listen] or end what holds the port"
        ) from error
    program = (sys.executable, "-m", "harmoni.archive")
    path = str(config_path.absolute())
    descriptor = listener.fileno()
    workers = [
        ChildSpec(
            f"worker-{number}",
            (*program, "worker", path, str(number), str(descriptor)),
            (descriptor,),
        )
        for number in range(config.archive.workers)
    ]
    keeper = ChildSpec("keeper", (*program, "keeper", path))
    process_log = log.get(role="archive", site=str(config.archive.site))

    def ready() -> None:
        process_log.info("ready", port=config.listen.port)
        notify.notify("READY=1")

    supervisor = Supervisor(
        [*workers, keeper],
        clock=clock,
        log=process_log,
        on_ready=ready,
        grace_s=grace_s(config.limits),
    )
    return supervisor.run()


def work(config_path: Path, number: int, descriptor: int) -> int:
    """Be worker `number` on an inherited listening socket until SIGTERM."""
    _prepare()
    config = load_archive(config_path)
    clock = SystemClock()
    archive = ArchiveSite(config, f"w{number}", clock)
    process_log = log.get(role="archive", site=str(config.archive.site), process=f"worker-{number}")
    files = tls_files(config)
    context = tls.ServerContext(files)
    with AuditDoor(archive.open_spool, clock) as door:
        worker = Worker(archive, door, process_log, files)
        serving = server.Server(
            sockets=[(server.adopt(descriptor), context)],
            decide=worker.decide,
            serve=worker.serve,
            limits=server.ServerLimits(
                associations=config.limits.associations_per_worker,
                associations_per_address=config.limits.associations_per_address,
                handshake_s=config.limits.handshake_s,
                idle_s=config.limits.idle_s,
                association=Limits(artim_s=config.limits.artim_s),
            ),
            clock=clock,
            log=process_log,
            metrics=Metrics(),
            on_refused=worker.refused,
        )

        def reload() -> None:
            archive.reload()
            context.reload()

        door.write([AuditEvent(act=Act.APPLICATION_START, at_ms=clock.now_ms())])
        with _Signals(reload, process_log) as signals:
            serving.start()
            signals.start_thread("tick", worker.run_ticks)
            child.announce_ready()
            signals.wait()
        serving.drain(config.limits.drain_s)
        worker.end()
        door.write([AuditEvent(act=Act.APPLICATION_STOP, at_ms=clock.now_ms())])
    return os.EX_OK


def keep(config_path: Path) -> int:
    """Be the keeper until SIGTERM."""
    _prepare()
    limits.yield_to_workers()
    config = load_archive(config_path)
    archive = ArchiveSite(config, "keeper", SystemClock())
    metrics = Metrics()
    process_log = log.get(role="archive", site=str(config.archive.site), process="keeper")
    keeper = Keeper(archive, process_log, metrics)
    monitoring = (
        http.MonitoringServer(
            config.http.host, config.http.port, health=keeper.health, render=metrics.render
        )
        if config.http.port
        else None
    )
    with _Signals(archive.reload, process_log) as signals:
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


def grace_s(section: LimitsSection) -> float:
    """How long the supervisor lets its children end, in seconds: longer than they may drain.

    A worker that was cut at the end of its drain still retires its packs and writes its audit
    trail; killed in that, it would leave both to recovery.
    """
    return section.drain_s + _AFTER_DRAIN_S


def tls_files(config: ArchiveConfig) -> tls.TLSFiles:
    """The files of the archive's own TLS identity."""
    return tls.TLSFiles(
        certificate=config.tls.certificate,
        key=config.tls.key,
        authorities=config.tls.ca,
        revocations=config.tls.crl,
    )


def _prepare() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    log.configure()
    limits.raise_open_files()
    limits.forbid_core_dumps()


class _Signals:
    """SIGTERM, SIGINT and the supervisor's death end the wait; SIGHUP reloads."""

    def __init__(self, reload: Callable[[], None], process_log: log.Log) -> None:
        self._ended = threading.Event()
        self._reload = reload
        self._log = process_log

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload_or_say())
        child.ParentWatch(self._ended.set)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _reload_or_say(self) -> None:
        """A mistake in a file must not end what serves by the files read before."""
        try:
            self._reload()
        except HarmoniError as error:
            self._log.error("not reloaded", why=f"{error.code} {error}")

    def start_thread(self, name: str, act: Callable[[], None]) -> threading.Thread:
        """Run a duty beside the wait. The process ends with it, to be started anew.

        After a fault of ours the process would else look well and do nothing.
        """

        def run() -> None:
            try:
                act()
            finally:
                self._ended.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def wait(self) -> None:
        """Wait for the end."""
        self._ended.wait()
