"""Sections that the files of both roles have, and the shape of a role's configuration."""

from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import Field, StringConstraints

from harmoni.config.fields import AETitle, ConfiguredPath, Section, SiteIdField

_MEBIBYTE: Final = 1 << 20


class NodeSection(Section):
    """Which node this is and where it keeps its state."""

    site: SiteIdField = Field(
        description="Id of this place, 1 to 15 of a-z, 0-9 and '-'; it is written into every "
        "pack and never changes."
    )
    site_number: int = Field(
        default=0,
        ge=0,
        le=1023,
        description="Number of this place, part of every pack id, so that two sites can never mint "
        "the same; different at each site.",
    )
    node: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")] = Field(
        default="node1",
        description="Name of this machine among those of the site; it becomes part of the names "
        "of the writers, so no two machines may share it.",
    )
    ae_title: AETitle = Field(
        default="HARMONI",
        description="The called AE title that this node answers to; any other is rejected.",
    )
    data: ConfiguredPath = Field(
        default=Path("data"),
        description="Directory with all the state: packs, keys, index, log, audit; on a local "
        "file system, because flushes must mean what they say.",
    )
    workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes that accept associations; about one per core that receiving may "
        "take, since each is one busy Python interpreter.",
    )
    reserve_bytes: int = Field(
        default=1024 * _MEBIBYTE,
        ge=0,
        json_schema_extra={"unit": "bytes"},
        description="No instance is taken in (A700) while less than this is free on a disk of "
        "packs, keys, index or audit, so that sealing, commitment, audit and a gateway's letting "
        "go always find room. Others who write to the same disk may take it all the same.",
    )
    safe_copies: int = Field(
        default=2,
        ge=1,
        le=2,
        description="Verified copies, at different sites, that stand behind a storage commitment; "
        "1 only where there is one site. It is never lowered by the program. Sites do not "
        "replicate yet: with 2 no commitment is ever answered, so set 1, knowing what one disk is.",
    )


class CustodySection(Section):
    """What the site's own identities are wrapped with."""

    key_file: ConfiguredPath = Field(
        default=Path("custody.key"),
        description="File of 32 random bytes, mode 0600, outside the data directory and never in "
        "one backup set with it: together they open everything.",
    )


class KeysSection(Section):
    """Where copies of the wrapped keys are kept. Without keys no pack opens, ever again."""

    copies: tuple[ConfiguredPath, ...] = Field(
        default=(),
        description="Directories that get a copy of every epoch key and key block within seconds, "
        "as keys/HOSPITAL below each; name two on other machines, so that there are three. Never "
        "one that holds custody.key or its backup. Each is made by you, below a mount point and "
        "not the mount point itself, so that it is missing when nothing is mounted.",
    )
    erasure_horizon_days: float = Field(
        default=90.0,
        gt=0,
        json_schema_extra={"unit": "days"},
        description="After so long no backup and no offline medium has an old copy of a key block: "
        "an erasure is complete then, not before. Keep backups of keys no longer than this.",
    )


class PackSection(Section):
    """When an open pack is sealed. Shorter times make more and smaller packs."""

    quiet_s: float = Field(
        default=600.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seal a pack when nothing was added for so long; a study seldom pauses longer.",
    )
    max_age_s: float = Field(
        default=3600.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seal a pack at this age even if it still grows, so that replication and "
        "commitment never wait longer.",
    )
    max_bytes: int = Field(
        default=256 * _MEBIBYTE,
        ge=_MEBIBYTE,
        json_schema_extra={"unit": "bytes"},
        description="Seal a pack of this size; bigger instances have a pack of their own.",
    )
    max_open: int = Field(
        default=512,
        ge=1,
        description="Open packs per worker; beyond it the one that was quiet longest is sealed. "
        "Each holds a file descriptor.",
    )
    commitment_quiet_s: float = Field(
        default=20.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Seal the packs that a commitment request names after so long without "
        "arrivals, so that commitment is not as slow as quiet_s.",
    )


class ScrubSection(Section):
    """How often sealed packs are read again, to find out whether they are what was sealed."""

    cycle_days: float = Field(
        default=90.0,
        gt=0,
        json_schema_extra={"unit": "days"},
        description="Every sealed pack is read whole so often; disks lose what nobody reads.",
    )
    young_days: float = Field(
        default=7.0,
        gt=0,
        json_schema_extra={"unit": "days"},
        description="The first time after sealing: what a new disk or controller does to a pack "
        "shows early.",
    )
    mib_per_second: float = Field(
        default=64.0,
        gt=0,
        json_schema_extra={"unit": "MiB/s"},
        description="Read no faster on average, over all hospitals, so that senders and people "
        "who read have the disk. 123 TB in 90 days need 16.",
    )
    opened_percent: float = Field(
        default=1.0,
        ge=0,
        le=100,
        json_schema_extra={"unit": "percent a month"},
        description="Share of the packs that is decrypted and parsed besides, each month: a hash "
        "does not tell whether keys and programs still open what it is of.",
    )


class LimitsSection(Section):
    """What a peer may take. Every value bounds memory, threads or time."""

    associations_per_worker: int = Field(
        default=64,
        ge=1,
        description="Associations at once in one worker; each is a thread. Beyond it: rejected, "
        "local limit exceeded.",
    )
    associations_per_address: int = Field(
        default=32,
        ge=1,
        description="Associations at once from one address, over all workers of the node, so "
        "that one sender cannot take every place.",
    )
    handshake_s: float = Field(
        default=10.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Time for the TLS handshake; a silent client costs a thread no longer.",
    )
    artim_s: float = Field(
        default=10.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Time for A-ASSOCIATE-RQ to arrive and for a closing peer to go "
        "(ARTIM, PS3.8 9.1.5); each keeps a thread meanwhile.",
    )
    idle_s: float = Field(
        default=300.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Abort an association on which nothing came for so long.",
    )
    drain_s: float = Field(
        default=30.0,
        gt=0,
        json_schema_extra={"unit": "seconds"},
        description="Time that associations have to end after SIGTERM before they are aborted.",
    )
    find_matches: int = Field(
        default=10_000,
        ge=1,
        description="Matches that one C-FIND returns before it ends with A700, so that a careless "
        "wildcard does not list the hospital.",
    )


class HTTPSection(Section):
    """Health and metrics, for the machines of the centre only; they hold no patient data."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; it speaks plain HTTP, keep it on loopback or on a "
        "management network.",
    )
    port: int = Field(
        default=0, ge=0, le=65535, description="TCP port of /healthz and /metrics; 0 for none."
    )


class RoleConfig(Protocol):
    """What the configuration of either role says about its node."""

    @property
    def node(self) -> NodeSection:
        """The role's own section: [archive] or [gateway]."""
        ...

    @property
    def custody(self) -> CustodySection:
        """What the node's identities are wrapped with."""
        ...

    @property
    def keys(self) -> KeysSection:
        """Where copies of keys are kept."""
        ...

    @property
    def pack(self) -> PackSection:
        """When packs are sealed."""
        ...

    @property
    def scrub(self) -> ScrubSection:
        """How often packs are read again."""
        ...

    @property
    def limits(self) -> LimitsSection:
        """What a peer may take."""
        ...

    @property
    def http(self) -> HTTPSection:
        """Health and metrics."""
        ...
