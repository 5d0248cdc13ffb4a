"""The manifest of a pack: everything the index needs, readable from the pack's tail alone.

JSON, encrypted like a member. Patients, studies and series stand once each, with the raw elements
that the scanner read; an instance names its series by number, a series its study, a study its
patient, and the patient carries the character set. See docs/reference/pack-format.md.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from harmoni.model.errors import Damaged
from harmoni.model.header import Header
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.sealing import document, merkle
from harmoni.sealing.document import Fields, Json, octets_text, time_text
from harmoni.sealing.levels import (
    LevelTable,
    element_fields,
    read_elements,
    read_series,
    with_instance,
)
from harmoni.sealing.pack import MAX_SEQUENCE, SUITE, PackKind, read_key_id
from harmoni.sealing.provenance import SALT_BYTES, origin_fields, read_origin
from harmoni.sealing.streaming import Buffer

VERSION: Final = 1
"""Of the manifest. Frozen."""


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
        levels = LevelTable()
        origins: dict[Origin, int] = {}
        instances = [_instance_fields(instance, levels, origins) for instance in self.instances]
        return document.encode(
            {
                "version": VERSION,
                "suite": self.suite,
                "hospital": self.hospital.value,
                "site": self.site.value,
                "pack": self.pack_id.value,
                "kind": self.kind.value,
                "opened": time_text(self.opened_ms),
                "sealed": time_text(self.sealed_ms),
                "root": self.root.hex(),
                "scanner": self.scanner_version,
                "instances": instances,
                "events": [_event_fields(event) for event in self.events],
                "origins": [origin_fields(origin) for origin in origins],
                **levels.fields(),
            }
        )

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read an opened manifest.

        Raises:
            Damaged: it is not one, or its root is not that of its entries.
        """
        fields = document.decode(data, "the manifest", VERSION)
        pack_id = fields.pack_id("pack")
        series = read_series(fields)
        origins = [read_origin(origin) for origin in fields.objects("origins")]
        manifest = cls(
            hospital=fields.hospital("hospital"),
            site=fields.site("site"),
            pack_id=pack_id,
            kind=PackKind(fields.choice("kind", tuple(PackKind))),
            opened_ms=fields.time_ms("opened"),
            sealed_ms=fields.time_ms("sealed"),
            root=fields.digest("root"),
            scanner_version=fields.number("scanner"),
            suite=fields.suite(SUITE),
            instances=tuple(
                _read_instance(instance, pack_id, series, origins)
                for instance in fields.objects("instances")
            ),
            events=tuple(_read_event(event) for event in fields.objects("events")),
        )
        if manifest.root != manifest.expected_root():
            raise Damaged("the manifest's root is not that of its entries; use another copy")
        return manifest

    def expected_root(self) -> bytes:
        """The Merkle root of the entries, which `root` must be."""
        if self.kind is PackKind.INSTANCES:
            return pack_root(self.instances)
        return event_root(self.events)


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


def _instance_fields(
    instance: Instance, levels: LevelTable, origins: dict[Origin, int]
) -> dict[str, Json]:
    location, identity = instance.location, instance.identity
    return {
        "sequence": location.sequence,
        "offset": location.offset,
        "size": location.size_bytes,
        "sop_class": instance.sop_class_uid,
        "sop_instance": instance.sop_instance_uid,
        "transfer_syntax": identity.transfer_syntax_uid,
        "dataset_sha256": identity.sha256.hex(),
        "dataset_size": identity.size_bytes,
        "series": levels.add(instance.header),
        "elements": element_fields(instance.header.instance),
        "salt": octets_text(instance.salt),
        "received": time_text(instance.received_at_ms),
        "origin": origins.setdefault(instance.origin, len(origins)),
    }


def _read_instance(
    fields: Fields, pack_id: PackId, series: Sequence[Header], origins: Sequence[Origin]
) -> Instance:
    origin = fields.number("origin")
    if origin >= len(origins):
        raise Damaged(f"the manifest has no origin {origin}; use another copy")
    return Instance(
        sop_class_uid=fields.text("sop_class"),
        sop_instance_uid=fields.text("sop_instance"),
        header=with_instance(
            series, fields.number("series"), read_elements(fields.entries("elements"))
        ),
        identity=Identity(
            transfer_syntax_uid=fields.text("transfer_syntax"),
            sha256=fields.digest("dataset_sha256"),
            size_bytes=fields.number("dataset_size"),
        ),
        location=Location(
            pack_id=pack_id,
            sequence=fields.number("sequence", MAX_SEQUENCE),
            offset=fields.number("offset"),
            size_bytes=fields.number("size"),
        ),
        salt=fields.octets("salt", SALT_BYTES),
        received_at_ms=fields.time_ms("received"),
        origin=origins[origin],
    )


def _event_fields(event: ListedEvent) -> dict[str, Json]:
    return {
        "sequence": event.sequence,
        "offset": event.offset,
        "size": event.size_bytes,
        "key": event.key_id,
        "kind": event.kind,
        "time": time_text(event.at_ms),
        "sha256": event.sha256.hex(),
        "salt": octets_text(event.salt),
    }


def _read_event(fields: Fields) -> ListedEvent:
    return ListedEvent(
        sequence=fields.number("sequence", MAX_SEQUENCE),
        offset=fields.number("offset"),
        size_bytes=fields.number("size"),
        key_id=read_key_id(fields, "key"),
        kind=fields.text("kind"),
        at_ms=fields.time_ms("time"),
        sha256=fields.digest("sha256"),
        salt=fields.octets("salt", SALT_BYTES),
    )
