"""The models of archive.toml."""

from pathlib import Path

from pydantic import Field

from harmoni.config.fields import ConfiguredPath, Port, Section
from harmoni.config.sections import (
    CustodySection,
    HTTPSection,
    KeysSection,
    LimitsSection,
    NodeSection,
    PackSection,
    ScrubSection,
)


class ArchiveSection(NodeSection):
    """Which archive this is and where it keeps its state."""

    hospitals: ConfiguredPath = Field(
        default=Path("hospitals"),
        description="Directory with one TOML file per hospital; a hospital without a file is "
        "refused.",
    )


class ListenSection(Section):
    """Where hospitals connect, always by DICOM over TLS."""

    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - an archive listens to the hospitals' networks
        description="Address to listen on; one of this machine's, or 0.0.0.0 for all.",
    )
    port: Port = Field(
        default=2762,
        description="TCP port; 2762 is the one registered for DICOM over TLS (PS3.15 B.12).",
    )


class TLSSection(Section):
    """The archive's own certificate and whom it believes (PS3.15 B.12, mutual)."""

    certificate: ConfiguredPath = Field(
        default=Path("tls/archive.crt"),
        description="PEM file with the archive's certificate chain; its SAN URI names the site.",
    )
    key: ConfiguredPath = Field(
        default=Path("tls/archive.key"),
        description="PEM file with the certificate's private key, readable by this role alone.",
    )
    ca: ConfiguredPath = Field(
        default=Path("tls/ca.crt"),
        description="PEM file with the authority whose certificates identify hospitals and sites; "
        "the centre's own, never a public one.",
    )
    crl: ConfiguredPath | None = Field(
        default=None,
        description="PEM file with the authority's revocation list; without it a stolen key "
        "serves until its certificate ends.",
    )


class ArchiveConfig(Section):
    """The file archive.toml: one archive node."""

    archive: ArchiveSection
    listen: ListenSection = ListenSection()
    tls: TLSSection = TLSSection()
    custody: CustodySection = CustodySection()
    keys: KeysSection = KeysSection()
    pack: PackSection = PackSection()
    scrub: ScrubSection = ScrubSection()
    limits: LimitsSection = LimitsSection()
    http: HTTPSection = HTTPSection()

    @property
    def node(self) -> ArchiveSection:
        """The section [archive]."""
        return self.archive
