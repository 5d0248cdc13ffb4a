"""The models of gateway.toml: one hospital's gateway, its house and its centre."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from harmoni.config.fields import AETitle, ConfiguredPath, HospitalIdField, Port, Section
from harmoni.config.sections import (
    CustodySection,
    HTTPSection,
    KeysSection,
    LimitsSection,
    NodeSection,
    PackSection,
    ScrubSection,
)

PeerRight = Literal["echo", "store", "commit", "query", "browse", "move", "get", "destination"]

_BY_ROLE: Final[dict[str, tuple[PeerRight, ...]]] = {
    # `get` is not among them: a peer that calls in clear text is known by its address and its
    # name alone, and what it gets crosses the house's network in clear.
    "pacs": ("echo", "store", "commit", "query", "browse", "move", "destination"),
    "modality": ("echo", "store", "commit"),
}


class GatewaySection(NodeSection):
    """Which gateway this is and where it keeps its state."""

    hospital: HospitalIdField = Field(
        description="Id of the hospital, as the centre registered it; it is written into every "
        "pack and never changes."
    )
    patient_domain: str = Field(
        default="",
        max_length=64,
        description="Issuer of Patient ID that is assumed where an instance names none; one "
        "numbering of patients per domain.",
    )
    commit_after_s: float = Field(
        default=300.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Ask the centre for its commitment when a study was quiet for so long; at once "
        "when a peer asks.",
    )


class ListenSection(Section):
    """Where the hospital's own systems connect, in clear text, on the hospital's network."""

    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - a gateway listens to its house's network
        description="Address to listen on; one of this machine's in the hospital's network, or "
        "0.0.0.0 for all.",
    )
    port: Port = Field(
        default=11112, description="TCP port; 11112 is the one registered for DICOM (PS3.8 9.1)."
    )


class CentreSection(Section):
    """The archive that everything is sent to, always by DICOM over TLS."""

    host: str = Field(
        default="archive.example",
        min_length=1,
        description="Host name or address; the archive's certificate must name it.",
    )
    port: Port = Field(default=2762, description="TCP port that speaks DICOM over TLS.")
    ae_title: AETitle = Field(default="HARMONI", description="The archive's AE title.")
    associations: int = Field(
        default=3,
        ge=1,
        le=32,
        description="Studies that are sent at the same time, each on an association of its own.",
    )
    find_timeout_s: float = Field(
        default=5.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="How long a query waits for the centre before it is answered without it.",
    )
    strict: bool = Field(
        default=False,
        description="Fail a query (C001) when the centre is away, instead of answering with what "
        "the gateway knows. A gateway whose centre held something of the hospital before they "
        "first met is strict in any case: it cannot know all.",
    )


class SpaceSection(Section):
    """How much of its disk the gateway's copies may take. What is not safe elsewhere never goes."""

    evict_above: float = Field(
        default=0.80,
        gt=0,
        lt=1,
        description="Begin to let go of studies when so much of the file system is used, as a "
        "fraction; those that are safe at the centre, longest unused first.",
    )
    evict_to: float = Field(
        default=0.70,
        gt=0,
        lt=1,
        description="Stop when no more than so much is used. The lower, the longer old studies "
        "come from the centre, and the more room there is when the centre is away.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.evict_to >= self.evict_above:
            raise ValueError("evict_to must be less than evict_above; see what each is for")
        return self


class TLSSection(Section):
    """The hospital's identity towards the centre, and whom it believes there."""

    certificate: ConfiguredPath = Field(
        default=Path("tls/gateway.crt"),
        description="PEM file with the certificate chain; its SAN URI names the hospital.",
    )
    key: ConfiguredPath = Field(
        default=Path("tls/gateway.key"),
        description="PEM file with the certificate's private key, readable by this role alone.",
    )
    ca: ConfiguredPath = Field(
        default=Path("tls/ca.crt"),
        description="PEM file with the centre's authority, never a public one.",
    )
    crl: ConfiguredPath | None = Field(
        default=None, description="PEM file with the authority's revocation list."
    )


class PeerSection(Section):
    """One node of the hospital: a PACS, a modality, a workstation. Nobody else may call."""

    ae_title: AETitle = Field(description="What it calls itself.")
    role: Literal["pacs", "modality"] = Field(
        default="modality",
        description="Decides its rights where none are listed: a modality may echo, store and "
        "commit; a pacs may do everything but get, which crosses the network in clear text.",
    )
    rights: tuple[PeerRight, ...] | None = Field(
        default=None,
        description="What it may do, instead of what its role says: echo, store, commit, query, "
        "browse (queries of wildcards only), move, get, destination (receive by C-MOVE).",
    )
    addresses: tuple[IPv4Network | IPv6Network, ...] = Field(
        min_length=1,
        description="Where it calls from, such as 10.1.2.3/32 or, where addresses are handed out, "
        "a network; in clear text its address is most of what is known of it.",
    )
    host: str = Field(
        default="", description="Where it is called: storage of a C-MOVE, reports of a commitment."
    )
    port: int = Field(default=0, ge=0, le=65535, description="TCP port there; 0 for none.")
    assume_roles: bool = Field(
        default=False,
        description="Report to it on a new association even if it does not confirm the role of "
        "the reporting side, as some old systems do not.",
    )

    def granted(self) -> tuple[PeerRight, ...]:
        """What it may do: what is listed, or else what its role says."""
        return _BY_ROLE[self.role] if self.rights is None else self.rights


class GatewayConfig(Section):
    """The file gateway.toml: the gateway of one hospital."""

    gateway: GatewaySection
    listen: ListenSection = ListenSection()
    centre: CentreSection = CentreSection()
    tls: TLSSection = TLSSection()
    custody: CustodySection = CustodySection()
    keys: KeysSection = KeysSection()
    pack: PackSection = PackSection()
    space: SpaceSection = SpaceSection()
    scrub: ScrubSection = ScrubSection()
    limits: LimitsSection = LimitsSection()
    http: HTTPSection = HTTPSection()
    peer: tuple[PeerSection, ...] = Field(
        default=(), description="The nodes of the hospital that may call; none by default."
    )

    @field_validator("peer")
    @classmethod
    def _one_per_title(cls, peers: tuple[PeerSection, ...]) -> tuple[PeerSection, ...]:
        titles = [peer.ae_title for peer in peers]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"the AE title {', '.join(twice)} stands there twice; keep one")
        return peers

    @property
    def node(self) -> GatewaySection:
        """The section [gateway]."""
        return self.gateway
