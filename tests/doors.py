"""A port of a running role that speaks DICOM, and how one peer that is known there comes to it."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from pynetdicom._globals import DEFAULT_MAX_LENGTH
from pynetdicom.association import Association

import archive_role
from archive_role import ARTIM_S, HANDSHAKE_S, HOST, SEAL_AFTER_S, ArchiveRole
from harmoni import config
from harmoni.archive.site import ArchiveSite
from harmoni.backends.filesystem import Filesystem
from harmoni.config.sections import LimitsSection
from harmoni.demo import serve
from harmoni.demo.processes import Role
from harmoni.gateway.house import House
from harmoni.holdings.holding import Holding
from harmoni.index import lookup
from harmoni.index.lookup import Held
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock

HOSPITAL = "hospital-b"
_CONNECT_S = 15
_LOOPBACK = IPv4Network("127.0.0.0/8")
_GATEWAY = (
    f"pack.quiet_s={SEAL_AFTER_S}",
    f"pack.commitment_quiet_s={SEAL_AFTER_S}",
    f"limits.handshake_s={HANDSHAKE_S}",
    f"limits.artim_s={ARTIM_S}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a role is called, and by whom.

    Attributes:
        process: the role.
        config_path: of its configuration; its log lies beside it.
        limits: what it gives to its peers.
        port: where it speaks DICOM.
        http_port: where it tells its health.
        called: its AE title.
        calling: an AE title that it knows.
        security: of a client that it knows; None where it speaks in clear text.
        processes: how many it has.
        beside: opens what the hospital holds there, as an operator's command does.
    """

    process: Role
    config_path: Path
    limits: LimitsSection
    port: int
    http_port: int
    called: str
    calling: str
    security: ssl.SSLContext | None
    processes: int
    beside: Callable[[], Holding]

    def connect(self, address: str = HOST) -> socket.socket:
        """Connect from an address of this machine; the TLS handshake, if there is one, is over."""
        plain = self.knock(address)
        return plain if self.security is None else self.security.wrap_socket(plain)

    def knock(self, address: str = HOST) -> socket.socket:
        """Connect without a word."""
        return socket.create_connection(
            (HOST, self.port), timeout=_CONNECT_S, source_address=(address, 0)
        )

    def associated(
        self,
        contexts: Sequence[tuple[str, Sequence[str]]],
        *,
        roles: Sequence[object] = (),
        handlers: Sequence[object] = (),
        most_bytes: int = DEFAULT_MAX_LENGTH,
    ) -> AbstractContextManager[Association]:
        """A pynetdicom association, released at the end."""
        return archive_role.associated(
            self.port,
            contexts,
            called=self.called,
            calling=self.calling,
            security=self.security,
            roles=roles,
            handlers=handlers,
            log=self.log,
            most_bytes=most_bytes,
        )

    def versions(self, sop_instance_uid: str) -> list[Held]:
        """Every copy of an instance that the role's index tells of."""
        index = self.beside().index
        try:
            with index.reader() as connection:
                return lookup.versions(connection, sop_instance_uid)
        finally:
            index.database().close()

    def log(self) -> str:
        """What the role has logged so far."""
        return serve.log_path(self.config_path).read_text()


def of_archive(running: ArchiveRole) -> Door:
    """The archive's port, which speaks TLS, for a node of one hospital."""
    settings = running.centre.archive
    return Door(
        process=running.process,
        config_path=running.centre.config_path,
        limits=settings.limits,
        port=settings.listen.port,
        http_port=settings.http.port,
        called=archive_role.CALLED,
        calling="PYNET",
        security=archive_role.client_context(running.house(HOSPITAL).tls_files),
        processes=4,  # supervisor, two workers, keeper
        beside=lambda: ArchiveSite(settings, "beside", SystemClock()).holding(HospitalId(HOSPITAL)),
    )


@contextmanager
def of_gateway(running: ArchiveRole) -> Iterator[Door]:
    """Run that hospital's gateway beside the archive; its port, in clear text, for the PACS."""
    house = running.house(HOSPITAL)
    settings = house.gateway
    for setting in _GATEWAY:
        settings = config.override(settings, setting)
    # A second address of this machine is one of the house's too: floods come from there.
    peers = [each.model_copy(update={"addresses": (_LOOPBACK,)}) for each in settings.peer]
    settings = settings.model_copy(update={"peer": tuple(peers)})
    path = house.config_path
    Filesystem(path.parent).replace(path.name, config.render(settings).encode())
    with serve.gateway_role(house, SystemClock()) as process:
        yield Door(
            process=process,
            config_path=path,
            limits=settings.limits,
            port=settings.listen.port,
            http_port=settings.http.port,
            called=house.gateway_ae_title,
            calling=house.peers[0].ae_title,
            security=None,
            processes=5,  # a forwarder besides
            beside=lambda: House(settings, path, "beside", SystemClock()).own,
        )
