"""Answers by SOP Instance UID: which copies and versions are held, and which one is served.

A *copy* is one member of one pack. Copies of the same identity (transfer syntax and SHA-256 of the
dataset) are one *version*. Of several versions the newest from the source of the first is served;
a source is a calling AE title. Of several copies of a version the canonical one,
lowest (pack id, sequence), unless it is known to be damaged or gone and another one is not.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, exists, or_, select

from harmoni.dicom.identifier import Query, QueryLevel
from harmoni.index import keys, statements
from harmoni.index.attributes import pack_uid, uid_hash, unpack_uid
from harmoni.index.database import Connection, Row
from harmoni.index.packs import NOT_HERE, PackState
from harmoni.index.schema import (
    instance,
    origin,
    pack,
    patient,
    series,
    sop_class,
    study,
    transfer_syntax,
)
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Identity, Location, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One stored copy of one version of a SOP Instance."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    identity: Identity
    location: Location
    pack_state: PackState
    received_at_ms: int
    origin: Origin
    damaged: bool

    @property
    def sound(self) -> bool:
        """Whether it is here and nothing is known against it; a damaged pack may hold it sound."""
        return not self.damaged and self.pack_state not in NOT_HERE


_HELD: Final = select(
    sop_class.c.uid,
    instance.c.sop_uid,
    study.c.uid,
    series.c.uid,
    transfer_syntax.c.uid,
    instance.c.dataset_sha256,
    instance.c.dataset_size_bytes,
    pack.c.pack_id,
    instance.c.sequence,
    instance.c.offset,
    instance.c.size_bytes,
    pack.c.state,
    instance.c.received_at_ms,
    origin.c.calling_ae_title,
    origin.c.called_ae_title,
    origin.c.address,
    origin.c.verdict,
    instance.c.damaged,
).select_from(
    instance.join(series)
    .join(study)
    .join(patient)
    .join(pack)
    .join(sop_class)
    .join(transfer_syntax)
    .join(origin)
)


def other_copies() -> ColumnElement[bool]:
    """A column for statements on `instance`: whether its UID has other copies (or its hash has)."""
    other = instance.alias("other")
    return exists(
        select(other.c.sop_hash).where(
            other.c.sop_hash == instance.c.sop_hash,
            or_(
                other.c.series_no != instance.c.series_no,
                other.c.pack_no != instance.c.pack_no,
                other.c.sequence != instance.c.sequence,
            ),
        )
    )


_VERSIONS, _ = statements.compiled(
    _HELD.where(instance.c.sop_hash == 0, instance.c.sop_uid == b"").order_by(
        pack.c.pack_id, instance.c.sequence
    )
)

_ANY_VERSION: Final = "SELECT 1 FROM instance WHERE sop_hash = ? LIMIT 1"

_MEMBERS, _ = statements.compiled(_HELD.where(pack.c.pack_id == "").order_by(instance.c.sequence))
_MEMBERS_WITH_OTHER_COPIES, _ = statements.compiled(
    _HELD.where(pack.c.pack_id == "", other_copies()).order_by(instance.c.sequence)
)


def versions(connection: Connection, sop_instance_uid: str) -> list[Held]:
    """Every copy of a SOP Instance, lowest (pack id, sequence) first; empty if none is held."""
    sop_hash = uid_hash(sop_instance_uid)
    # Almost everything that is stored is new, and the join opens a page of every table. After each
    # commit of the writer, pages are decrypted anew.
    if connection.execute(_ANY_VERSION, (sop_hash,)).fetchone() is None:
        return []
    rows = connection.execute(_VERSIONS, (sop_hash, pack_uid(sop_instance_uid))).fetchall()
    return [_held(row) for row in rows]


def members(connection: Connection, pack_id: PackId) -> list[Held]:
    """Every row of one pack, in order of sequence: what it has acknowledged and must hold."""
    return [_held(row) for row in connection.execute(_MEMBERS, (pack_id.value,)).fetchall()]


def members_with_other_copies(connection: Connection, pack_id: PackId) -> list[Held]:
    """The rows of one pack whose SOP Instance UID has other copies, too (or its hash has)."""
    rows = connection.execute(_MEMBERS_WITH_OTHER_COPIES, (pack_id.value,)).fetchall()
    return [_held(row) for row in rows]


def knows_study(connection: Connection, study_instance_uid: str) -> bool:
    """Whether there is a row of a study."""
    row = connection.execute(
        "SELECT 1 FROM study WHERE uid = ?", (pack_uid(study_instance_uid),)
    ).fetchone()
    return row is not None


def knows_series(connection: Connection, study_instance_uid: str, series_instance_uid: str) -> bool:
    """Whether there is a row of a series of a study."""
    row = connection.execute(
        "SELECT 1 FROM series JOIN study USING (study_no) WHERE series.uid = ? AND study.uid = ?",
        (pack_uid(series_instance_uid), pack_uid(study_instance_uid)),
    ).fetchone()
    return row is not None


def served(copies: Sequence[Held]) -> Held | None:
    """The copy with which a SOP Instance is answered and retrieved, by the rule of this module.

    Args:
        copies: as `versions` returns them: of one UID, lowest (pack id, sequence) first.

    A copy that is not `sound` is returned only where no other of the same version is.
    """
    if not copies:
        return None
    source = _source(copies[0])
    arrivals: dict[Identity, tuple[int, Location]] = {}
    for copy in copies:
        if _source(copy) == source:
            arrival = (copy.received_at_ms, copy.location)
            # The first copy counts: one that healed it later does not make its version newer.
            arrivals[copy.identity] = min(arrival, arrivals.get(copy.identity, arrival))
    newest = max(arrivals, key=arrivals.__getitem__)
    same = [copy for copy in copies if copy.identity == newest]
    return next((copy for copy in same if copy.sound), same[0])


def instances_of(connection: Connection, query: Query) -> list[Held]:
    """What a C-MOVE or C-GET retrieves: the served copy of each SOP Instance that it names.

    Only the unique keys of the query count (PS3.4 C.4.2.1.4). In the order in which the instances
    lie in their packs; each SOP Instance UID once in a study. One that two studies have, against
    the standard, is never given for the other.

    Args:
        connection: from `Database.reader`.
        query: checked by `identifier.check_unique_keys`.

    Raises:
        InvalidInput: no unique key asks for anything.
    """
    statement = _HELD.add_columns(other_copies()).where(*keys.unique_key_conditions(query))
    statement = statement.order_by(pack.c.pack_id, instance.c.sequence)
    found: dict[tuple[str, str], Held] = {}
    for row in statements.run(connection, statement).fetchall():
        copy = _held(row)
        key = copy.study_instance_uid, copy.sop_instance_uid
        if key not in found:
            chosen = served(_named_alike(connection, query, copy)) if row[-1] else copy
            found[key] = chosen or copy
    return list(found.values())


def _named_alike(connection: Connection, query: Query, copy: Held) -> list[Held]:
    """The copies of a UID that a retrieval may give for one of them: never of another study.

    Where it names series, of no other series either.
    """
    whole_study = query.level in (QueryLevel.PATIENT, QueryLevel.STUDY)
    return [
        each
        for each in versions(connection, copy.sop_instance_uid)
        if each.study_instance_uid == copy.study_instance_uid
        and (whole_study or each.series_instance_uid == copy.series_instance_uid)
    ]


def _held(row: Row) -> Held:
    """A row of `_HELD`."""
    return Held(
        sop_class_uid=row[0],
        sop_instance_uid=unpack_uid(row[1]),
        study_instance_uid=unpack_uid(row[2]),
        series_instance_uid=unpack_uid(row[3]),
        identity=Identity(row[4], row[5], row[6]),
        location=Location(PackId(row[7]), row[8], row[9], row[10]),
        pack_state=PackState(row[11]),
        received_at_ms=row[12],
        origin=Origin(
            calling_ae_title=row[13],
            called_ae_title=row[14],
            address=row[15],
            verdict=tuple((factor, verdict) for factor, verdict in json.loads(row[16])),
        ),
        damaged=bool(row[17]),
    )


def _source(copy: Held) -> str:
    return copy.origin.calling_ae_title
