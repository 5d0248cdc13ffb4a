"""Two answers to one query made one: what the gateway knows, and what the centre does.

Entities are told apart by the unique key of the level. The gateway is authoritative for what passed
through it: where both know an entity, its values are the gateway's. Numbers and lists that are
gathered from below are those of the union, which is settled by whoever asks (`through.py`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harmoni.dicom.identifier import INSTANCE_AVAILABILITY, Query, QueryLevel
from harmoni.index import find
from harmoni.index.keys import MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY
from harmoni.model.header import ISSUER_OF_PATIENT_ID

Answer = Mapping[int, str]

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


@dataclass(frozen=True, slots=True)
class Merged:
    """One entity of the union."""

    values: dict[int, str]
    here: bool
    """Whether the gateway knows it."""
    there: Answer | None
    """What the centre says of it; None where it does not know it."""


def merge(query: Query, here: Sequence[Answer], there: Sequence[Answer]) -> list[Merged]:
    """Make one answer of two; counts of what both know are still the gateway's.

    Args:
        query: what was asked.
        here: the gateway's answers.
        there: the centre's.
    """
    far: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in there:
        far[_key(query, answer)].append(answer)
    merged = []
    for answer in here:
        same = far.get(_key(query, answer))
        other = same.pop(0) if same else None
        values = dict(answer)
        if other is not None:
            for tag in LISTS & values.keys():
                values[tag] = _joined(values[tag], other.get(tag, ""))
        merged.append(Merged(values, here=True, there=other))
    merged += [
        Merged({**answer, INSTANCE_AVAILABILITY: NEARLINE}, here=False, there=answer)
        for answers in far.values()
        for answer in answers
    ]
    return merged


def _key(query: Query, answer: Answer) -> str:
    """What tells entities of a level apart. A Patient ID means little without its issuer."""
    unique = answer.get(query.level.unique_key, "")
    if query.level is QueryLevel.PATIENT:
        return f"{unique}\\{answer.get(ISSUER_OF_PATIENT_ID, '')}"
    return unique


def _joined(first: str, second: str) -> str:
    values = {value for several in (first, second) for value in several.split("\\") if value}
    return "\\".join(sorted(values))
