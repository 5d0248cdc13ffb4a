"""Make the vectors in this folder: sealed files, good and bad, and index.json, which judges them.

    python tests/vectors/make_vectors.py

Everything comes from fixed seeds, so a second run changes nothing. Only the age file cannot be
made again, because encapsulation draws its own randomness: an existing one is kept. Once a format
is frozen its vectors stay as they are for ever; a new version gets vectors of its own.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from harmoni.model.header import PATIENT_ID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, Element, Header
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.sealing import age, keys, manifest, pack, streaming, tail, tar
from harmoni.sealing.event import Event
from harmoni.sealing.keys import EpochKey, KeyBlock, KeyId
from harmoni.sealing.manifest import ListedEvent, Manifest
from harmoni.sealing.pack import Kind, PackKind, PublicMember, PublicTable, Readme

FOLDER = Path(__file__).parent
HOSPITAL, SITE, MONTH = HospitalId("h-vectors"), SiteId("dc1"), "2026-11"
TIME_MS = 1_795_492_800_000
FIRST = streaming.SEGMENT_BYTES - streaming.HEADER_BYTES - streaming.TAG_BYTES
FULL = streaming.SEGMENT_BYTES - streaming.TAG_BYTES


def seeded(label: str, size: int) -> bytes:
    """Bytes that look random; the label decides which."""
    return hashlib.shake_256(f"HARMONI vectors: {label}".encode()).digest(size)


def ulid(label: str) -> PackId:
    return PackId.build(time_ms=TIME_MS, site_number=1, random=seeded(label, 9))


IDENTITY = age.generate_identity(random=seeded("identity", age.SEED_BYTES))
STRANGER = age.generate_identity(random=seeded("stranger", age.SEED_BYTES))
EPOCH = EpochKey(hospital=HOSPITAL, site=SITE, month=MONTH, key=seeded("epoch", 32))
BLOCK = KeyBlock.mint(
    block_id=ulid("block").value, epoch=EPOCH, random=seeded("rows", keys.BLOCK_RANDOM_BYTES)
)


@dataclass
class Index:
    """Writes files and notes what must become of each."""

    folder: Path
    entries: list[dict[str, object]] = field(default_factory=list)

    def add(self, name: str, data: bytes, outcome: str, why: str, **facts: object) -> bytes:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        kind = path.parent.name.removesuffix("s")
        self.entries.append({"file": name, "kind": kind, "outcome": outcome, "why": why} | facts)
        return data


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def make_members(index: Index) -> None:
    key, bound = seeded("member key", 32), b"associated data of the vectors"
    facts = {"data_key": key.hex(), "associated_data": bound.decode()}

    def member(name: str, size: int) -> bytes:
        return bytes(
            streaming.encrypt(
                [seeded(name, size)],
                data_key=key,
                associated_data=bound,
                salt=seeded(f"{name} salt", streaming.SALT_BYTES),
                nonce_prefix=seeded(f"{name} nonce", streaming.NONCE_PREFIX_BYTES),
            )
        )

    def good(name: str, size: int, why: str) -> bytes:
        plain = hashlib.sha256(seeded(name, size)).hexdigest()
        sums = {"plaintext_size": size, "plaintext_sha256": plain}
        return index.add(f"members/{name}.bin", member(name, size), "opens", why, **facts, **sums)

    def bad(name: str, data: bytes, why: str) -> None:
        index.add(f"members/{name}.bin", data, "damaged", why, **facts)

    good("empty", 0, "no plaintext: header and tag only")
    small = good("small", 100, "one short segment")
    good("one-segment", FIRST, "the first segment is exactly full")
    good("one-byte-more", FIRST + 1, "one byte in the second segment")
    three = good("three-segments", FIRST + 2 * FULL, "three full segments")
    step = streaming.SEGMENT_BYTES
    bad("header-length", flipped(small, 0), "the header's length is not 40")
    bad("salt", flipped(small, 1), "another salt")
    bad("nonce", flipped(small, 33), "another nonce prefix")
    bad("ciphertext", flipped(small, 40), "a flipped bit in the ciphertext")
    bad("tag", flipped(small, len(small) - 1), "a flipped bit in the tag")
    bad("cut", small[:-1], "one byte is missing")
    bad("cut-segment", three[: 2 * step], "the last segment is missing")
    bad("header-only", small[:40], "nothing after the header")
    bad("exchanged", three[:step] + three[2 * step :] + three[step : 2 * step], "segments 1 and 2")


def make_keys(index: Index) -> None:
    path = index.folder / "ages/epoch.age"
    epoch = (
        path.read_bytes()
        if path.exists()
        else EPOCH.seal([STRANGER.recipient(), IDENTITY.recipient()], random=seeded("age", 32))
    )
    facts = {"identity": IDENTITY.to_string()}
    mac = epoch.index(b"\n--- ") + 5
    index.add("ages/epoch.age", epoch, "opens", "two recipients", key=EPOCH.key.hex(), **facts)
    index.add("ages/mac.age", flipped(epoch, mac), "damaged", "another header MAC", **facts)
    index.add("ages/cut.age", epoch[:-1], "damaged", "the payload is cut", **facts)
    index.add("ages/payload.age", flipped(epoch, len(epoch) - 20), "damaged", "flipped", **facts)
    other = age.generate_identity(random=seeded("other", age.SEED_BYTES)).to_string()
    index.add("ages/other.age", epoch, "not held", "the identity is no recipient", identity=other)

    def block(name: str, data: bytes, outcome: str, why: str, row: int, **more: object) -> None:
        facts = {"epoch_key": EPOCH.key.hex(), "row": row}
        index.add(f"blocks/{name}.json", data, outcome, why, **facts, **more)

    encoded = BLOCK.encode()
    block("minted", encoded, "opens", "a whole block", 17, key=BLOCK.open_row(17, EPOCH).hex())
    erased = BLOCK.without(frozenset({17})).encode()
    block("erased", erased, "not held", "the row was erased", 17)
    row = json.loads(encoded)["rows"]["17"].encode()
    moved = json.loads(encoded)["rows"]["18"].encode()
    block("moved", encoded.replace(row, moved), "damaged", "row 18 in the place of row 17", 17)
    block("cut-row", encoded.replace(row, row[:-4]), "damaged", "a row of another length", 17)
    block("cut", encoded[:-1], "damaged", "no JSON", 17)
    block("version", encoded.replace(b'"version":0', b'"version":9'), "damaged", "version 9", 17)


class Draft:
    """A pack that is being put together."""

    def __init__(self, label: str, kind: PackKind, row: int) -> None:
        self.pack_id, self.kind, self.key_id = ulid(label), kind, KeyId(BLOCK.block_id, row)
        readme = Readme(
            pack_id=self.pack_id, hospital=HOSPITAL, site=SITE, kind=kind, key_id=str(self.key_id)
        )
        self.data = tar.plain_member(pack.README_NAME, readme.encode(), TIME_MS // 1000)
        self.members: list[PublicMember] = []

    def encrypted(
        self, name: str, kind: Kind, sequence: int, plaintext: bytes, key_id: KeyId
    ) -> bytes:
        return bytes(
            streaming.encrypt(
                [plaintext],
                data_key=BLOCK.open_row(key_id.row, EPOCH),
                associated_data=pack.associated_data(
                    kind=kind, hospital=HOSPITAL, pack_id=self.pack_id, sequence=sequence
                ),
                salt=seeded(f"{self.pack_id} {name} salt", streaming.SALT_BYTES),
                nonce_prefix=seeded(f"{self.pack_id} {name}", streaming.NONCE_PREFIX_BYTES),
            )
        )

    def append(
        self, name: str, kind: Kind, sequence: int, plaintext: bytes, *, pax: bool = False,
        key_id: KeyId | None = None,
    ) -> PublicMember:  # fmt: skip
        body = self.encrypted(name, kind, sequence, plaintext, key_id or self.key_id)
        header = tar.member_header(name, len(body), TIME_MS // 1000, always_pax=pax)
        member = PublicMember(
            name=name,
            sequence=sequence,
            offset=len(self.data) + len(header),
            size_bytes=len(body),
            sha256=hashlib.sha256(body).digest(),
        )
        self.data += header + body + bytes(tar.padding(len(body)))
        self.members.append(member)
        return member

    def sealed(self, instances: list[Instance], events: list[ListedEvent]) -> bytes:
        instances_root, events_root = manifest.pack_root(instances), manifest.event_root(events)
        content = Manifest(
            hospital=HOSPITAL,
            site=SITE,
            pack_id=self.pack_id,
            kind=self.kind,
            opened_ms=TIME_MS,
            sealed_ms=TIME_MS + 600_000,
            scanner_version=1,
            root=instances_root if self.kind is PackKind.INSTANCES else events_root,
            instances=tuple(instances),
            events=tuple(events),
        )
        end = tail.tail(
            manifest_ciphertext=self.encrypted(
                pack.MANIFEST_NAME, Kind.MANIFEST, 0, content.encode(), self.key_id
            ),
            public=PublicTable(
                pack_id=self.pack_id,
                hospital=HOSPITAL,
                site=SITE,
                kind=self.kind,
                key_id=str(self.key_id),
                members=tuple(self.members),
            ),
            offset=len(self.data),
            mtime_s=TIME_MS // 1000 + 600,
            prefix_hash=hashlib.sha256(self.data),
        )
        return self.data + end.data


def instance_pack(label: str, row: int, sizes: dict[int, int], *, pax: bool = False) -> bytes:
    """A pack of instances: sequence number → length of its dataset."""
    draft = Draft(label, PackKind.INSTANCES, row)
    instances = []
    for sequence, size in sizes.items():
        dataset, uid = seeded(f"{label} {sequence}", size), f"2.25.{sequence}"
        member = draft.append(
            pack.instance_name(sequence), Kind.INSTANCE, sequence, dataset, pax=pax
        )
        instances.append(
            Instance(
                sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
                sop_instance_uid=uid,
                header=Header(
                    character_set=b"ISO_IR 126",
                    patient=(Element(PATIENT_ID, "LO", b"VECTOR"),),
                    study=(Element(STUDY_INSTANCE_UID, "UI", b"2.25.1000"),),
                    instance=(Element(SOP_INSTANCE_UID, "UI", uid.encode()),),
                ),
                identity=Identity(
                    "1.2.840.10008.1.2.1", hashlib.sha256(dataset).digest(), len(dataset)
                ),
                location=Location(draft.pack_id, sequence, member.offset, member.size_bytes),
                salt=seeded(f"{label} {sequence} salt", 32),
                received_at_ms=TIME_MS + sequence,
                origin=Origin(
                    calling_ae_title="SENDER",
                    called_ae_title="HARMONI",
                    address="192.0.2.1",
                    verdict=(("address", "match"),),
                ),
            )
        )
    return draft.sealed(instances, [])


def event_pack() -> bytes:
    draft = Draft("events", PackKind.EVENTS, 40)
    listed = []
    for sequence, word in enumerate(("hold", "commitment")):
        key_id = KeyId(BLOCK.block_id, 41 + sequence)
        salt = seeded(f"event {sequence}", 32)
        event = Event(
            kind=word,
            at_ms=TIME_MS,
            subject="2.25.1000",
            body={"study": "2.25.1000"},
            salt=salt,
        )
        name = pack.event_name(sequence, str(key_id))
        member = draft.append(name, Kind.EVENT, sequence, event.encode(), key_id=key_id)
        listed.append(
            ListedEvent(
                sequence=sequence,
                offset=member.offset,
                size_bytes=member.size_bytes,
                key_id=str(key_id),
                kind=word,
                at_ms=TIME_MS,
                sha256=hashlib.sha256(event.encode()).digest(),
                salt=salt,
            )
        )
    return draft.sealed([], listed)


def make_packs(index: Index) -> None:
    facts = {"block": "blocks/minted.json", "epoch": "ages/epoch.age"}
    facts |= {"identity": IDENTITY.to_string()}

    def add(name: str, data: bytes, outcome: str, why: str, **more: object) -> bytes:
        return index.add(f"packs/{name}.tar", data, outcome, why, **facts, **more)

    good = instance_pack("three", 17, {0: 200, 1: 0, 3: 200})
    add("three", good, "opens", "three instances, number 2 was given up half way", members=3)
    add("pax", instance_pack("pax", 18, {0: 300}, pax=True), "opens", "a pax record", members=1)
    add("events", event_pack(), "opens", "two events with keys of their own", members=2)
    footer = tail.parse_footer(good)
    parsed = tail.parse_tail(good[footer.tail_offset :], footer)
    one, _, three, sealed_manifest = parsed.public.members
    add("cut", good[:-512], "damaged", "the last block is missing", where="tail")
    add("open", good[: footer.tail_offset], "damaged", "never sealed", where="tail")
    body = len(good) - tail.FOOTER_FROM_END
    add("footer", flipped(good, body + 24), "damaged", "a flipped bit in the footer", where="tail")
    add("manifest", flipped(good, sealed_manifest.offset + 50), "damaged", "flipped", where="tail")
    public = flipped(good, footer.public_offset + 30)
    add("public", public, "damaged", "a flipped bit in public.json", where="tail")
    add("readme", flipped(good, 520), "damaged", "a flipped bit in README", where="README")
    time = flipped(good, one.offset - 512 + 146)
    add("header", time, "damaged", "a flipped bit in a tar header", where=one.name)
    add("member", flipped(good, one.offset + 60), "damaged", "in a member", where=one.name)
    gap = flipped(good, one.offset + one.size_bytes)
    add("padding", gap, "damaged", "a flipped bit in padding", where="prefix")
    first = good[one.offset : one.offset + one.size_bytes]
    third = good[three.offset : three.offset + three.size_bytes]
    swapped = good.replace(first, b"\0" * len(first)).replace(third, first)
    swapped = swapped.replace(b"\0" * len(first), third, 1)
    add("exchanged", swapped, "damaged", "two members exchanged", where=one.name)


def main(folder: Path = FOLDER) -> None:
    """Write every vector below a folder, which may hold an age file from before."""
    index = Index(folder)
    make_members(index)
    make_keys(index)
    make_packs(index)
    text = json.dumps(index.entries, indent=1, sort_keys=True)
    (folder / "index.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
