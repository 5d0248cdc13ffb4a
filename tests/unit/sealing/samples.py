"""Small, fixed values that the tests of sealing share."""

import hashlib

from harmoni.model.header import (
    INSTANCE_TAGS,
    PATIENT_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
    Element,
    Header,
)
from harmoni.model.identifiers import HospitalId, PackId, SiteId
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.sealing import manifest, pack, streaming, tail, tar
from harmoni.sealing.pack import Kind, PackKind

HOSPITAL = HospitalId("h-7f3a")
SITE = SiteId("dc1")
PACK_ID = PackId.build(time_ms=1_795_492_800_000, site_number=1, random=bytes(range(9)))
KEY_ID = f"{PACK_ID}.17"
DATA_KEY = hashlib.sha256(b"data key").digest()
RECEIVED_AT_MS = 1_795_492_801_234


def randomness(label, size):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(label.encode()).digest(size)


def instance(number, *, offset=0, size_bytes=0, dataset=b""):
    """An instance of the series number // 2."""
    return Instance(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"1.2.826.0.1.{number}",
        header=Header(
            character_set=b"ISO_IR 126",
            patient=tuple(Element(tag, "LO", b"\xd0\xe1 ") for tag in PATIENT_TAGS),
            study=tuple(Element(tag, "LO", b"study ") for tag in STUDY_TAGS),
            series=tuple(Element(tag, "LO", b"%d" % (number // 2)) for tag in SERIES_TAGS),
            instance=tuple(Element(tag, "LO", b"%d" % number) for tag in INSTANCE_TAGS),
        ),
        identity=Identity("1.2.840.10008.1.2.1", hashlib.sha256(dataset).digest(), len(dataset)),
        location=Location(PACK_ID, number, offset, size_bytes),
        salt=randomness(f"salt {number}", 32),
        received_at_ms=RECEIVED_AT_MS + number,
        origin=Origin(
            calling_ae_title="CT1",
            called_ae_title="HARMONI",
            address="192.0.2.7",
            verdict=(("address", "match"), ("certificate", "unobservable")),
        ),
    )


def member(kind, sequence, name, plaintext):
    """A whole encrypted member of the sample pack."""
    return bytes(
        pack.encrypted_member(
            [plaintext],
            name=name,
            mtime_s=RECEIVED_AT_MS // 1000,
            data_key=DATA_KEY,
            associated_data=bound(kind, sequence),
            salt=randomness(f"{name} key salt", streaming.SALT_BYTES),
            nonce_prefix=randomness(f"{name} nonce", streaming.NONCE_PREFIX_BYTES),
        )
    )


def bound(kind, sequence):
    return pack.associated_data(kind=kind, hospital=HOSPITAL, pack_id=PACK_ID, sequence=sequence)


def sealed_pack(datasets=(b"first dataset", b"", b"third" * 30_000)):
    """The bytes of a whole pack of instances, and its manifest."""
    readme = pack.Readme(
        pack_id=PACK_ID, hospital=HOSPITAL, site=SITE, kind=PackKind.INSTANCES, key_id=KEY_ID
    )
    data = tar.plain_member(pack.README_NAME, readme.encode(), RECEIVED_AT_MS // 1000)
    members, instances = [], []
    for sequence, dataset in enumerate(datasets):
        name = pack.instance_name(sequence)
        offset = len(data) + tar.BLOCK_BYTES
        data += member(Kind.INSTANCE, sequence, name, dataset)
        size_bytes = streaming.ciphertext_size(len(dataset))
        members.append(
            pack.PublicMember(
                name=name,
                sequence=sequence,
                offset=offset,
                size_bytes=size_bytes,
                sha256=hashlib.sha256(data[offset : offset + size_bytes]).digest(),
            )
        )
        instances.append(instance(sequence, offset=offset, size_bytes=size_bytes, dataset=dataset))
    content = manifest.Manifest(
        hospital=HOSPITAL,
        site=SITE,
        pack_id=PACK_ID,
        kind=PackKind.INSTANCES,
        opened_ms=RECEIVED_AT_MS,
        sealed_ms=RECEIVED_AT_MS + 600_000,
        scanner_version=1,
        root=manifest.pack_root(instances),
        instances=tuple(instances),
    )
    sealed = member(Kind.MANIFEST, 0, pack.MANIFEST_NAME, content.encode())
    manifest_size = streaming.ciphertext_size(len(content.encode()))
    end = tail.tail(
        manifest_ciphertext=sealed[tar.BLOCK_BYTES :][:manifest_size],
        public=pack.PublicTable(
            pack_id=PACK_ID,
            hospital=HOSPITAL,
            site=SITE,
            kind=PackKind.INSTANCES,
            key_id=KEY_ID,
            members=tuple(members),
        ),
        offset=len(data),
        mtime_s=RECEIVED_AT_MS // 1000 + 600,
        prefix_hash=hashlib.sha256(data),
    )
    return data + end.data, content, end
