"""Two answers to one query made one: what the gateway knows, and what the centre does.

Entities are told apart by the unique key of the level. The gateway is authoritative for what passed
through it: where both know an entity, its values are the gateway's. Numbers and lists that are
gathered from below are those of the union, which is settled by whoever asks (`through.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.identifier import INSTANCE_AVAILABILITY, Query
from harmoni.index import find
from harmoni.index.keys import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY

NEARLINE: Final = "NEARLINE"
"""Instance Availability (0008,0056) of what must be fetched first."""

LISTS: Final = frozenset({MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY})
COUNTS: Final = frozenset(
    {
        find.NUMBER_OF_PATIENT_RELATED_STUDIES,
        find.NUMBER_OF_PATIENT_RELATED_SERIES,
        find.NUMBER_OF_PATIENT_RELATED_INSTANCES,
        find.NUMBER_OF_STUDY_RELATED_SERIES,
        find.NUMBER_OF_STUDY_RELATED_INSTANCES,
        find.NUMBER_OF_SERIES_RELATED_INSTANCES,
    }
)

Answer = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Merged:
    """One entity of the union."""

    values: dict[int, str]
    here: bool
    """Whether the gateway knows it."""
    there: bool
    """Whether the centre does."""


def merge(query: Query, here: Sequence[Answer], there: Sequence[Answer]) -> list[Merged]:
    """Make one answer of two; counts of what both know are still the gateway's.

    Args:
        query: what was asked.
        here: the gateway's answers.
        there: the centre's.
    """
    key = query.level.unique_key
    far = {answer.get(key, ""): answer for answer in there}
    merged = []
    for answer in here:
        other = far.pop(answer.get(key, ""), None)
        values = dict(answer)
        if other is not None:
            for tag in LISTS & values.keys():
                values[tag] = _joined(values[tag], other.get(tag, ""))
        merged.append(Merged(values, here=True, there=other is not None))
    merged += [
        Merged({**answer, INSTANCE_AVAILABILITY: NEARLINE}, here=False, there=True)
        for answer in far.values()
    ]
    return merged


def _joined(first: str, second: str) -> str:
    values = {value for several in (first, second) for value in several.split("\\") if value}
    return "\\".join(sorted(values))
