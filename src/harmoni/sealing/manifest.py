"""The manifest of a pack: everything the index needs, readable from the pack's tail alone.

JSON, encrypted like a member. Patients, studies and series stand once each, with the raw elements
that the scanner read; an instance names its series by number, a series its study, a study its
patient, and the patient carries the character set. See docs/reference/pack-format.md.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.model.instance import Instance
from harmoni.sealing import document, merkle
from harmoni.sealing.pack import SUITE, PackKind
from harmoni.sealing.streaming import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvent:
    """One event of an event pack as the manifest lists it: nothing of its body."""

    sequence: int
    offset: int
    """Offset of the ciphertext from the start of the file."""
    size_bytes: int
    """Length of the ciphertext."""
    key_id: str
    kind: str
    at_ms: int
    sha256: bytes
    """SHA-256 of the event's bytes before encryption."""
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a pack holds."""

    hospital: HospitalId
    site: SiteId
    pack_id: PackId
    kind: PackKind
    opened_ms: int
    sealed_ms: int
    root: bytes
    """`pack_root` of the instances, or `event_root` of the events."""
    scanner_version: int = 0
    """Version of the header scanner that read the instances' elements."""
    instances: tuple[Instance, ...] = ()
    """In ascending order of sequence, all of this pack."""
    events: tuple[ListedEvent, ...] = ()
    suite: str = SUITE

    def encode(self) -> bytes:
        """The JSON, before encryption."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read an opened manifest.

        Raises:
            Damaged: it is not one, or its root is not that of its entries.
        """
        raise NotImplementedError


def pack_root(instances: Sequence[Instance]) -> bytes:
    """The Merkle root of a pack of instances, in the order of their sequence.

    Entry: SHA-256 over salt (32 bytes), SOP Instance UID (UTF-8) and SHA-256 of the dataset (32).
    """
    return merkle.tree_hash(
        [
            _entry(instance.salt, instance.sop_instance_uid, instance.identity.sha256)
            for instance in sorted(instances, key=lambda instance: instance.location.sequence)
        ]
    )


def event_root(events: Sequence[ListedEvent]) -> bytes:
    """The Merkle root of an event pack; the event's kind stands in the UID's place."""
    return merkle.tree_hash(
        [
            _entry(event.salt, event.kind, event.sha256)
            for event in sorted(events, key=lambda event: event.sequence)
        ]
    )


def _entry(salt: bytes, name: str, sha256: bytes) -> bytes:
    return hashlib.sha256(salt + name.encode("utf-8", "surrogatepass") + sha256).digest()
