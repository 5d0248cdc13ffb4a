"""Make the vectors in this folder: sealed files, good and bad, and index.json, which judges them.

    python tests/vectors/make_vectors.py

Everything comes from fixed seeds, so a second run changes nothing. Only the age files in KEPT
cannot be made again, because encapsulation draws its own randomness: existing ones are kept. The
formats are frozen: vectors are added, and none is ever changed (tests/unit/sealing/frozen.txt holds
their hashes); a new version gets vectors of its own.
"""

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

from harmoni.model.header import PATIENT_ID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, Element, Header
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.sealing import age, document, keys, manifest, pack, provenance, streaming, tail, tar
from harmoni.sealing.document import Json
from harmoni.sealing.event import Event
from harmoni.sealing.keys import EpochKey, KeyBlock, KeyId
from harmoni.sealing.manifest import ListedEvent, Manifest
from harmoni.sealing.pack import Kind, PackKind, PublicMember, PublicTable, Readme
from vectors.every_kind import UNKNOWN_KIND, every_kind

FOLDER = Path(__file__).parent
HOSPITAL, SITE, MONTH = HospitalId("h-vectors"), SiteId("dc1"), "2026-11"
KEPT = ("epoch", "two-sites", "gateway", "field", "version")
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


OTHER_SITE = age.generate_identity(random=seeded("other site", age.SEED_BYTES))
RECOVERY = age.generate_identity(random=seeded("recovery", age.SEED_BYTES))
GATEWAY = age.generate_identity(random=seeded("gateway", age.SEED_BYTES))
CUSTODY_KEY = seeded("custody", 32)
GATEWAY_EPOCH = EpochKey(
    hospital=HOSPITAL, site=SiteId("gw-a"), month=MONTH, key=seeded("gateway epoch", 32)
)
GATEWAY_BLOCK = KeyBlock.mint(
    block_id=ulid("gateway block").value,
    epoch=GATEWAY_EPOCH,
    random=seeded("gateway rows", keys.BLOCK_RANDOM_BYTES),
)
CREATOR = "2.25.119361443836357861863091494581367412860.2"
ROTATED = EpochKey(hospital=HOSPITAL, site=SITE, month=MONTH, key=seeded("rotated", 32))


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


def kept(
    index: Index, name: str, epoch: EpochKey, identities: list[age.Identity], **more: Json
) -> bytes:
    """The age file of that name, made only if there is none yet."""
    path = index.folder / f"ages/{name}.age"
    if path.exists():
        return path.read_bytes()
    fields: dict[str, Json] = {
        "version": keys.EPOCH_VERSION,
        "suite": keys.KEY_SUITE,
        "hospital": epoch.hospital.value,
        "site": epoch.site.value,
        "month": epoch.month,
        "key": document.octets_text(epoch.key),
    }
    recipients = [identity.recipient() for identity in identities]
    random = seeded(f"age {name}", age.RANDOM_BYTES)
    return age.encrypt(document.encode(fields | more), recipients, random=random)


def make_more_keys(index: Index) -> None:
    """Several sites, a gateway, later generations, and what a later program writes."""
    two = kept(index, "two-sites", EPOCH, [IDENTITY, OTHER_SITE, RECOVERY])
    for who, identity in (("a", IDENTITY), ("b", OTHER_SITE), ("recovery", RECOVERY)):
        facts = {"identity": identity.to_string(), "key": EPOCH.key.hex()}
        index.add(f"ages/two-sites-{who}.age", two, "opens", f"two sites, by {who}", **facts)
    index.add("ages/two-sites.age", two, "not held", "a gateway", identity=GATEWAY.to_string())
    gateway = kept(index, "gateway", GATEWAY_EPOCH, [GATEWAY, RECOVERY])
    facts = {"identity": RECOVERY.to_string(), "key": GATEWAY_EPOCH.key.hex()}
    index.add("ages/gateway.age", gateway, "opens", "a gateway's, by the recovery", **facts)
    field_added = kept(index, "field", EPOCH, [IDENTITY], later=[1])
    facts = {"identity": IDENTITY.to_string()}
    index.add("ages/field.age", field_added, "opens", "a new field", key=EPOCH.key.hex(), **facts)
    strange = kept(index, "version", EPOCH, [IDENTITY], version=2)
    index.add("ages/version.age", strange, "unknown", "an epoch key of version 2", **facts)

    def block(name: str, data: bytes, outcome: str, why: str, row: int, **more: object) -> None:
        facts = {"epoch_key": EPOCH.key.hex(), "row": row}
        index.add(f"blocks/{name}.json", data, outcome, why, **facts | more)

    key = BLOCK.open_row(18, EPOCH).hex()
    erased = BLOCK.without(frozenset({17}))
    block("second", erased.encode(), "opens", "generation 1, another row", 18, key=key)
    random = seeded("rotated rows", keys.NONCE_BYTES * 255)
    third = erased.rewrapped(EPOCH, ROTATED, random=random).encode()
    rotated = {"epoch_key": ROTATED.key.hex()}
    block("third", third, "opens", "generation 2, rotated", 18, key=key, **rotated)
    block("third-old", third, "damaged", "under the epoch key before", 18)
    block("third-erased", third, "not held", "a rotation brings no row back", 17, **rotated)
    minted = json.loads(BLOCK.encode())
    block("field", document.encode(minted | {"later": 1}), "opens", "a new field", 18, key=key)
    block("version-0", document.encode(minted | {"version": 0}), "unknown", "version 0", 17)
    block("suite", document.encode(minted | {"suite": "aes512"}), "unknown", "a new suite", 17)
    gateway = {
        "epoch_key": GATEWAY_EPOCH.key.hex(),
        "key": GATEWAY_BLOCK.open_row(3, GATEWAY_EPOCH).hex(),
    }
    block("gateway", GATEWAY_BLOCK.encode(), "opens", "a gateway's", 3, **gateway)
    block("version-text", document.encode(minted | {"version": "1"}), "damaged", "a text", 17)

    wrapped = keys.wrap_identity(CUSTODY_KEY, IDENTITY)
    facts = {"custody_key": CUSTODY_KEY.hex(), "epoch": "ages/epoch.age", "key": EPOCH.key.hex()}
    index.add("wraps/site.identity", wrapped, "opens", "a site's identity, in custody", **facts)
    index.add("wraps/flip.identity", flipped(wrapped, 9), "not held", "a flipped bit", **facts)
    index.add("wraps/cut.identity", wrapped[:-8], "not held", "cut", **facts)


def make_logs(index: Index) -> None:
    where = {"hospital": HOSPITAL.value, "site": SITE.value}

    def record(sequence: int, **more: Json) -> dict[str, Json]:
        fields: dict[str, Json] = {
            "version": 1,
            "sequence": sequence,
            "kind": "instances",
            "pack": str(ulid(f"logged {sequence}")),
            "size": 10_752 + sequence,
            "sha256": seeded(f"logged {sequence}", 32).hex(),
            "root": seeded(f"root {sequence}", 32).hex(),
            "sealed": document.time_text(TIME_MS + sequence),
        }
        return {**fields, **where, **more}

    def add(name: str, fields: dict[str, Json], outcome: str, why: str, **more: object) -> None:
        known = fields["kind"] in ("instances", "events")
        facts = {"pack_sha256": fields["sha256"] if known else ""} | where | more
        index.add(f"logs/{name}.json", document.encode(fields), outcome, why, **facts)

    zero, one = {"after": "logs/first.json"}, {"after": "logs/second.json"}
    add("first", record(0), "opens", "the first record")
    add("second", record(1, kind="events", later=1), "opens", "a pack of events; a field", **zero)
    add("kind", record(2, kind="later"), "opens", "a kind that is kept and passed over", **one)
    add("gap", record(3), "damaged", "record 2 is missing", **one)
    add("begins-late", record(1), "damaged", "record 0 is missing")
    add("hospital", record(2, hospital="h-other"), "damaged", "another hospital's", **one)
    add("version", record(2, version=2), "unknown", "version 2", **one)


def make_keys(index: Index) -> None:
    epoch = kept(index, "epoch", EPOCH, [STRANGER, IDENTITY])
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
    block("version", encoded.replace(b'"version":1', b'"version":9'), "unknown", "version 9", 17)


class LaterTable(PublicTable):
    """public.json of a later program."""

    def encode(self) -> bytes:
        return document.encode(json.loads(super().encode()) | {"later": 1})


class Draft:
    """A pack that is being put together."""

    def __init__(
        self, label: str, kind: PackKind, row: int,
        block: KeyBlock = BLOCK, epoch: EpochKey = EPOCH,
    ) -> None:  # fmt: skip
        self.block, self.epoch, self.site = block, epoch, epoch.site
        self.pack_id, self.kind, self.key_id = ulid(label), kind, KeyId(block.block_id, row)
        readme = Readme(
            pack_id=self.pack_id,
            hospital=HOSPITAL,
            site=self.site,
            kind=kind,
            key_id=str(self.key_id),
        )
        self.data = tar.plain_member(pack.README_NAME, readme.encode(), TIME_MS // 1000)
        self.members: list[PublicMember] = []

    def encrypted(
        self, name: str, kind: Kind, sequence: int, plaintext: bytes, key_id: KeyId
    ) -> bytes:
        return bytes(
            streaming.encrypt(
                [plaintext],
                data_key=self.block.open_row(key_id.row, self.epoch),
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

    def sealed(
        self, instances: list[Instance], events: list[ListedEvent], *, later: bool = False
    ) -> bytes:
        """The whole file; with `later` as if by a program that knows one field more."""
        instances_root, events_root = manifest.pack_root(instances), manifest.event_root(events)
        content = Manifest(
            hospital=HOSPITAL,
            site=self.site,
            pack_id=self.pack_id,
            kind=self.kind,
            opened_ms=TIME_MS,
            sealed_ms=TIME_MS + 600_000,
            scanner_version=1,
            root=instances_root if self.kind is PackKind.INSTANCES else events_root,
            instances=tuple(instances),
            events=tuple(events),
        )
        words = content.encode()
        if later:
            words = document.encode(json.loads(words) | {"later": {"x": [1]}})
        end = tail.tail(
            manifest_ciphertext=self.encrypted(
                pack.MANIFEST_NAME, Kind.MANIFEST, 0, words, self.key_id
            ),
            public=(LaterTable if later else PublicTable)(
                pack_id=self.pack_id,
                hospital=HOSPITAL,
                site=self.site,
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


def part_10(uid: str, told: bytes) -> bytes:
    """Preamble and file meta as the archive writes them (PS3.10 7.1)."""

    def element(tag: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        length = struct.pack(
            "<HI" if vr == b"OB" else "<H", *([0] if vr == b"OB" else []), len(value)
        )
        return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value

    meta = b"".join(
        (
            element(0x00020001, b"OB", b"\0\1"),
            element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element(0x00020003, b"UI", uid.encode()),
            element(0x00020010, b"UI", b"1.2.840.10008.1.2.1"),
            element(0x00020012, b"UI", f"{CREATOR.rpartition('.')[0]}.1".encode()),
            element(0x00020100, b"UI", CREATOR.encode()),
            element(0x00020102, b"OB", told),
        )
    )
    length = element(0x00020000, b"UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta


def gateway_pack() -> bytes:
    """What a gateway holds: an instance as it came, and two that came as files."""
    draft = Draft("gateway", PackKind.INSTANCES, 3, GATEWAY_BLOCK, GATEWAY_EPOCH)
    origin = Origin(
        calling_ae_title="CT1",
        called_ae_title="GATEWAY",
        address="192.0.2.7",
        verdict=(("address", "match"), ("mac", "unobservable")),
    )
    instances = []
    for sequence, prefix in enumerate((None, bytes(128) + b"DICM the file's own meta", b"")):
        uid, salt = f"2.25.7{sequence}", seeded(f"gateway {sequence} salt", 32)
        dataset = b"\x08\0\x18\0UI" + struct.pack("<H", 8) + uid.encode() + b"\0" * 2
        told = provenance.encode(
            provenance.Provenance(
                origin=origin, received_at_ms=TIME_MS, salt=salt, original_prefix=prefix
            )
        )
        if prefix == b"":
            told = document.encode(json.loads(told) | {"later": 1})
        name = pack.instance_name(sequence)
        member = draft.append(name, Kind.INSTANCE, sequence, part_10(uid, told) + dataset)
        instances.append(
            Instance(
                sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
                sop_instance_uid=uid,
                header=Header(instance=(Element(SOP_INSTANCE_UID, "UI", uid.encode()),)),
                identity=Identity(
                    "1.2.840.10008.1.2.1", hashlib.sha256(dataset).digest(), len(dataset)
                ),
                location=Location(draft.pack_id, sequence, member.offset, member.size_bytes),
                salt=salt,
                received_at_ms=TIME_MS,
                origin=origin,
            )
        )
    return draft.sealed(instances, [], later=True)


def event_pack(label: str, row: int, told: list[tuple[str, str, dict[str, Json]]]) -> bytes:
    """A pack of events: kind, subject and body of each."""
    draft = Draft(label, PackKind.EVENTS, row)
    listed = []
    subjects: dict[str, int] = {}
    for sequence, (kind, subject, body) in enumerate(told):
        own = subjects.setdefault(subject, row + 1 + len(subjects))
        key_id = KeyId(BLOCK.block_id, own)
        salt = seeded(f"{label} {sequence}", 32)
        event = Event(kind=kind, at_ms=TIME_MS, subject=subject, body=body, salt=salt).encode()
        if kind == UNKNOWN_KIND:
            event = document.encode(json.loads(event) | {"later": [None]})
        name = pack.event_name(sequence, str(key_id))
        member = draft.append(name, Kind.EVENT, sequence, event, key_id=key_id)
        listed.append(
            ListedEvent(
                sequence=sequence,
                offset=member.offset,
                size_bytes=member.size_bytes,
                key_id=str(key_id),
                kind=kind,
                at_ms=TIME_MS,
                sha256=hashlib.sha256(event).digest(),
                salt=salt,
            )
        )
    return draft.sealed([], listed)


def resealed(data: bytes, old: bytes, new: bytes, version: int = 1) -> bytes:
    """A sealed pack with other words in its plain parts, and a footer that agrees."""
    end = len(data) - tail.FOOTER_FROM_END
    before = data[:end].replace(old, new)
    fields = bytearray(data[end : end + 480])
    fields[16:20] = struct.pack(">I", version)
    fields[56:88] = hashlib.sha256(before).digest()
    return before + fields + hashlib.sha256(fields).digest() + bytes(2 * tar.BLOCK_BYTES)


def make_packs(index: Index) -> None:
    facts = {"block": "blocks/minted.json", "epoch": "ages/epoch.age"}
    facts |= {"identity": IDENTITY.to_string()}

    def add(name: str, data: bytes, outcome: str, why: str, **more: object) -> bytes:
        return index.add(f"packs/{name}.tar", data, outcome, why, **facts, **more)

    good = instance_pack("three", 17, {0: 200, 1: 0, 3: 200})
    add("three", good, "opens", "three instances, number 2 was given up half way", members=3)
    add("pax", instance_pack("pax", 18, {0: 300}, pax=True), "opens", "a pax record", members=1)
    parsed = tail.parse_tail(good[tail.parse_footer(good).tail_offset :], tail.parse_footer(good))
    evicted = streaming.decrypt(
        parsed.manifest_ciphertext,
        data_key=BLOCK.open_row(17, EPOCH),
        associated_data=pack.associated_data(
            kind=Kind.MANIFEST, hospital=HOSPITAL, pack_id=ulid("three"), sequence=0
        ),
    )
    key = str(KeyId(BLOCK.block_id, 17))
    told = every_kind(json.loads(bytes(evicted)), seeded, lambda label: str(ulid(label)), key=key)
    every = event_pack("events", 40, told)
    add(
        "events", every, "opens", "one event of each kind, and of an unknown one", members=len(told)
    )
    at_gateway = {
        "block": "blocks/gateway.json",
        "epoch": "ages/gateway.age",
        "identity": GATEWAY.to_string(),
    }
    why = "a gateway's pack; two came as files; new fields everywhere"
    index.add("packs/gateway.tar", gateway_pack(), "opens", why, **at_gateway, members=3)
    for version in (0, 2):
        words = b"harmoni-pack 1", b"harmoni-pack %d" % version
        other = resealed(good, *words, version=version)
        add(f"version-{version}", other, "unknown", f"version {version}", where="tail")
    other = resealed(good, b"hkdf-sha256-64k", b"hkdf-sha256-99k")
    add("suite", other, "unknown", "a suite that is not known", where="tail")
    add("no-members", instance_pack("no-members", 19, {}), "opens", "nothing in it", members=0)
    hashed = flipped(good, len(good) - tail.FOOTER_FROM_END + 60)
    add("footer-sum", hashed, "damaged", "a flipped bit in the hash of all before", where="tail")
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
    make_more_keys(index)
    make_logs(index)
    make_packs(index)
    text = json.dumps(index.entries, indent=1, sort_keys=True)
    (folder / "index.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
