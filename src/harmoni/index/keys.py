"""From the keys of a query to conditions on the tables (PS3.4 C.2.2.2). Pure.

Conditions narrow: whatever dicom/matching.py would call a match satisfies them, and a little more
may (values with a backslash, names of several groups, attributes without a search column). Whoever
answers a query holds the rows against dicom/matching.py, which has the last word. A key whose
attribute lies on a lower level than the query's asks for nothing, as if it were absent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import Column, ColumnElement, and_, exists, false, literal_column, or_, select, true

from harmoni.dicom.identifier import Query, QueryLevel
from harmoni.dicom.matching import (
    Match,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    name_groups,
)
from harmoni.index import attributes
from harmoni.index.attributes import pack_uid, uid_hash
from harmoni.index.schema import instance, patient, patient_name, series, sop_class, study
from harmoni.model import header
from harmoni.model.errors import InvalidInput

# The type parameter of a column says nothing here: SQLAlchemy does not infer it from tables.
_Column: TypeAlias = Column[str]

MODALITIES_IN_STUDY: Final = 0x0008_0061
SOP_CLASSES_IN_STUDY: Final = 0x0008_0062

# A longer pattern is cut and searched by its beginning: GLOB has limits of its own.
_MAX_PATTERN_CHARACTERS: Final = 256

LEVELS: Final = tuple(QueryLevel)
"""From the top down, as the enumeration names them."""

_UNIQUE_KEYS: Final = {
    QueryLevel.PATIENT: header.PATIENT_ID,
    QueryLevel.STUDY: header.STUDY_INSTANCE_UID,
    QueryLevel.SERIES: header.SERIES_INSTANCE_UID,
    QueryLevel.IMAGE: header.SOP_INSTANCE_UID,
}


def reaches(query: Query, level: QueryLevel) -> bool:
    """Whether the answers to a query have the attributes of a level: its own, or one above."""
    return LEVELS.index(level) <= LEVELS.index(query.level)


def conditions(query: Query) -> list[ColumnElement[bool]]:
    """What the rows that answer a query satisfy at least.

    Instances that belong to no study are found by their SOP Instance UID, never by a query.
    """
    visible = study.c.uid != b""
    if query.level is QueryLevel.PATIENT:
        of_patient = study.c.patient_no == patient.c.patient_no
        visible = exists(select(1).where(of_patient, visible).correlate(patient))
    return [visible, *_clauses(query, tuple(_SEARCHES))]


def unique_key_conditions(query: Query) -> list[ColumnElement[bool]]:
    """What the rows that a retrieval names must satisfy: its unique keys only.

    Raises:
        InvalidInput: no unique key asks for anything, which would name everything.
    """
    clauses = _clauses(query, tuple(_UNIQUE_KEYS.values()))
    if not clauses:
        raise InvalidInput(
            "a retrieval without any unique key (PS3.4 C.4.2.1.4) would name the whole archive: "
            "send at least one UID or a Patient ID"
        )
    return clauses


def _clauses(query: Query, tags: tuple[int, ...]) -> list[ColumnElement[bool]]:
    return [
        search.clause(search.column, key.match)
        for key in query.keys
        if key.tag in tags
        and not isinstance(key.match, Universal)
        and reaches(query, (search := _SEARCHES[key.tag]).level)
    ]


def _text(column: _Column, match: Match) -> ColumnElement[bool]:
    # A constant, not a parameter: else the partial index would not do.
    return or_(_one_text(column, match), column.table.c.several == literal_column("1"))


def _one_text(column: _Column, match: Match) -> ColumnElement[bool]:
    match match:
        case Universal():
            return true()
        case Single(value):
            return column == value
        case Wildcard(pattern):
            return _like(column, pattern)
        case UidList(values):
            return column.in_(values)
        case Range(low, high):
            bounds = [column != ""]
            if low is not None:
                bounds.append(column >= low)
            if high is not None:
                bounds.append(column <= high)
            return and_(*bounds)


def _name(column: _Column, match: Match) -> ColumnElement[bool]:
    """Each component group of the key must be one of the patient's; any one of several names."""
    match match:
        case Single(value):
            return _patient_named([patient_name.c.name == one for one in name_groups(value)])
        case Wildcard(pattern):
            return _patient_named([_like(patient_name.c.name, one) for one in name_groups(pattern)])
        case UidList(values):
            return or_(false(), *(_name(column, Single(value)) for value in values))
        case Universal() | Range():
            return true()


def _patient_named(clauses: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    named = select(patient_name.c.patient_no)
    return and_(true(), *(patient.c.patient_no.in_(named.where(clause)) for clause in clauses))


def _uid(column: _Column, match: Match) -> ColumnElement[bool]:
    return column.in_([pack_uid(uid) for uid in _uids(match)])


def _sop_instance_uid(column: _Column, match: Match) -> ColumnElement[bool]:
    hashes = instance.c.sop_hash.in_([uid_hash(uid) for uid in _uids(match)])
    return and_(hashes, _uid(column, match))


def _uids(match: Match) -> tuple[str, ...]:
    """The UIDs that a key asks for; wild cards and ranges of UIDs are unknown to PS3.4."""
    match match:
        case UidList(values):
            return values
        case Single(value):
            return (value,)
        case _:
            return ()


def _modality_in_study(column: _Column, match: Match) -> ColumnElement[bool]:
    found = select(1).where(series.c.study_no == study.c.study_no, _text(column, match))
    return exists(found.correlate(study))


def _sop_class_in_study(column: _Column, match: Match) -> ColumnElement[bool]:
    found = select(1).where(series.c.study_no == study.c.study_no, _one_text(column, match))
    joined = found.select_from(series.join(instance).join(sop_class))
    return exists(joined.correlate(study))


def _like(column: _Column, pattern: str) -> ColumnElement[bool]:
    """Wild card matching; what stands before the first wild card narrows the index to a range."""
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        pattern = pattern[:_MAX_PATTERN_CHARACTERS] + "*"
    globbed = column.bool_op("GLOB")(pattern.replace("[", "[[]"))
    prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if not prefix:
        return globbed
    # No text sorts after U+10FFFF, so this bound covers whatever follows the prefix.
    return and_(column >= prefix, column <= prefix + "\U0010ffff", globbed)


@dataclass(frozen=True, slots=True)
class _Search:
    """How the database decides the key of one attribute.

    Args:
        level: the highest level whose answers have the attribute.
        column: where it stands.
        clause: from column and match to a condition.
    """

    level: QueryLevel
    column: _Column
    clause: Callable[[_Column, Match], ColumnElement[bool]]


_SEARCHES: Final = {
    header.PATIENT_ID: _Search(QueryLevel.PATIENT, patient.c.patient_id, _text),
    header.PATIENT_NAME: _Search(QueryLevel.PATIENT, patient_name.c.name, _name),
    attributes.PATIENT_BIRTH_DATE: _Search(QueryLevel.PATIENT, patient.c.birth_date, _text),
    header.STUDY_INSTANCE_UID: _Search(QueryLevel.STUDY, study.c.uid, _uid),
    header.STUDY_DATE: _Search(QueryLevel.STUDY, study.c.date, _text),
    header.STUDY_TIME: _Search(QueryLevel.STUDY, study.c.time, _text),
    header.ACCESSION_NUMBER: _Search(QueryLevel.STUDY, study.c.accession_number, _text),
    header.STUDY_ID: _Search(QueryLevel.STUDY, study.c.study_id, _text),
    MODALITIES_IN_STUDY: _Search(QueryLevel.STUDY, series.c.modality, _modality_in_study),
    SOP_CLASSES_IN_STUDY: _Search(QueryLevel.STUDY, sop_class.c.uid, _sop_class_in_study),
    header.SERIES_INSTANCE_UID: _Search(QueryLevel.SERIES, series.c.uid, _uid),
    header.MODALITY: _Search(QueryLevel.SERIES, series.c.modality, _text),
    header.SERIES_NUMBER: _Search(QueryLevel.SERIES, series.c.series_number, _text),
    header.SOP_INSTANCE_UID: _Search(QueryLevel.IMAGE, instance.c.sop_uid, _sop_instance_uid),
    header.SOP_CLASS_UID: _Search(QueryLevel.IMAGE, sop_class.c.uid, _one_text),
}
