"""The archive's processes: a supervisor, its workers and its keeper. Everything is wired here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harmoni.archive.destinations import connect_to
from harmoni.archive.site import ArchiveSite
from harmoni.config import ArchiveConfig, load_archive
from harmoni.model.errors import ConfigurationError
from harmoni.net import tls
from harmoni.role import process
from harmoni.role.handlers import Committing, Finding, Retrieving, alarm_in
from harmoni.role.keeper import Keeper
from harmoni.role.process import Program
from harmoni.role.trail import AuditDoor
from harmoni.role.worker import Acts, Worker
from harmoni.runtime import limits, log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics

MODULE: Final = "harmoni.archive"


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
    # Whatever a child would stumble over is said here, once, in a sentence.
    archive = ArchiveSite(config, "serve", SystemClock())
    if archive.problems:
        raise ConfigurationError(" ".join(archive.problems))
    tls.ServerContext(tls_files(config))
    return process.serve(
        archive,
        config_path,
        Program(
            module=MODULE, keepers=("keeper",), listen=((config.listen.host, config.listen.port),)
        ),
    )


def work(config_path: Path, number: int, table: int, descriptors: Sequence[int]) -> int:
    """Be worker `number` on inherited sockets, counting in an inherited table, until SIGTERM."""
    process.prepare()
    config = load_archive(config_path)
    archive = ArchiveSite(config, f"w{number}", SystemClock())
    process_log = log.get(role="archive", site=str(config.archive.site), process=f"worker-{number}")
    context = tls.ServerContext(tls_files(config))
    metrics = Metrics()
    with AuditDoor(archive.open_spool, archive.clock) as door:
        return process.work(
            archive,
            Worker(archive, door, process_log, acts(config, process_log), metrics),
            door,
            number=number,
            table=table,
            sockets=[(descriptor, context) for descriptor in descriptors],
            metrics=metrics,
            process_log=process_log,
        )


def keep(config_path: Path) -> int:
    """Be the keeper until SIGTERM."""
    process.prepare()
    limits.yield_to_workers()
    config = load_archive(config_path)
    archive = ArchiveSite(config, "keeper", SystemClock())
    process_log = log.get(role="archive", site=str(config.archive.site), process="keeper")
    metrics = Metrics()
    return process.keep(archive, Keeper(archive, process_log, metrics), metrics, process_log)


def acts(config: ArchiveConfig, process_log: log.Log) -> Acts:
    """What the archive does for a peer: everything from its own holdings."""
    files, alarm = tls_files(config), alarm_in(process_log)
    return Acts(
        find=lambda bound: Finding(bound.holding, bound.trail, config.limits.find_matches),
        retrieve=lambda bound: Retrieving(
            holding=bound.holding,
            entry=bound.entry,
            connect=connect_to(
                bound.entry.hospital, ae_title=config.archive.ae_title, tls_files=files
            ),
            trail=bound.trail,
            alarm=alarm,
        ),
        commit=lambda bound: Committing(
            bound.holding, bound.binding.calling_ae_title, our_gateway=bound.our_gateway
        ),
    )


def tls_files(config: ArchiveConfig) -> tls.TLSFiles:
    """The files of the archive's own TLS identity."""
    return tls.TLSFiles(
        certificate=config.tls.certificate,
        key=config.tls.key,
        authorities=config.tls.ca,
        revocations=config.tls.crl,
    )
