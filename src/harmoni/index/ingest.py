"""Write what the store says: instances and facts. The hot path of the archive.

A short fixed list of statements on the driver, prepared once per connection; SQLAlchemy has no part
in it. A batch is one transaction of `Database.write`, so its fixed costs (lock, begin, commit) are
shared by all its instances.

Recording is idempotent by (pack id, sequence), and the outcome does not depend on order or batches:
a row for a patient, study or series says what its first instance says, lowest (pack id, sequence)
first. A patient is there as long as it has a study: one whose only study turns out to belong to
another patient goes again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from harmoni.dicom import matching
from harmoni.index import attributes, erasures, packs, patients, safe
from harmoni.index.attributes import pack_uid, uid_hash
from harmoni.index.database import Connection
from harmoni.index.jobs import JobState, Urgency
from harmoni.index.packs import PackState
from harmoni.model import header
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Instance, Origin
from harmoni.sealing import document, event, manifest
from harmoni.sealing.document import Fields, Json
from harmoni.sealing.pack import PackKind
from harmoni.sealing.tombstone import Tombstone

# (pack id, sequence): the order that decides which instance is the first.
_Place: TypeAlias = tuple[str, int]

_FIND_SERIES: Final = (
    "SELECT series.series_no, series.first_pack_id, series.first_sequence,"
    " study.first_pack_id, study.first_sequence"
    " FROM series JOIN study USING (study_no) WHERE series.uid = ? AND study.uid = ?"
)
_INSERT_INSTANCE: Final = (
    "INSERT OR IGNORE INTO instance (series_no, pack_no, sequence, sop_hash, sop_uid, sop_class_no,"
    " transfer_syntax_no, origin_no, received_at_ms, offset, size_bytes, dataset_size_bytes,"
    " dataset_sha256, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_ASKING_JOB: Final = (
    "INSERT OR IGNORE INTO job (destination, pack_no, sequence, study_no, series_no, state,"
    " urgency, queued_at_ms, due_at_ms) SELECT ?, ?, ?, study_no, series_no, ?, ?, ?, ?"
    " FROM series WHERE series_no = ?"
)
_INSERT_JOB: Final = (
    f"{_INSERT_ASKING_JOB} AND NOT EXISTS (SELECT 1 FROM safe WHERE sop_hash = ?"  # noqa: S608 - ours
    " AND dataset_sha256 = ? AND transfer_syntax_no = ? AND copies >= ?)"
)
_PUT_STUDY: Final = (
    "INSERT INTO study (uid, patient_no, first_pack_id, first_sequence, date, time,"
    " accession_number, study_id, several, attributes, patient_attributes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET"
    " patient_no = excluded.patient_no, first_pack_id = excluded.first_pack_id,"
    " first_sequence = excluded.first_sequence, date = excluded.date, time = excluded.time,"
    " accession_number = excluded.accession_number, study_id = excluded.study_id,"
    " several = excluded.several, attributes = excluded.attributes,"
    " patient_attributes = excluded.patient_attributes RETURNING study_no"
)
_PUT_SERIES: Final = (
    "INSERT INTO series (uid, study_no, first_pack_id, first_sequence, modality, series_number,"
    " several, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (uid, study_no) DO UPDATE SET"
    " first_pack_id = excluded.first_pack_id, first_sequence = excluded.first_sequence,"
    " modality = excluded.modality, series_number = excluded.series_number,"
    " several = excluded.several, attributes = excluded.attributes RETURNING series_no"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An event of an event pack: what no instance holds (docs/reference/pack-format.md)."""

    pack_id: PackId
    sequence: int
    kind: str
    at_ms: int
    body: Mapping[str, Json]
    subject: str = ""
    """The Study Instance UID of the study that it names; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a hospital's index is told besides what the store says."""

    patient_domain: str = ""
    """The issuer of Patient IDs that come without Issuer of Patient ID (0010,0021)."""
    destination: str = ""
    """Where each instance is sent on to, "" for nowhere: an archive keeps."""
    safe_copies: int = 1
    """How many verified copies the destination must answer for, before a job is over."""


_NO_TERMS: Final = Terms()


def record(
    connection: Connection,
    instances: Sequence[Instance],
    terms: Terms = _NO_TERMS,
    *,
    doubtful: bool = False,
    sent_anew: bool = False,
) -> None:
    """Write the rows of stored instances, and their jobs; those already there stay as they are.

    Args:
        connection: from `Database.write`; nothing is visible before its block ends.
        instances: all of one hospital, in any order.
        terms: of this hospital; with a destination each instance gets a job, unless the
            destination has committed itself to that version.
        doubtful: whether these may have been sent before: their jobs ask first (jobs.py).
        sent_anew: whether a sender has just sent them: those that the destination has committed
            itself to get a job, too, that asks first whether it still has them.
    """
    batch = _Batch(connection, terms.patient_domain)
    rows = [batch.row(instance) for instance in instances]
    connection.executemany(_INSERT_INSTANCE, rows)
    if not terms.destination:
        return
    jobs = [
        (
            terms.destination,
            pack_no,
            instance.location.sequence,
            JobState.DOUBTFUL if doubtful else JobState.QUEUED,
            Urgency.TODAY,
            instance.received_at_ms,
            instance.received_at_ms,
            series_no,
            uid_hash(instance.sop_instance_uid),
            instance.identity.sha256,
            batch.transfer_syntax_no(instance.identity.transfer_syntax_uid),
            terms.safe_copies,
        )
        for (series_no, pack_no, *_), instance in zip(rows, instances, strict=True)
    ]
    connection.executemany(_INSERT_JOB, jobs)
    if sent_anew:
        # What a sender sends anew though it is safe is asked about again: why does it?
        connection.executemany(
            _INSERT_ASKING_JOB,
            [
                (destination, pack_no, sequence, JobState.DOUBTFUL, *rest[:4])
                for destination, pack_no, sequence, _, *rest in jobs
            ],
        )


def record_facts(connection: Connection, facts: Sequence[Fact], terms: Terms = _NO_TERMS) -> None:
    """Write the rows of facts, and what follows from them; those already there stay as they are.

    What our destination has committed itself to needs no job any more. Of a pack that was let go
    every row is there, and the pack is known as evicted. Of what was erased no row is there.
    """
    batch = _Batch(connection, "")
    for fact in facts:
        if fact.kind == event.COMMITMENT and "by" in fact.body:
            _note_safe(connection, fact.body, batch, terms)
        elif fact.kind == event.EVICTION:
            _note_evicted(connection, fact.body, terms)
    connection.executemany(
        "INSERT OR IGNORE INTO fact (pack_no, sequence, kind, at_ms, subject, body)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                batch.pack_no(fact.pack_id, PackKind.EVENTS),
                fact.sequence,
                fact.kind,
                fact.at_ms,
                fact.subject,
                json.dumps(_indexed(fact.body), sort_keys=True, ensure_ascii=False),
            )
            for fact in facts
        ],
    )
    for fact in facts:
        if fact.kind == event.TOMBSTONE:
            erasures.note(connection, Tombstone.of_body(fact.body))


def _indexed(body: Mapping[str, Json]) -> dict[str, Json]:
    """What of an event's body the index keeps: the rows of a manifest are in their own tables."""
    return {name: value for name, value in body.items() if name != event.MANIFEST}


def _note_safe(
    connection: Connection, body: Mapping[str, Json], batch: "_Batch", terms: Terms
) -> None:
    """A destination has committed itself: the jobs of those versions are over, if that is enough.

    The best commitment counts, whatever the order in which events are read.
    """
    told = Fields(dict(body), "a commitment")
    versions = [
        (
            each.text("sop_instance_uid"),
            each.digest("sha256"),
            batch.transfer_syntax_no(each.text("transfer_syntax")),
        )
        for each in told.objects("instances")
    ]
    places = [str(place) for place in told.entries("places")]
    safe.note(connection, versions, told.number("copies"), places)
    if told.number("copies") < terms.safe_copies:
        return
    connection.executemany(
        "DELETE FROM job WHERE destination = ? AND (pack_no, sequence) IN"
        " (SELECT pack_no, sequence FROM instance WHERE sop_hash = ? AND dataset_sha256 = ?"
        " AND transfer_syntax_no = ?)",
        [(told.text("by"), uid_hash(uid), sha256, number) for uid, sha256, number in versions],
    )


def _note_evicted(connection: Connection, body: Mapping[str, Json], terms: Terms) -> None:
    """A pack was let go: its rows stay, made from the manifest where they are lost.

    What another index knows of an eviction has no manifest, and takes its rows over itself.
    """
    told = Fields(dict(body), "an eviction")
    known = packs.pack(connection, told.pack_id("pack"))
    if known is not None and known.state in packs.LET_GO:
        return
    if not told.has(event.MANIFEST):
        if known is not None:
            packs.set_state(connection, known.pack_id, PackState.EVICTED)
        return
    contents = manifest.Manifest.decode(document.encode(told.mapping(event.MANIFEST)))
    record(connection, contents.instances, Terms(patient_domain=terms.patient_domain))
    packs.sealed(
        connection,
        packs.SealedPack(
            pack_id=contents.pack_id,
            kind=contents.kind,
            size_bytes=told.number("size"),
            sha256=told.digest("sha256"),
            root=contents.root,
            sealed_at_ms=contents.sealed_ms,
        ),
    )
    packs.set_state(connection, contents.pack_id, PackState.EVICTED)


class _Batch:
    """The numbers that the rows of one transaction need, each looked up once."""

    def __init__(self, connection: Connection, patient_domain: str) -> None:
        self._connection = connection
        self._patient_domain = patient_domain
        self._numbers: dict[object, int] = {}
        # By study and series UID: the number, and the place before which an instance would be the
        # first of its series or study. A study may get an earlier first meanwhile; then the place
        # is too late, which costs a look-up and nothing else.
        self._series: dict[tuple[str, str], tuple[int, _Place]] = {}
        self._levels: tuple[object, object] = (None, None)
        self._level_uids = ("", "")

    def row(self, instance: Instance) -> tuple[int, int, *tuple[object, ...]]:
        """The parameters of `_INSERT_INSTANCE`; every other row is there after this."""
        location, identity = instance.location, instance.identity
        return (
            self._series_no(instance),
            self.pack_no(location.pack_id, PackKind.INSTANCES),
            location.sequence,
            uid_hash(instance.sop_instance_uid),
            pack_uid(instance.sop_instance_uid),
            self._sop_class_no(instance.sop_class_uid),
            self.transfer_syntax_no(identity.transfer_syntax_uid),
            self._origin_no(instance.origin),
            instance.received_at_ms,
            location.offset,
            location.size_bytes,
            identity.size_bytes,
            identity.sha256,
            attributes.pack(instance.header.instance),
        )

    def pack_no(self, pack_id: PackId, kind: PackKind) -> int:
        """The number of a pack, which is noted as open if it is new."""
        return self._number(
            pack_id,
            "SELECT pack_no FROM pack WHERE pack_id = ?",
            (pack_id.value,),
            "INSERT INTO pack (pack_id, kind, state) VALUES (?, ?, ?) RETURNING pack_no",
            (pack_id.value, kind, PackState.OPEN),
        )

    def _sop_class_no(self, uid: str) -> int:
        return self._number(
            ("class", uid),
            "SELECT sop_class_no FROM sop_class WHERE uid = ?",
            (uid,),
            "INSERT INTO sop_class (uid) VALUES (?) RETURNING sop_class_no",
            (uid,),
        )

    def transfer_syntax_no(self, uid: str) -> int:
        """The number of a transfer syntax, which is noted if it is new."""
        return self._number(
            ("syntax", uid),
            "SELECT transfer_syntax_no FROM transfer_syntax WHERE uid = ?",
            (uid,),
            "INSERT INTO transfer_syntax (uid) VALUES (?) RETURNING transfer_syntax_no",
            (uid,),
        )

    def _origin_no(self, origin: Origin) -> int:
        number = self._numbers.get(origin)
        if number is not None:
            return number
        values = (
            origin.calling_ae_title,
            origin.called_ae_title,
            origin.address,
            json.dumps(origin.verdict),
        )
        return self._number(
            origin,
            "SELECT origin_no FROM origin WHERE calling_ae_title = ? AND called_ae_title = ?"
            " AND address = ? AND verdict = ?",
            values,
            "INSERT INTO origin (calling_ae_title, called_ae_title, address, verdict)"
            " VALUES (?, ?, ?, ?) RETURNING origin_no",
            values,
        )

    def _number(
        self,
        key: object,
        select: str,
        wanted: tuple[object, ...],
        insert: str,
        values: tuple[object, ...],
    ) -> int:
        number = self._numbers.get(key)
        if number is None:
            row = self._connection.execute(select, wanted).fetchone()
            number = _one(self._connection, insert, values) if row is None else int(row[0])
            self._numbers[key] = number
        return number

    def _series_no(self, instance: Instance) -> int:
        location = instance.location
        place = (location.pack_id.value, location.sequence)
        uids = self._uids(instance)
        known = self._series.get(uids)
        if known is None:
            row = self._connection.execute(
                _FIND_SERIES, (pack_uid(uids[1]), pack_uid(uids[0]))
            ).fetchone()
            if row is not None:
                known = (int(row[0]), max((row[1], row[2]), (row[3], row[4])))
        if known is None or place < known[1]:
            study_no = self._put_study(instance, place)
            known = (self._put_series(instance, study_no, place), place)
        self._series[uids] = known
        return known[0]

    def _uids(self, instance: Instance) -> tuple[str, str]:
        """Those of study and series; read once for a row of instances that share their levels."""
        levels = (instance.header.study, instance.header.series)
        if levels[0] is not self._levels[0] or levels[1] is not self._levels[1]:
            self._levels = levels
            self._level_uids = (instance.study_instance_uid, instance.series_instance_uid)
        return self._level_uids

    def _put_series(self, instance: Instance, study_no: int, place: _Place) -> int:
        """The number of the instance's series; its row says what its first instance says."""
        uid = pack_uid(instance.series_instance_uid)
        row = self._connection.execute(
            "SELECT series_no, first_pack_id, first_sequence FROM series"
            " WHERE uid = ? AND study_no = ?",
            (uid, study_no),
        ).fetchone()
        if row is not None and (row[1], row[2]) <= place:
            return int(row[0])
        elements = attributes.with_character_set(
            instance.header.series, instance.header.character_set
        )
        value = attributes.reader(elements)
        searched = (value(header.MODALITY), value(header.SERIES_NUMBER))
        return _one(
            self._connection,
            _PUT_SERIES,
            (
                uid,
                study_no,
                *place,
                *map(patients.searchable, searched),
                patients.several(searched),
                attributes.pack(elements),
            ),
        )

    def _put_study(self, instance: Instance, place: _Place) -> int:
        """The number of the instance's study; its row says what its first instance says."""
        uid = pack_uid(instance.study_instance_uid)
        row = self._connection.execute(
            "SELECT study_no, first_pack_id, first_sequence, patient_no FROM study WHERE uid = ?",
            (uid,),
        ).fetchone()
        if row is not None and (row[1], row[2]) <= place:
            return int(row[0])
        patient_no = patients.number_of(self._connection, instance, self._patient_domain)
        elements = attributes.with_character_set(
            instance.header.study, instance.header.character_set
        )
        value = attributes.reader(elements)
        date, time = value(header.STUDY_DATE), value(header.STUDY_TIME)
        searched = (value(header.ACCESSION_NUMBER), value(header.STUDY_ID))
        study_no = _one(
            self._connection,
            _PUT_STUDY,
            (
                uid,
                patient_no,
                *place,
                matching.full_form(date, "DA") or "",
                matching.full_form(time, "TM") or "",
                *map(patients.searchable, searched),
                patients.several((date, time, *searched)),
                attributes.pack(elements),
                attributes.pack(
                    attributes.with_character_set(
                        instance.header.patient, instance.header.character_set
                    )
                ),
            ),
        )
        patients.settle(self._connection, patient_no)
        if row is not None and row[3] != patient_no:
            patients.settle(self._connection, int(row[3]))
        return study_no


def _one(connection: Connection, sql: str, parameters: tuple[object, ...]) -> int:
    """The number that an INSERT … RETURNING returns."""
    [(number,)] = connection.execute(sql, parameters).fetchall()
    return int(number)
