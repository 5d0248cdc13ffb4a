"""The tombstone: what an erasure took away, said without saying of whom.

It is the body of an event of kind "tombstone", which no erasure touches. It names the study by a
salted hash only: who knows the Study Instance UID can ask whether it was erased; nobody can learn a
UID from it. Packs, members and keys have names of ours in which there is no patient.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from harmoni.model.identifiers import PackId
from harmoni.sealing import document
from harmoni.sealing.document import Fields, Json
from harmoni.sealing.pack import PackKind, read_key_id

SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAs:
    """What sealing had found out about a pack's file."""

    size_bytes: int
    sha256: bytes
    """Of the file."""
    root: bytes
    """Merkle root over its members."""
    sealed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedPack:
    """A pack of instances, all of them of the study, and what is known of its file."""

    pack_id: PackId
    key_id: str
    """The data key that is gone; "" for a pack that is missing, whose README nobody could read."""
    sealed: SealedAs | None
    """None of a pack that never was sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedEvent:
    """An event that named the study."""

    pack_id: PackId
    sequence: int
    key_id: str
    """The data key that is gone; it encrypted events of this study alone. "" as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """One erasure."""

    study_hash: bytes
    """See `hash_of`."""
    salt: bytes
    """32 random bytes."""
    complete_at_ms: int
    """From when on no old copy of the keys is left, as the installation has promised."""
    packs: tuple[ErasedPack, ...]
    events: tuple[ErasedEvent, ...]

    @property
    def key_ids(self) -> frozenset[str]:
        """The data keys that must not be anywhere any more, as far as they are known."""
        of_packs = {each.key_id for each in self.packs}
        return frozenset(of_packs | {each.key_id for each in self.events}) - {""}

    def is_of(self, study_instance_uid: str) -> bool:
        """Whether it is this study that was erased."""
        return hash_of(study_instance_uid, self.salt) == self.study_hash

    def body(self) -> dict[str, Json]:
        """The body of the event."""
        return {
            "study": self.study_hash.hex(),
            "salt": document.octets_text(self.salt),
            "complete": document.time_text(self.complete_at_ms),
            "packs": [_pack_body(each) for each in self.packs],
            "events": [
                {"pack": str(each.pack_id), "sequence": each.sequence, "key": each.key_id}
                for each in self.events
            ],
        }

    @classmethod
    def of_body(cls, body: Mapping[str, Json]) -> Self:
        """Read the body of an event.

        Raises:
            Damaged: it is no tombstone's.
        """
        told = Fields(dict(body), "a tombstone")
        return cls(
            study_hash=told.digest("study"),
            salt=told.octets("salt", SALT_BYTES),
            complete_at_ms=told.time_ms("complete"),
            packs=tuple(map(_pack, told.objects("packs"))),
            events=tuple(
                ErasedEvent(
                    pack_id=each.pack_id("pack"),
                    sequence=each.number("sequence"),
                    key_id=_key_id(each),
                )
                for each in told.objects("events")
            ),
        )


def hash_of(study_instance_uid: str, salt: bytes) -> bytes:
    """SHA-256 over the salt and the UID, UTF-8."""
    return hashlib.sha256(salt + study_instance_uid.encode()).digest()


def _pack_body(erased: ErasedPack) -> dict[str, Json]:
    body: dict[str, Json] = {
        "pack": str(erased.pack_id),
        "kind": PackKind.INSTANCES.value,
        "key": erased.key_id,
    }
    if erased.sealed is not None:
        body |= {
            "size": erased.sealed.size_bytes,
            "sha256": erased.sealed.sha256.hex(),
            "root": erased.sealed.root.hex(),
            "sealed": document.time_text(erased.sealed.sealed_at_ms),
        }
    return body


def _pack(told: Fields) -> ErasedPack:
    sealed = None
    if told.has("size"):
        sealed = SealedAs(
            size_bytes=told.number("size"),
            sha256=told.digest("sha256"),
            root=told.digest("root"),
            sealed_at_ms=told.time_ms("sealed"),
        )
    return ErasedPack(pack_id=told.pack_id("pack"), key_id=_key_id(told), sealed=sealed)


def _key_id(told: Fields) -> str:
    return read_key_id(told, "key") if told.text("key") else ""
