"""The archive's processes: a supervisor, its workers and its keeper. Everything is wired here."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Final, Self

from harmoni.archive.keeper import Keeper
from harmoni.archive.site import ArchiveSite
from harmoni.archive.trail import AuditDoor
from harmoni.archive.worker import Worker
from harmoni.audit.event import Act, AuditEvent
from harmoni.config import ArchiveConfig, load_archive
from harmoni.config.archive import HTTPSection, LimitsSection
from harmoni.dicom.events import Limits
from harmoni.model.errors import ConfigurationError, HarmoniError
from harmoni.net import http, notify, places, server, tls
from harmoni.runtime import child, limits, log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import SHARED_DIRECTORY_VARIABLE, Metrics
from harmoni.runtime.supervise import ChildSpec, Supervisor

_AFTER_DRAIN_S: Final = 10.0
_LOOK_S: Final = 1.0
_SWITCH_INTERVAL_S: Final = 0.0002
"""One busy thread must not hold the interpreter for the default 5 ms while others have a socket to
serve; measured before the start: it cuts a worker's rate many times over."""


def serve(config_path: Path) -> int:
    """Run the archive in the foreground until SIGTERM or SIGINT.

    Returns:
        The exit status.

    Raises:
        ConfigurationError: settings, keys or folders do not fit together.
        Busy: another one serves from the same data directory.
    """
    config = load_archive(config_path)
    log.configure()
    clock = SystemClock()
    # Whatever a child would stumble over is said here, once, in a sentence.
    archive = ArchiveSite(config, "serve", clock)
    if archive.problems:
        raise ConfigurationError(" ".join(archive.problems))
    tls.ServerContext(tls_files(config))
    # The lock is never inherited by a child: it is free at once when this process dies.
    with archive.lock_for_serving(), TemporaryDirectory(prefix="harmoni-metrics-") as shared:
        os.environ[SHARED_DIRECTORY_VARIABLE] = shared
        return _supervise(config_path, config, clock)


def _supervise(config_path: Path, config: ArchiveConfig, clock: SystemClock) -> int:
    try:
        listener = server.listen(config.listen.host, config.listen.port)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {config.listen.host}:{config.listen.port}: {error.strerror}; "
            "correct [listen] or end what holds the port"
        ) from error
    program = (sys.executable, "-m", "harmoni.archive")
    path = str(config_path.absolute())
    descriptor, table = listener.fileno(), places.create_table()
    workers = [
        ChildSpec(
            f"worker-{number}",
            (*program, "worker", path, str(number), str(descriptor), str(table)),
            (descriptor, table),
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
    status = supervisor.run()
    if status == os.EX_CONFIG:
        raise ConfigurationError(supervisor.why or "a process could not start; the log says which")
    return status


def work(config_path: Path, number: int, descriptor: int, table: int) -> int:
    """Be worker `number` on an inherited socket, counting in an inherited table, until SIGTERM."""
    _prepare()
    config = load_archive(config_path)
    clock = SystemClock()
    archive = ArchiveSite(config, f"w{number}", clock)
    process_log = log.get(role="archive", site=str(config.archive.site), process=f"worker-{number}")
    files = tls_files(config)
    context = tls.ServerContext(files)
    with AuditDoor(archive.open_spool, clock) as door:
        metrics = Metrics()
        worker = Worker(archive, door, process_log, files, metrics)
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
            metrics=metrics,
            places=places.SharedPlaces(table, number),
            on_refused=worker.refused,
        )

        door.write([AuditEvent(act=Act.APPLICATION_START, at_ms=clock.now_ms())])
        with _Signals(archive, process_log, context.reload) as signals:
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
    monitoring = _monitoring(config.http, keeper, metrics) if config.http.port else None
    with _Signals(archive, process_log) as signals:
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


class _Word(Enum):
    """What a process may be told."""

    END = auto()
    RELOAD = auto()


class _Signals:
    """SIGTERM, SIGINT and the supervisor's death end the wait. SIGHUP reloads.

    Hospitals' files are looked at every second besides: a new one is in force without a signal.

    Args:
        archive: whose hospitals' files are read again.
        process_log: says what was read, and what is wrong with it.
        reload_tls: reads the TLS files again, in a process that listens.
    """

    def __init__(
        self,
        archive: ArchiveSite,
        process_log: log.Log,
        reload_tls: Callable[[], None] = lambda: None,
    ) -> None:
        self._archive = archive
        self._log = process_log
        self._reload_tls = reload_tls
        self._unread = ""
        # A signal's handler may put into it at any moment, which is not so for an Event.
        self._said: SimpleQueue[_Word] = SimpleQueue()

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._said.put(_Word.END))
        signal.signal(signal.SIGHUP, lambda *_: self._said.put(_Word.RELOAD))
        child.ParentWatch(lambda: self._said.put(_Word.END))
        self._say_problems()
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wait(self) -> None:
        """Reload what is asked for or has changed, until the end."""
        while True:
            try:
                word = self._said.get(timeout=_LOOK_S)
            except Empty:
                self._look()
                continue
            if word is _Word.END:
                return
            self._reload()

    def _look(self) -> None:
        """Read hospitals' files that are new; a mistake is said once, not every second."""
        try:
            if self._archive.has_news():
                self._archive.reload()
                self._say_problems()
                self._log.info("hospitals read", hospitals=len(self._archive.hospitals))
            self._unread = ""
        except HarmoniError as error:
            if self._unread != str(error):
                self._log.error("hospitals not read", why=f"{error.code} {error}")
            self._unread = str(error)

    def _reload(self) -> None:
        """A mistake in a file must not end what serves by the files read before."""
        done = []
        for what, act in (("hospitals", self._archive.reload), ("tls", self._reload_tls)):
            try:
                act()
                done.append(what)
            except HarmoniError as error:
                self._log.error("not reloaded", what=what, why=f"{error.code} {error}")
        self._say_problems()
        self._log.info("reloaded", what=done, hospitals=len(self._archive.hospitals))

    def _say_problems(self) -> None:
        for problem in self._archive.problems:
            self._log.error("hospital's file not taken", why=problem)

    def start_thread(self, name: str, act: Callable[[], None]) -> threading.Thread:
        """Run a duty beside the wait. The process ends with it, to be started anew.

        After a fault of ours the process would else look well and do nothing.
        """

        def run() -> None:
            try:
                act()
            finally:
                self._said.put(_Word.END)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
