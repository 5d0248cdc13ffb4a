"""A centre of one site and its hospitals in one directory: files first, then processes.

    ca/                    the centre's authority
    dc1/                   archive.toml, custody.key, tls/, hospitals/, data/, archive.log
    hospital-a/            recovery.identity
    hospital-a/gateway/    gateway.toml, custody.key, tls/, data/, gateway.log
    ports.json

Everything is made once and found again, so a demo started on the same directory goes on with the
same data. A real hospital's recovery identity never lies beside its archive; the demo has one
machine only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from string import ascii_lowercase
from typing import Final, Literal

from harmoni import config
from harmoni.archive import operate
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import ports
from harmoni.fleet import ca
from harmoni.gateway import operate as gateways
from harmoni.model.errors import ConfigurationError
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.net.tls import TLSFiles
from harmoni.runtime.clock import Clock

SITE: Final = "dc1"
ARCHIVE_AE_TITLE: Final = "HARMONI"
_DICOM_PORT: Final = f"{SITE} dicom"
_HTTP_PORT: Final = f"{SITE} http"
MOST_HOSPITALS: Final = len(ascii_lowercase)
# Long enough for a study to arrive, short enough to watch.
SEAL_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A node of a hospital, registered with its gateway; the demo does not listen there."""

    ae_title: str
    role: Literal["pacs", "modality"]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One hospital of the demo: its gateway, and the nodes that call it.

    Attributes:
        hospital: its id.
        config_path: of the gateway.
        gateway: the gateway's settings.
        peers: its nodes, the PACS first.
        tls_files: the hospital's identity towards the archive.
    """

    hospital: HospitalId
    config_path: Path
    gateway: config.GatewayConfig
    peers: tuple[Peer, ...]
    tls_files: TLSFiles

    @property
    def gateway_ae_title(self) -> str:
        """What the gateway is called, and calls itself towards the archive."""
        return self.gateway.gateway.ae_title


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """What was built: everything that is needed to start it and to talk to it."""

    directory: Path
    config_path: Path
    archive: config.ArchiveConfig
    houses: tuple[House, ...]


def build(
    directory: Path,
    *,
    hospitals: int,
    seal_after_s: float,
    settings: Sequence[str],
    clock: Clock,
) -> Centre:
    """Make, or find again, the files of a whole centre.

    Args:
        directory: an existing directory.
        hospitals: how many, 1 to 26; those of an earlier run beyond that number stay.
        seal_after_s: every quiet time, in seconds: before sealing, and before commitment is asked
            for.
        settings: `archive.key=value` or `gateway.key=value` each, which win over all else.
        clock: dates the certificates.

    Raises:
        ConfigurationError: a number or a setting is out of its range.
    """
    if not 1 <= hospitals <= MOST_HOSPITALS:
        raise ConfigurationError(
            f"{hospitals} hospitals are not possible; choose 1 to {MOST_HOSPITALS}"
        )
    store = Filesystem(directory.absolute())
    letters = ascii_lowercase[:hospitals]
    settled = ports.settle(
        store,
        ours=(
            _DICOM_PORT,
            _HTTP_PORT,
            *(f"{_hospital(letter)} {kind}" for letter in letters for kind in ("dicom", "http")),
        ),
        peers=[f"{title}_{letter.upper()}" for letter in letters for title in ("PACS", "CT")],
    )
    for_gateways = [each for each in settings if each.startswith("gateway.")]
    for_archive = [each for each in settings if each not in for_gateways]
    builder = _Builder(store, _authority(store, clock), settled, clock, seal_after_s)
    config_path, archive = builder.archive(for_archive)
    return Centre(
        directory=directory.absolute(),
        config_path=config_path,
        archive=archive,
        houses=tuple(builder.house(archive, letter, for_gateways) for letter in letters),
    )


def _authority(store: Filesystem, clock: Clock) -> ca.Authority:
    store.make_directory("ca")
    if not store.exists("ca/ca.crt"):
        made = ca.create_authority("HARMONI demo", clock.now_ms())
        store.replace("ca/ca.key", made.key_pem)
        store.replace("ca/ca.crt", made.cert_pem)
    return ca.Authority(cert_pem=store.read("ca/ca.crt"), key_pem=store.read("ca/ca.key"))


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes what is missing in the demo's directory."""

    store: Filesystem
    authority: ca.Authority
    ports: Mapping[str, int]
    clock: Clock
    seal_after_s: float

    def archive(self, settings: Sequence[str]) -> tuple[Path, config.ArchiveConfig]:
        """The archive's configuration: its path, and what stands in it now."""
        path = self.store.path(f"{SITE}/archive.toml")
        if not path.exists():
            self.store.make_directory(SITE)
            operate.initialise(path.parent, SITE)
        identity = self._identity(f"{SITE}/tls", "archive", SiteId(SITE))
        archive = config.load_archive(path)
        for setting in (
            f"archive.ae_title={ARCHIVE_AE_TITLE}",
            "archive.safe_copies=1",
            f"listen.host={ports.HOST}",
            f"listen.port={self.ports[_DICOM_PORT]}",
            f"http.port={self.ports[_HTTP_PORT]}",
            f"tls.ca={identity.authorities}",
            f"tls.certificate={identity.certificate}",
            f"tls.key={identity.key}",
            f"pack.quiet_s={self.seal_after_s}",
            f"pack.commitment_quiet_s={self.seal_after_s}",
            *settings,
        ):
            archive = config.override(archive, setting)
        self.store.replace(f"{SITE}/archive.toml", config.render(archive).encode())
        return path, archive

    def house(self, archive: config.ArchiveConfig, letter: str, settings: Sequence[str]) -> House:
        """One hospital, registered with the archive, with a gateway and an identity of its own."""
        hospital = _hospital(letter)
        self.store.make_directory(hospital.value)
        hospitals = config.load_hospitals(archive.archive.hospitals)
        if hospital in hospitals:
            recipient = hospitals[hospital].recovery_recipient
        else:
            added = operate.add_hospital(
                archive,
                hospital_id=hospital.value,
                name=f"Hospital {letter.upper()}",
                recovery_recipient=None,
            )
            recovery = f"{added.recovery_identity}\n".encode()
            self.store.replace(f"{hospital}/recovery.identity", recovery)
            recipient = added.recovery_recipient
        pacs, modality = f"PACS_{letter.upper()}", f"CT_{letter.upper()}"
        peers = (
            Peer(ae_title=pacs, role="pacs", port=self.ports[pacs]),
            Peer(ae_title=modality, role="modality", port=self.ports[modality]),
        )
        path, gateway, identity = self._gateway(archive, hospital, recipient, peers, settings)
        return House(
            hospital=hospital,
            config_path=path,
            gateway=gateway,
            peers=peers,
            tls_files=identity,
        )

    def _gateway(
        self,
        archive: config.ArchiveConfig,
        hospital: HospitalId,
        recipient: str,
        peers: Sequence[Peer],
        settings: Sequence[str],
    ) -> tuple[Path, config.GatewayConfig, TLSFiles]:
        """The gateway's configuration: its path, what stands in it now, and its identity."""
        folder, letter = f"{hospital}/gateway", hospital.value[-1]
        path = self.store.path(f"{folder}/gateway.toml")
        if not path.exists():
            gateways.initialise(
                path.parent,
                hospital_id=hospital.value,
                ae_title=f"GW_{letter.upper()}",
                site=f"gw-{letter}",
                recovery_recipient=recipient,
            )
        identity = self._identity(f"{folder}/tls", "gateway", hospital)
        gateway = config.load_gateway(path)
        for setting in (
            "gateway.safe_copies=1",
            f"gateway.commit_after_s={self.seal_after_s}",
            f"listen.host={ports.HOST}",
            f"listen.port={self.ports[f'{hospital} dicom']}",
            f"centre.host={archive.listen.host}",
            f"centre.port={archive.listen.port}",
            f"centre.ae_title={archive.archive.ae_title}",
            f"http.port={self.ports[f'{hospital} http']}",
            f"tls.ca={identity.authorities}",
            f"tls.certificate={identity.certificate}",
            f"tls.key={identity.key}",
            f"pack.quiet_s={self.seal_after_s}",
            f"pack.commitment_quiet_s={self.seal_after_s}",
            *settings,
        ):
            gateway = config.override(gateway, setting)
        gateway = gateway.model_copy(update={"peer": tuple(map(_section, peers))})
        self.store.replace(f"{folder}/gateway.toml", config.render(gateway).encode())
        return path, gateway, identity

    def _identity(self, folder: str, name: str, owner: HospitalId | SiteId) -> TLSFiles:
        """The identity in a folder, issued when it is missing."""
        self.store.make_directory(folder)
        trusted, certificate, key = (
            f"{folder}/ca.crt",
            f"{folder}/{name}.crt",
            f"{folder}/{name}.key",
        )
        if not self.store.exists(certificate):
            issued = ca.issue(
                self.authority,
                owner=owner,
                common_name=owner.value,
                now_ms=self.clock.now_ms(),
                dns_names=("localhost",),
                ip_addresses=(ports.HOST,),
            )
            self.store.replace(key, issued.key_pem)
            self.store.replace(trusted, self.authority.cert_pem)
            self.store.replace(certificate, issued.cert_pem)
        path = self.store.path
        return TLSFiles(certificate=path(certificate), key=path(key), authorities=path(trusted))


def _hospital(letter: str) -> HospitalId:
    return HospitalId(f"hospital-{letter}")


def _section(peer: Peer) -> config.PeerSection:
    """A node as the gateway's configuration names it.

    On loopback both may do more than they should in a house: the PACS may get in clear text, and
    the modality may be a destination.
    """
    loopback = (IPv4Network(ports.HOST),)
    base = config.PeerSection(ae_title=peer.ae_title, role=peer.role, addresses=loopback)
    more: tuple[config.PeerRight, ...] = ("get",) if peer.role == "pacs" else ("destination",)
    return base.model_copy(
        update={
            "rights": (*base.granted(), *more),
            "host": ports.HOST,
            "port": peer.port,
        }
    )
