"""One stored instance: what it is, where it lies and how it came."""

from dataclasses import dataclass
from typing import Literal

from harmoni.model.header import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, Header
from harmoni.model.identifiers import PackId

Verdict = Literal["match", "mismatch", "unobservable"]


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two objects the same: transfer syntax and SHA-256 of the dataset as received."""

    transfer_syntax_uid: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where a member's ciphertext lies.

    The order (pack, sequence) decides which of several equal copies is the canonical one.
    """

    pack_id: PackId
    sequence: int
    offset: int
    """Offset in bytes of the member's ciphertext from the start of the pack's file."""
    size_bytes: int
    """Length in bytes of the ciphertext."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sent an instance, from where, and what node identity said (mission M4)."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    verdict: tuple[tuple[str, Verdict], ...] = ()
    """Factor of identity and verdict, such as ("certificate", "match")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Everything that is known of one stored version of a SOP Instance."""

    sop_class_uid: str
    sop_instance_uid: str
    header: Header
    identity: Identity
    location: Location
    salt: bytes
    """32 random bytes that hide UID and hash in the pack root."""
    received_at_ms: int
    """Receive time, milliseconds since 1970, UTC."""
    origin: Origin

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID, or "" for the classes that have none (palettes, protocols)."""
        return self.header.uid(STUDY_INSTANCE_UID)

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID, or ""."""
        return self.header.uid(SERIES_INSTANCE_UID)
