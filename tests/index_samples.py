"""Instances for tests of the index, made from plain words."""

import hashlib

from harmoni.model import header
from harmoni.model.header import Element, Header
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Identity, Instance, Location, Origin

KEY = bytes(range(32))
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def pack_id(number: int) -> PackId:
    """Ids in the order of their numbers."""
    return PackId.build(time_ms=1_700_000_000_000 + number, site_number=1, random=bytes(9))


def elements(tags: tuple[int, ...], values: dict[int, str]) -> tuple[Element, ...]:
    """Raw elements of one level, padded to even length."""
    found = []
    for tag in sorted(set(tags) & set(values)):
        value = values[tag].encode("iso8859_7")
        found.append(Element(tag, "UN", value + b" " * (len(value) % 2)))
    return tuple(found)


def instance(
    sop_uid: str = "1.2.3.4",
    *,
    study_uid: str = "1.2.3",
    series_uid: str = "1.2.3.1",
    sop_class_uid: str = CT,
    pack: int = 1,
    sequence: int = 0,
    content: bytes = b"pixels",
    syntax: str = EXPLICIT,
    received_at_ms: int = 1_700_000_000_000,
    source: str = "CT1",
    values: dict[int, str] | None = None,
) -> Instance:
    """An instance of a Greek patient; `values` add to its header and win over it."""
    words = {
        header.PATIENT_NAME: "Παπαδόπουλος^Γιώργος",
        header.PATIENT_ID: "P1",
        header.STUDY_DATE: "20260131",
        header.STUDY_TIME: "1230",
        header.MODALITY: "CT",
        header.INSTANCE_NUMBER: "1",
        header.STUDY_INSTANCE_UID: study_uid,
        header.SERIES_INSTANCE_UID: series_uid,
        header.SOP_CLASS_UID: sop_class_uid,
        header.SOP_INSTANCE_UID: sop_uid,
        **(values or {}),
    }
    return Instance(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_uid,
        header=Header(
            character_set=b"ISO_IR 126",
            patient=elements(header.PATIENT_TAGS, words),
            study=elements(header.STUDY_TAGS, words),
            series=elements(header.SERIES_TAGS, words),
            instance=elements(header.INSTANCE_TAGS, words),
        ),
        identity=Identity(syntax, hashlib.sha256(content).digest(), len(content)),
        location=Location(pack_id(pack), sequence, 1024 * sequence, len(content) + 512),
        salt=bytes(32),
        received_at_ms=received_at_ms,
        origin=Origin(
            calling_ae_title=source,
            called_ae_title="HARMONI",
            address="192.0.2.7",
            verdict=(("certificate", "match"),),
        ),
    )
