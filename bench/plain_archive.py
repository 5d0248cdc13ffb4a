"""The archive role on a clear listener on loopback, all of which is one hospital: for bench only.

Everything else is the product's: supervisor, workers, keeper, audit, flushes. What a certificate
says otherwise is said here for everybody who calls. Nothing below src/ can do this.

    python bench/plain_archive.py serve CONFIG
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from harmoni.archive import app
from harmoni.archive.site import ArchiveSite
from harmoni.config import ArchiveConfig, load_archive
from harmoni.dicom.pdu import AssociateRQ, ProposedContext
from harmoni.net import client, server
from harmoni.net.driver import Channel
from harmoni.net.peer import PeerFacts
from harmoni.net.tls import CertificateFacts
from harmoni.policy.access import Peer
from harmoni.role import process
from harmoni.role.handlers import Retrieving, alarm_in
from harmoni.role.process import Program
from harmoni.role.trail import AuditDoor
from harmoni.role.worker import Acts, Worker
from harmoni.runtime import log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.metrics import Metrics

HOST: Final = "127.0.0.1"
HOSPITAL: Final = "hospital-a"
_EVERYBODY: Final = CertificateFacts(
    subject="CN=bench",
    uris=(f"urn:harmoni:hospital:{HOSPITAL}",),
    serial="00",
    not_before_ms=0,
    not_after_ms=1 << 60,
    fingerprint="00",
)


class PlainWorker(Worker):
    """A worker to which everybody on loopback is the one hospital."""

    def decide(self, request: AssociateRQ, facts: PeerFacts) -> server.Decision:
        """Decide as if the peer had shown the hospital's certificate."""
        assert facts.address == HOST
        return super().decide(request, replace(facts, certificate=_EVERYBODY))


def serve(config_path: Path) -> int:
    """Run the role in the foreground until SIGTERM."""
    config = load_archive(config_path)
    assert config.listen.host == HOST
    log.configure()
    archive = ArchiveSite(config, "serve", SystemClock())
    program = Program(
        module="plain_archive", keepers=("keeper",), listen=((HOST, config.listen.port),)
    )
    return process.serve(archive, config_path, program)


def work(config_path: Path, number: int, table: int, descriptors: list[int]) -> int:
    """Be worker `number`, without TLS."""
    process.prepare()
    config = load_archive(config_path)
    archive = ArchiveSite(config, f"w{number}", SystemClock())
    process_log = log.get(role="bench", site=str(config.archive.site), process=f"worker-{number}")
    metrics = Metrics()
    with AuditDoor(archive.open_spool, archive.clock) as door:
        return process.work(
            archive,
            PlainWorker(archive, door, process_log, acts(config, process_log), metrics),
            door,
            number=number,
            table=table,
            sockets=[(descriptor, None) for descriptor in descriptors],
            metrics=metrics,
            process_log=process_log,
        )


def acts(config: ArchiveConfig, process_log: log.Log) -> Acts:
    """The role's, but C-MOVE sends in clear text, on loopback."""

    def connect(destination: Peer, contexts: Sequence[ProposedContext]) -> Channel:
        assert destination.host == HOST
        return client.open_association(
            host=destination.host,
            port=destination.port,
            tls=None,
            called_ae_title=destination.ae_title,
            calling_ae_title=config.archive.ae_title,
            contexts=contexts,
        )

    return replace(
        app.acts(config, process_log),
        retrieve=lambda bound: Retrieving(
            holding=bound.holding,
            entry=bound.entry,
            connect=connect,
            trail=bound.trail,
            alarm=alarm_in(process_log),
        ),
    )


def main(arguments: list[str]) -> int | None:
    """Run `serve CONFIG`, or one of the processes that it starts."""
    match arguments:
        case ["serve", config]:
            return serve(Path(config))
        case ["worker", config, number, table, *descriptors]:
            return work(Path(config), int(number), int(table), list(map(int, descriptors)))
        case ["keeper", config]:
            return app.keep(Path(config))
        case _:
            return None


if __name__ == "__main__":
    sys.exit(process.run_child("bench/plain_archive.py serve", lambda: main(sys.argv[1:])))
