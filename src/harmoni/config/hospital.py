"""The models of a hospital's file: the hospital as the archive knows it."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, field_validator

from harmoni.config.fields import AETitle, HospitalIdField, Port, Section

Right = Literal["echo", "store", "commit", "query", "browse", "move", "get"]
ALL_RIGHTS: Final[tuple[Right, ...]] = (
    "echo",
    "store",
    "commit",
    "query",
    "browse",
    "move",
    "get",
)


class DestinationSection(Section):
    """A node that C-MOVE may send to: DICOM over TLS, its certificate names the same hospital."""

    ae_title: AETitle = Field(description="AE title, as the C-MOVE request names it.")
    host: str = Field(min_length=1, description="Host name or address.")
    port: Port = Field(description="TCP port that speaks DICOM over TLS.")


class HospitalConfig(Section):
    """The file hospitals/<id>.toml: one hospital as the archive knows it."""

    id: HospitalIdField = Field(
        description="Opaque id, 3 to 63 of a-z, 0-9 and '-'; minted once, never reused, and the "
        "name of this file."
    )
    name: str = Field(
        min_length=1, max_length=200, description="Name for people; nothing depends on it."
    )
    recovery_recipient: Annotated[str, StringConstraints(pattern=r"^age1pq1[0-9a-z]+$")] = Field(
        description="Recipient of the hospital's recovery identity (age, hybrid); every epoch key "
        "is encrypted to it, so that the hospital can always read its own."
    )
    suspended: bool = Field(
        default=False, description="Refuse every association of this hospital; nothing is erased."
    )
    patient_domain: str = Field(
        default="",
        max_length=64,
        description="Issuer of Patient ID that is assumed where an instance names none; one "
        "numbering of patients per domain.",
    )
    calling_ae_titles: tuple[AETitle, ...] = Field(
        default=(),
        description="Calling AE titles that are allowed; empty for any, since the certificate "
        "decides who it is.",
    )
    addresses: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Addresses or networks that are allowed, such as 10.1.0.0/16; empty for any.",
    )
    rights: tuple[Right, ...] = Field(
        default=ALL_RIGHTS,
        description="What its gateway may do: echo, store, commit, query, browse (queries of "
        "wildcards only), move, get.",
    )
    destination: tuple[DestinationSection, ...] = Field(
        default=(), description="Nodes that C-MOVE may send to; none by default."
    )

    @field_validator("destination")
    @classmethod
    def _one_per_title(
        cls, destinations: tuple[DestinationSection, ...]
    ) -> tuple[DestinationSection, ...]:
        titles = [destination.ae_title for destination in destinations]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"the AE title {', '.join(twice)} stands there twice; keep one")
        return destinations
