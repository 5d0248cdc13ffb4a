"""Epoch keys, key blocks and data keys (docs/reference/keys-format.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.sealing.age import Identity, Recipient
from harmoni.sealing.streaming import Buffer

ROWS: Final = 256
KEY_BYTES: Final = 32
EPOCH_RANDOM_BYTES: Final = 64
BLOCK_RANDOM_BYTES: Final = ROWS * (12 + KEY_BYTES)


@dataclass(frozen=True, slots=True, order=True)
class KeyId:
    """The name of a data key: block and row; str() gives "<block>.<row>"."""

    block: str
    """A ULID, minted like a pack id."""
    row: int

    def __str__(self) -> str:
        return f"{self.block}.{self.row}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "<block>.<row>"; raises InvalidInput."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKey:
    """The key over all data keys of a hospital, site and month."""

    hospital: HospitalId
    site: SiteId
    month: str
    """Such as "2026-11"."""
    key: bytes

    def seal(self, recipients: Sequence[Recipient], *, random: bytes) -> bytes:
        """The age file; `random`: 32 bytes (age.encrypt)."""
        raise NotImplementedError

    @classmethod
    def open(cls, data: Buffer, identity: Identity) -> Self:
        """Read an age file; raises Damaged."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlock:
    """256 data keys minted ahead, each wrapped under one epoch key."""

    block_id: str
    hospital: HospitalId
    site: SiteId
    month: str
    """Site and month name the epoch key."""
    generation: int
    rows: Mapping[int, bytes]
    """Row number → nonce (12) | wrapped key (32) | tag (16). An erased row is absent."""

    @classmethod
    def mint(cls, *, block_id: str, epoch: EpochKey, random: bytes) -> Self:
        """Mint a block; `random`: BLOCK_RANDOM_BYTES."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """The file."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read a file; raises Damaged."""
        raise NotImplementedError

    def open_row(self, row: int, epoch: EpochKey) -> bytes:
        """The data key of a row; raises NotHeld if it was erased, Damaged if altered."""
        raise NotImplementedError

    def without(self, rows: frozenset[int]) -> Self:
        """The next generation, without those rows (erasure)."""
        raise NotImplementedError


def wrap_identity(kek: bytes, identity: Identity) -> bytes:
    """AES key wrap with padding (RFC 5649) of an identity's text."""
    raise NotImplementedError


def unwrap_identity(kek: bytes, wrapped: Buffer) -> Identity:
    """The inverse; raises ConfigurationError if the key encryption key is another."""
    raise NotImplementedError
