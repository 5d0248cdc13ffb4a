"""Rows as instances again: what one index knows of a pack, for another one to take over.

A rebuild uses it for what the store cannot tell at the moment: packs that are missing, and members
that were acknowledged and cannot be read. Such an instance says of its patient, study and series
what those rows say, which is what their first instance said; its salt is not in the index.
"""

from collections.abc import Mapping

from harmoni.index import attributes, lookup
from harmoni.index.database import Connection
from harmoni.index.lookup import Held
from harmoni.model.header import (
    SERIES_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    Element,
    Header,
)
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Instance


def instances(connection: Connection, pack_id: PackId) -> list[tuple[Held, Instance]]:
    """Every row of one pack, in order of sequence, and the instance that it was made from."""
    rows = connection.execute(
        "SELECT instance.sequence, study.patient_attributes, study.attributes, series.attributes,"
        " instance.attributes FROM instance JOIN pack USING (pack_no) JOIN series USING (series_no)"
        " JOIN study USING (study_no) WHERE pack.pack_id = ?",
        (pack_id.value,),
    ).fetchall()
    levels = {int(row[0]): row[1:] for row in rows}
    return [
        (held, _instance(held, *levels[held.location.sequence]))
        for held in lookup.members(connection, pack_id)
    ]


def counts(connection: Connection) -> Mapping[PackId, int]:
    """How many rows each pack has, those of facts included."""
    rows = connection.execute(
        "SELECT pack_id, (SELECT count(*) FROM instance WHERE instance.pack_no = pack.pack_no)"
        " + (SELECT count(*) FROM fact WHERE fact.pack_no = pack.pack_no) FROM pack"
    )
    return {PackId(pack_id): int(count) for pack_id, count in rows}


def damaged_packs(connection: Connection) -> list[PackId]:
    """The packs that have a flagged copy."""
    rows = connection.execute(
        "SELECT DISTINCT pack_id FROM instance JOIN pack USING (pack_no) WHERE damaged = 1"
    )
    return [PackId(pack_id) for (pack_id,) in rows]


def _instance(held: Held, patient: bytes, study: bytes, series: bytes, own: bytes) -> Instance:
    levels = [tuple(attributes.unpack(packed)) for packed in (patient, study, series, own)]
    declared = next(
        (
            element.value
            for level in levels
            for element in level
            if element.tag == SPECIFIC_CHARACTER_SET
        ),
        b"",
    )
    return Instance(
        sop_class_uid=held.sop_class_uid,
        sop_instance_uid=held.sop_instance_uid,
        header=Header(
            character_set=declared,
            patient=_without_character_set(levels[0]),
            study=(*_without_character_set(levels[1]), _uid(STUDY_INSTANCE_UID, held)),
            series=(*_without_character_set(levels[2]), _uid(SERIES_INSTANCE_UID, held)),
            instance=_without_character_set(levels[3]),
        ),
        identity=held.identity,
        location=held.location,
        salt=b"",
        received_at_ms=held.received_at_ms,
        origin=held.origin,
    )


def _uid(tag: int, held: Held) -> Element:
    """A UID that its row keeps apart from the attributes."""
    uid = held.study_instance_uid if tag == STUDY_INSTANCE_UID else held.series_instance_uid
    return Element(tag, "UI", uid.encode())


def _without_character_set(level: tuple[Element, ...]) -> tuple[Element, ...]:
    return tuple(element for element in level if element.tag != SPECIFIC_CHARACTER_SET)
