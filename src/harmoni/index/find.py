"""Answer a C-FIND from the index (PS3.4 C.4.1).

A statement is built from the query alone; the database narrows and counts, rows stream. Raw
elements are decoded for the rows that come, and each key is held against them (dicom/matching.py).
Answers are unique by UID within the level above; where a SOP Instance UID has several versions the
one that is served is shown, if it lies in the series, else the first one there.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    SelectBase,
    and_,
    case,
    exists,
    func,
    select,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from harmoni.dicom.identifier import (
    DATASET_SHA256,
    INSTANCE_AVAILABILITY,
    RETRIEVE_AE_TITLE,
    Query,
    QueryLevel,
)
from harmoni.dicom.matching import Universal, matches
from harmoni.index import attributes, keys, lookup, statements
from harmoni.index.attributes import unpack_uid
from harmoni.index.database import Connection, Row
from harmoni.index.keys import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY
from harmoni.index.packs import NOT_HERE, PackState
from harmoni.index.schema import (
    instance,
    pack,
    patient,
    series,
    sop_class,
    study,
    transfer_syntax,
)
from harmoni.model import header

NUMBER_OF_PATIENT_RELATED_STUDIES: Final = 0x0020_1200
NUMBER_OF_PATIENT_RELATED_SERIES: Final = 0x0020_1202
NUMBER_OF_PATIENT_RELATED_INSTANCES: Final = 0x0020_1204
NUMBER_OF_STUDY_RELATED_SERIES: Final = 0x0020_1206
NUMBER_OF_STUDY_RELATED_INSTANCES: Final = 0x0020_1208
NUMBER_OF_SERIES_RELATED_INSTANCES: Final = 0x0020_1209
AVAILABLE_TRANSFER_SYNTAX_UID: Final = 0x0008_3002

_RAW_TAGS: Final = {
    QueryLevel.PATIENT: header.PATIENT_TAGS,
    QueryLevel.STUDY: header.STUDY_TAGS,
    QueryLevel.SERIES: header.SERIES_TAGS,
    QueryLevel.IMAGE: header.INSTANCE_TAGS,
}
# As for `_Column` in keys.py, what the columns hold says nothing.
_Rows: TypeAlias = FromClause[ReadOnlyColumnCollection[str, Column[str]]]
_Computed: TypeAlias = ColumnElement[int] | ColumnElement[str] | ColumnElement[bytes]
# Level by level what a row begins with. `_values` and `_is_shown` read the same order.
_COLUMNS: Final = {
    QueryLevel.PATIENT: (patient.c.attributes,),
    QueryLevel.STUDY: (study.c.attributes, study.c.uid),
    QueryLevel.SERIES: (series.c.attributes, series.c.uid),
    QueryLevel.IMAGE: (
        instance.c.attributes,
        instance.c.sop_uid,
        sop_class.c.uid,
        transfer_syntax.c.uid,
        pack.c.pack_id,
        instance.c.sequence,
        lookup.other_copies(),
    ),
}
# What an answer says besides what lies in the tables.
_SAID_OF_ALL: Final = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})
_IMAGE_COLUMNS: Final = sum(len(columns) for columns in _COLUMNS.values())
_JOINS: Final = {
    QueryLevel.PATIENT: patient,
    QueryLevel.STUDY: patient.join(study),
    QueryLevel.SERIES: patient.join(study).join(series),
    QueryLevel.IMAGE: patient.join(study)
    .join(series)
    .join(instance)
    .join(sop_class)
    .join(transfer_syntax)
    .join(pack),
}


def find(
    connection: Connection, query: Query, *, limit: int | None = None
) -> Iterator[dict[int, str]]:
    """Answer a query, row by row as they are found, in no particular order.

    Args:
        connection: from `Database.reader`, to be held until the last answer was taken.
        query: parsed; its unique keys were checked by whoever wants them checked.
        limit: the most answers to give; to learn that there are more, ask for one more.

    Yields:
        Tag to text for the keys of the query that are known at its level, several values joined by
        a backslash, and the unique keys of all levels down to it; `DATASET_SHA256`, in hexadecimal
        digits, of each image when the query wants it.
    """
    return islice(_answers(connection, query), limit)


def statement(query: Query) -> SelectBase:
    """The rows among which the answers to a query are; values are bound."""
    columns = [
        column for level in keys.LEVELS if keys.reaches(query, level) for column in _COLUMNS[level]
    ]
    computed = [column.label(None) for column in _computed(query).values()]
    return (
        select(*columns, *computed).select_from(_JOINS[query.level]).where(*keys.conditions(query))
    )


def supports(query: Query) -> bool:
    """Whether every key of a query is matched and returned; one that is not matches everything."""
    matched, said = _matched_tags(query), set(_SAID_OF_ALL)
    if query.level is QueryLevel.IMAGE:
        said.add(AVAILABLE_TRANSFER_SYNTAX_UID)
    if query.private_keys or (query.wants_sha256 and query.level is not QueryLevel.IMAGE):
        return False
    return all(
        key.tag in matched or (key.tag in said and isinstance(key.match, Universal))
        for key in query.keys
    )


def _answers(connection: Connection, query: Query) -> Iterator[dict[int, str]]:
    known = _matched_tags(query)
    asked = [key for key in query.keys if key.tag in known and not isinstance(key.match, Universal)]
    wanted = {key.tag for key in query.keys}
    computed = tuple(_computed(query))
    for row in statements.run(connection, statement(query)):
        values = _values(query, wanted, computed, row)
        if not all(matches(key.match, values[key.tag], key.vr) for key in asked):
            continue
        if query.level is QueryLevel.IMAGE and not _is_shown(connection, values, row):
            continue
        yield values


def _values(query: Query, wanted: set[int], computed: tuple[int, ...], row: Row) -> dict[int, str]:
    """What a row says, for the tags that are wanted, the unique keys and what was computed."""
    fields = iter(row)
    values: dict[int, str] = {}
    for level in keys.LEVELS:
        if not keys.reaches(query, level):
            break
        value = attributes.reader(attributes.unpack(next(fields)))
        values.update((tag, value(tag)) for tag in _RAW_TAGS[level] if tag in wanted)
        match level:
            case QueryLevel.PATIENT:
                values[header.PATIENT_ID] = value(header.PATIENT_ID)
            case QueryLevel.STUDY:
                values[header.STUDY_INSTANCE_UID] = unpack_uid(next(fields))
            case QueryLevel.SERIES:
                values[header.SERIES_INSTANCE_UID] = unpack_uid(next(fields))
            case QueryLevel.IMAGE:
                values[header.SOP_INSTANCE_UID] = unpack_uid(next(fields))
                values[header.SOP_CLASS_UID] = next(fields)
                values[AVAILABLE_TRANSFER_SYNTAX_UID] = next(fields)
                # Pack id, sequence and other copies are for `_is_shown`.
                fields = islice(fields, 3, None)
    values.update((tag, _text(tag, value)) for tag, value in zip(computed, fields, strict=True))
    return values


def _is_shown(connection: Connection, values: dict[int, str], row: Row) -> bool:
    """Whether an instance row is the one that answers for its SOP Instance UID in its series."""
    *_, pack_id, sequence, has_others = row[:_IMAGE_COLUMNS]
    if not has_others:
        return True
    copies = lookup.versions(connection, values[header.SOP_INSTANCE_UID])
    here = [
        copy
        for copy in copies
        if copy.study_instance_uid == values[header.STUDY_INSTANCE_UID]
        and copy.series_instance_uid == values[header.SERIES_INSTANCE_UID]
    ]
    served = lookup.served(copies)
    shown = served if served in here else here[0]
    return (shown.location.pack_id.value, shown.location.sequence) == (pack_id, sequence)


def _matched_tags(query: Query) -> set[int]:
    """The tags of which the answers to a query have values that keys are held against."""
    raw = (_RAW_TAGS[level] for level in keys.LEVELS if keys.reaches(query, level))
    return {tag for tags in raw for tag in tags}.union(_counted_tags(query))


def _counted_tags(query: Query) -> list[int]:
    """The keys of the query whose values are counted or gathered from lower levels."""
    return [
        key.tag
        for key in query.keys
        if key.tag in _COUNTED and keys.reaches(query, _COUNTED[key.tag][0])
    ]


def _computed(query: Query) -> dict[int, _Computed]:
    """Tag to column of what a row has behind the columns of its levels, in their order."""
    computed: dict[int, _Computed] = {tag: _COUNTED[tag][1] for tag in _counted_tags(query)}
    if query.wants_sha256 and query.level is QueryLevel.IMAGE:
        computed[DATASET_SHA256] = instance.c.dataset_sha256
    if any(key.tag == INSTANCE_AVAILABILITY for key in query.keys):
        computed[INSTANCE_AVAILABILITY] = _AVAILABILITY[query.level]
    return computed


def _text(tag: int, computed: int | str | bytes) -> str:
    """A number as it is, bytes as hexadecimal digits, a JSON list of values in ascending order."""
    if isinstance(computed, int):
        return str(computed)
    if isinstance(computed, bytes):
        return computed.hex()
    if tag == INSTANCE_AVAILABILITY:
        return computed
    values = {value for several in json.loads(computed) for value in several.split("\\") if value}
    return "\\".join(sorted(values))


# Aliases, so that nothing is taken for a table of the statement around.
_STUDY: Final = study.alias("its_study")
_SERIES: Final = series.alias("its_series")
_INSTANCE: Final = instance.alias("its_instance")
_CLASS: Final = sop_class.alias("its_class")
# The instances of no study are in nobody's counts, as they are in nobody's answers.
_OF_PATIENT: Final = and_(_STUDY.c.patient_no == patient.c.patient_no, _STUDY.c.uid != b"")
_OF_STUDY: Final = _SERIES.c.study_no == study.c.study_no
# Copies and versions of a SOP Instance count once. 64 bits tell the UIDs of a patient apart.
_INSTANCES: Final[ColumnElement[int]] = func.count(_INSTANCE.c.sop_hash.distinct())


# The highest level whose answers have the attribute, and its value: a subquery for each row.
_COUNTED: Final = {
    NUMBER_OF_PATIENT_RELATED_STUDIES: (
        QueryLevel.PATIENT,
        select(func.count()).select_from(_STUDY).where(_OF_PATIENT).scalar_subquery(),
    ),
    NUMBER_OF_PATIENT_RELATED_SERIES: (
        QueryLevel.PATIENT,
        select(func.count()).select_from(_STUDY.join(_SERIES)).where(_OF_PATIENT).scalar_subquery(),
    ),
    NUMBER_OF_PATIENT_RELATED_INSTANCES: (
        QueryLevel.PATIENT,
        select(_INSTANCES)
        .select_from(_STUDY.join(_SERIES).join(_INSTANCE))
        .where(_OF_PATIENT)
        .scalar_subquery(),
    ),
    NUMBER_OF_STUDY_RELATED_SERIES: (
        QueryLevel.STUDY,
        select(func.count()).select_from(_SERIES).where(_OF_STUDY).scalar_subquery(),
    ),
    NUMBER_OF_STUDY_RELATED_INSTANCES: (
        QueryLevel.STUDY,
        select(_INSTANCES).select_from(_SERIES.join(_INSTANCE)).where(_OF_STUDY).scalar_subquery(),
    ),
    MODALITIES_IN_STUDY: (
        QueryLevel.STUDY,
        select(func.json_group_array(_SERIES.c.modality.distinct()))
        .select_from(_SERIES)
        .where(_OF_STUDY)
        .scalar_subquery(),
    ),
    SOP_CLASSES_IN_STUDY: (
        QueryLevel.STUDY,
        select(func.json_group_array(_CLASS.c.uid.distinct()))
        .select_from(_SERIES.join(_INSTANCE).join(_CLASS))
        .where(_OF_STUDY)
        .scalar_subquery(),
    ),
    NUMBER_OF_SERIES_RELATED_INSTANCES: (
        QueryLevel.SERIES,
        select(_INSTANCES)
        .select_from(_INSTANCE)
        .where(_INSTANCE.c.series_no == series.c.series_no)
        .scalar_subquery(),
    ),
}


def _is_away(copy: _Rows, its_pack: _Rows) -> ColumnElement[bool]:
    """Whether a copy is evicted, and no sound one of the same version is here instead."""
    twin, its = instance.alias("twin"), pack.alias("twin_pack")
    is_here = exists(
        select(1)
        .select_from(twin.join(its))
        .where(
            twin.c.sop_hash == copy.c.sop_hash,
            twin.c.dataset_sha256 == copy.c.dataset_sha256,
            twin.c.transfer_syntax_no == copy.c.transfer_syntax_no,
            # That it is another pack goes without saying, but so the state is looked at first.
            twin.c.pack_no != its_pack.c.pack_no,
            twin.c.damaged == 0,
            its.c.state.not_in(NOT_HERE),
        )
        .correlate(copy, its_pack)
    )
    # Concatenated, so that not every evicted pack is gone through by the index of states.
    return and_(its_pack.c.state.concat("") == PackState.EVICTED, ~is_here)


def _availability(is_away: ColumnElement[bool]) -> ColumnElement[str]:
    """Instance Availability (PS3.3 C.4.23.1.1): what is away is fetched before it is sent."""
    return case((is_away, "NEARLINE"), else_="ONLINE")


_PACK: Final = pack.alias("its_pack")
_HAS_AWAY: Final = select(1).where(_is_away(_INSTANCE, _PACK))
# Level by level, of what a row stands for.
_AVAILABILITY: Final = {
    QueryLevel.PATIENT: _availability(
        exists(
            _HAS_AWAY.select_from(_STUDY.join(_SERIES).join(_INSTANCE).join(_PACK))
            .where(_OF_PATIENT)
            .correlate(patient)
        )
    ),
    QueryLevel.STUDY: _availability(
        exists(
            _HAS_AWAY.select_from(_SERIES.join(_INSTANCE).join(_PACK))
            .where(_OF_STUDY)
            .correlate(study)
        )
    ),
    QueryLevel.SERIES: _availability(
        exists(
            _HAS_AWAY.select_from(_INSTANCE.join(_PACK))
            .where(_INSTANCE.c.series_no == series.c.series_no)
            .correlate(series)
        )
    ),
    QueryLevel.IMAGE: _availability(_is_away(instance, pack)),
}
