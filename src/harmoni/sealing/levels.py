"""The shared levels of a manifest: each patient, study and series once, in tables.

    patients   {"character_set": base64, "elements": […]}
    studies    {"patient": number in patients, "elements": […]}
    series     {"study": number in studies, "elements": […]}
    element    ["00100020", "LO", base64 of the value field]

Instances with equal elements at a level share the entry; so do instances of one study whose
headers contradict each other, each contradiction as one more entry. Nothing is lost or merged.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from harmoni.model.errors import Damaged
from harmoni.model.header import Element, Header
from harmoni.sealing.document import Fields, Json, octets, octets_text

_ELEMENT_FIELDS: Final = 3
_TAG: Final = re.compile(r"[0-9A-F]{8}")

Elements = tuple[Element, ...]


class LevelTable:
    """Patients, studies and series of a manifest that is being written."""

    __slots__ = ("_last", "_patients", "_series", "_studies")

    def __init__(self) -> None:
        # Insertion order numbers the entries. The keys hold the parent's number, so equal studies
        # of two patients stay two entries.
        self._patients: dict[tuple[bytes, Elements], int] = {}
        self._studies: dict[tuple[int, Elements], int] = {}
        self._series: dict[tuple[int, Elements], int] = {}
        self._last: tuple[Header, int] | None = None

    def add(self, header: Header) -> int:
        """The number of the series to which an instance with that header belongs."""
        if self._last is not None and _same_series(self._last[0], header):
            return self._last[1]
        patients, studies, series = self._patients, self._studies, self._series
        patient = patients.setdefault((header.character_set, header.patient), len(patients))
        study = studies.setdefault((patient, header.study), len(studies))
        number = series.setdefault((study, header.series), len(series))
        self._last = (header, number)
        return number

    def fields(self) -> dict[str, Json]:
        """The three tables."""
        return {
            "patients": [
                {"character_set": octets_text(character_set), "elements": element_fields(elements)}
                for character_set, elements in self._patients
            ],
            "studies": [
                {"patient": patient, "elements": element_fields(elements)}
                for patient, elements in self._studies
            ],
            "series": [
                {"study": study, "elements": element_fields(elements)}
                for study, elements in self._series
            ],
        }


def _same_series(one: Header, other: Header) -> bool:
    """Whether two headers differ at most in instance elements; spares hashing in the usual case."""
    return (
        one.series == other.series
        and one.study == other.study
        and one.patient == other.patient
        and one.character_set == other.character_set
    )


def read_series(fields: Fields) -> list[Header]:
    """Read the three tables of a manifest.

    Returns:
        One header per series, in their order, with everything but the instance elements.

    Raises:
        Damaged: an entry names a parent that is not there, or is malformed.
    """
    patients = [
        Header(
            character_set=patient.octets("character_set"),
            patient=read_elements(patient.entries("elements")),
        )
        for patient in fields.objects("patients")
    ]
    studies = [
        replace(
            _entry(patients, study.number("patient")),
            study=read_elements(study.entries("elements")),
        )
        for study in fields.objects("studies")
    ]
    return [
        replace(
            _entry(studies, series.number("study")),
            series=read_elements(series.entries("elements")),
        )
        for series in fields.objects("series")
    ]


def with_instance(series: Sequence[Header], number: int, instance: Elements) -> Header:
    """The whole header of an instance of the series with that number.

    Raises:
        Damaged: there is no such series.
    """
    shared = _entry(series, number)
    return Header(
        character_set=shared.character_set,
        patient=shared.patient,
        study=shared.study,
        series=shared.series,
        instance=instance,
    )


def _entry(table: Sequence[Header], number: int) -> Header:
    if number >= len(table):
        raise Damaged(f"the manifest names entry {number} of {len(table)}; use another copy")
    return table[number]


def element_fields(elements: Elements) -> list[Json]:
    """The JSON of raw elements."""
    return [[f"{e.tag:08X}", e.vr, octets_text(e.value)] for e in elements]


def read_elements(entries: Sequence[Json]) -> Elements:
    """Read the JSON of raw elements; raises Damaged."""
    return tuple([_read_element(entry) for entry in entries])


def _read_element(entry: Json) -> Element:
    # Plain tests instead of a pattern match: a rebuild reads ten of these per instance.
    if isinstance(entry, list) and len(entry) == _ELEMENT_FIELDS:
        tag, vr, text = entry
        if isinstance(tag, str) and isinstance(vr, str):
            number, value = _tag_number(tag), octets(text)
            if number is not None and value is not None:
                return Element(number, vr, value)
    raise Damaged("the manifest has an element that is none; use another copy")


@lru_cache(maxsize=256)
def _tag_number(tag: str) -> int | None:
    """The tag that eight digits name, or None; the few tags of a header come ever again."""
    return None if _TAG.fullmatch(tag) is None else int(tag, 16)
