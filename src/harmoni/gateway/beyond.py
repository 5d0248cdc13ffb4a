"""What only the centre has: instances of which no row of the gateway tells.

The gateway lets go of nothing that it has not noted as safe there. So a count of the centre that is
no greater than what is noted as safe proves that there is nothing else, and only where it is
greater are the instances listed one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from harmoni.dicom.identifier import Query, QueryLevel, Single, UidList
from harmoni.gateway.catalogue import Catalogue, Listed
from harmoni.holdings.holding import Holding
from harmoni.index import find, lookup, safe
from harmoni.model.header import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)

INSTANCES_AT_LEVEL: Final = {
    QueryLevel.PATIENT: find.NUMBER_OF_PATIENT_RELATED_INSTANCES,
    QueryLevel.STUDY: find.NUMBER_OF_STUDY_RELATED_INSTANCES,
    QueryLevel.SERIES: find.NUMBER_OF_SERIES_RELATED_INSTANCES,
}
"""The key that tells how many instances an entity of a level has."""

_Values = Callable[[int], tuple[str, ...]]
"""The values of a unique key."""


def named_by(query: Query, asked: Catalogue, holding: Holding) -> list[Listed]:
    """What a retrieval's identifier names and only the centre has.

    Raises:
        Unreachable: the centre did not answer.
    """
    return list(_at_level(query.level, lambda tag: _values(query, tag), asked, holding))


def of_entity(
    query: Query,
    here: Mapping[int, str],
    there: Mapping[int, str],
    asked: Catalogue,
    holding: Holding,
) -> list[Listed]:
    """What only the centre has of an entity that both know.

    Args:
        query: at whose level the entity is.
        here: its values here.
        there: its values there, with the number of its instances.
        asked: asks the centre, where that number does not settle it.
        holding: what is here.

    Raises:
        AssociationEnded, Unreachable: the centre did not answer.
    """
    study, series = here.get(STUDY_INSTANCE_UID, ""), here.get(SERIES_INSTANCE_UID, "")
    count = int(there.get(INSTANCES_AT_LEVEL.get(query.level, 0)) or 0)
    match query.level:
        case QueryLevel.PATIENT:
            patient_id = here.get(PATIENT_ID, "")
            if not patient_id:
                return []
            return list(_of_studies(asked, holding, asked.counts_of_patient(patient_id)))
        case QueryLevel.STUDY:
            return list(_of_studies(asked, holding, {study: count}))
        case QueryLevel.SERIES:
            return list(_of_series(asked, holding, study, {series: count}))
        case QueryLevel.IMAGE:
            return []


def counts(
    entity: Mapping[int, str], wanted: Sequence[int], more: Sequence[Listed], holding: Holding
) -> dict[int, str]:
    """The numbers of an entity: what is known here, and what only the centre has.

    Args:
        entity: its values here.
        wanted: the tags of the numbers that are asked for.
        more: what only the centre has of it.
        holding: what is here.
    """
    series = {(each.study_instance_uid, each.series_instance_uid) for each in more}
    studies = {each.study_instance_uid for each in more}
    with holding.index.reader() as connection:
        new_series = sum(not lookup.knows_series(connection, *uids) for uids in series)
        new_studies = sum(not lookup.knows_study(connection, uid) for uid in studies)
    added = {
        find.NUMBER_OF_PATIENT_RELATED_STUDIES: new_studies,
        find.NUMBER_OF_PATIENT_RELATED_SERIES: new_series,
        find.NUMBER_OF_PATIENT_RELATED_INSTANCES: len(more),
        find.NUMBER_OF_STUDY_RELATED_SERIES: new_series,
        find.NUMBER_OF_STUDY_RELATED_INSTANCES: len(more),
        find.NUMBER_OF_SERIES_RELATED_INSTANCES: len(more),
    }
    return {tag: str(int(entity[tag] or 0) + added[tag]) for tag in wanted}


def _at_level(
    level: QueryLevel, values: _Values, asked: Catalogue, holding: Holding
) -> Iterator[Listed]:
    match level:
        case QueryLevel.PATIENT:
            for patient_id in values(PATIENT_ID):
                yield from _of_studies(asked, holding, asked.counts_of_patient(patient_id))
        case QueryLevel.STUDY:
            studies = values(STUDY_INSTANCE_UID)
            yield from _of_studies(asked, holding, asked.counts_of_studies(studies))
        case QueryLevel.SERIES:
            for study in values(STUDY_INSTANCE_UID):
                found = asked.counts_of_series(study, values(SERIES_INSTANCE_UID))
                yield from _of_series(asked, holding, study, found)
        case QueryLevel.IMAGE:
            images = set(_unknown(holding, values(SOP_INSTANCE_UID)))
            if images:
                for study in values(STUDY_INSTANCE_UID):
                    for series in values(SERIES_INSTANCE_UID):
                        listed = asked.series(study, series)
                        yield from (each for each in listed if each.sop_instance_uid in images)


def _of_studies(
    asked: Catalogue, holding: Holding, counts_there: Mapping[str, int]
) -> Iterator[Listed]:
    for study, count in counts_there.items():
        with holding.index.reader() as connection:
            covered = safe.of_study(connection, study).safe >= count
        if not covered:
            yield from _of_series(asked, holding, study, asked.counts_of_series(study))


def _of_series(
    asked: Catalogue, holding: Holding, study: str, counts_there: Mapping[str, int]
) -> Iterator[Listed]:
    for series, count in counts_there.items():
        with holding.index.reader() as connection:
            covered = safe.of_series(connection, study, series).safe >= count
        if not covered:
            listed = {each.sop_instance_uid: each for each in asked.series(study, series)}
            yield from (listed[uid] for uid in _unknown(holding, listed))


def _unknown(holding: Holding, sop_instance_uids: Iterable[str]) -> list[str]:
    with holding.index.reader() as connection:
        return [uid for uid in sop_instance_uids if not lookup.versions(connection, uid)]


def _values(query: Query, tag: int) -> tuple[str, ...]:
    """The values of a unique key of a retrieval."""
    match query.match(tag):
        case Single(value):
            return (value,)
        case UidList(values):
            return values
        case _:
            return ()
