"""age v1 files with the hybrid recipient mlkem768x25519 (C2SP age; docs/reference/keys-format.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Recipient:
    """The public half."""

    key: bytes

    def to_string(self) -> str:
        """age1pq1…."""
        raise NotImplementedError

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read age1pq1…; raises InvalidInput."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Identity:
    """The private half: a seed of 32 bytes."""

    seed: bytes

    def to_string(self) -> str:
        """AGE-SECRET-KEY-PQ-1…."""
        raise NotImplementedError

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read AGE-SECRET-KEY-PQ-1…; raises InvalidInput."""
        raise NotImplementedError

    def recipient(self) -> Recipient:
        """The public half."""
        raise NotImplementedError


def generate_identity(*, random: bytes) -> Identity:
    """An identity from 32 random bytes."""
    raise NotImplementedError


def encrypt(plaintext: bytes, recipients: Sequence[Recipient], *, random: bytes) -> bytes:
    """Encrypt for all recipients; `random`: 32 bytes, file key and payload nonce."""
    raise NotImplementedError


def decrypt(data: bytes, identity: Identity) -> bytes:
    """Open a file; raises Damaged or NotHeld when not addressed to the identity."""
    raise NotImplementedError
