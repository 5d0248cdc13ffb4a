"""A centre of one site and its hospitals in one directory: files first, then processes.

    ca/                    the centre's authority
    dc1/                   archive.toml, custody.key, tls/, hospitals/, data/, archive.log
    hospital-a/            tls/ (the hospital's identity towards the archive), recovery.identity
    ports.json

Everything is made once and found again, so a demo started on the same directory goes on with the
same data. A real hospital's recovery identity never lies beside its archive; the demo has one
machine only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Final, Literal

from harmoni import config
from harmoni.archive import operate
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import ports
from harmoni.fleet import ca
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
    """A node of a hospital that is registered with the archive; the demo does not listen there."""

    ae_title: str
    role: Literal["pacs", "modality"]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One hospital of the demo.

    Attributes:
        hospital: its id.
        gateway_ae_title: what it calls itself towards the archive.
        peers: its registered nodes, the PACS first.
        tls_files: the hospital's identity towards the archive.
    """

    hospital: HospitalId
    gateway_ae_title: str
    peers: tuple[Peer, ...]
    tls_files: TLSFiles


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
        seal_after_s: every quiet time of the archive, in seconds.
        settings: `archive.key=value` each, which win over all else.
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
        ours=(_DICOM_PORT, _HTTP_PORT),
        peers=[f"{title}_{letter.upper()}" for letter in letters for title in ("PACS", "CT")],
    )
    builder = _Builder(store, _authority(store, clock), settled, clock)
    config_path, archive = builder.archive(seal_after_s, settings)
    return Centre(
        directory=directory.absolute(),
        config_path=config_path,
        archive=archive,
        houses=tuple(builder.house(archive, letter) for letter in letters),
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

    def archive(
        self, seal_after_s: float, settings: Sequence[str]
    ) -> tuple[Path, config.ArchiveConfig]:
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
            f"pack.quiet_s={seal_after_s}",
            f"pack.commitment_quiet_s={seal_after_s}",
            *settings,
        ):
            archive = config.override(archive, setting)
        self.store.replace(f"{SITE}/archive.toml", config.render(archive).encode())
        return path, archive

    def house(self, archive: config.ArchiveConfig, letter: str) -> House:
        """One hospital, registered with the archive and with an identity of its own."""
        hospital = HospitalId(f"hospital-{letter}")
        identity = self._identity(f"{hospital}/tls", hospital.value, hospital)
        directory = archive.archive.hospitals
        if hospital not in config.load_hospitals(directory):
            added = operate.add_hospital(
                archive,
                hospital_id=hospital.value,
                name=f"Hospital {letter.upper()}",
                recovery_recipient=None,
            )
            recovery = f"{added.recovery_identity}\n".encode()
            self.store.replace(f"{hospital}/recovery.identity", recovery)
        pacs, modality = f"PACS_{letter.upper()}", f"CT_{letter.upper()}"
        peers = (
            Peer(ae_title=pacs, role="pacs", port=self.ports[pacs]),
            Peer(ae_title=modality, role="modality", port=self.ports[modality]),
        )
        _register(directory, hospital, peers)
        return House(
            hospital=hospital,
            gateway_ae_title=f"GW_{letter.upper()}",
            peers=peers,
            tls_files=identity,
        )

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


def _register(directory: Path, hospital: HospitalId, peers: Sequence[Peer]) -> None:
    """Make the peers destinations of C-MOVE in the hospital's file."""
    entry = config.load_hospitals(directory)[hospital]
    destinations = tuple(
        config.DestinationSection(ae_title=peer.ae_title, host=ports.HOST, port=peer.port)
        for peer in peers
    )
    registered = entry.model_copy(update={"destination": destinations})
    Filesystem(directory).replace(f"{hospital}.toml", config.render(registered).encode())
