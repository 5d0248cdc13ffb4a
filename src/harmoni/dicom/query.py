"""Queries as values: level, keys and what they ask for (PS3.4 C.4, C.6).

Where a query comes from, bytes of a peer (dicom/identifier.py) or an operator's words, makes no
difference to whoever answers it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from harmoni.dicom.dataset import vr_of_tag
from harmoni.dicom.encoding import TEXT_VRS
from harmoni.dicom.matching import (
    ONE_VALUE_VRS,
    Match,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    parse_range,
)
from harmoni.model.errors import InvalidInput
from harmoni.model.header import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)

MAX_UIDS: Final = 10_000
"""In a list of UIDs."""
MAX_VALUES: Final = 100
"""In a list of anything else, which costs more to compare."""
MAX_KEY_CHARACTERS: Final = 1024
"""Of a single value, a range or a pattern; no VR that is matched by text allows more in a line."""

QueryRoot = Literal["PATIENT", "STUDY"]

_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE_VRS: Final = frozenset({"DA", "TM", "DT"})


class QueryLevel(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def unique_key(self) -> int:
        """The tag of the level's unique key (PS3.4 C.6.1.1)."""
        return _UNIQUE_KEYS[self]


_UNIQUE_KEYS: Final = {
    QueryLevel.PATIENT: PATIENT_ID,
    QueryLevel.STUDY: STUDY_INSTANCE_UID,
    QueryLevel.SERIES: SERIES_INSTANCE_UID,
    QueryLevel.IMAGE: SOP_INSTANCE_UID,
}
LEVELS_OF_ROOT: Final[Mapping[QueryRoot, tuple[QueryLevel, ...]]] = {
    "PATIENT": tuple(QueryLevel),
    "STUDY": tuple(QueryLevel)[1:],
}


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute of an identifier: matched, and returned in every answer.

    Args:
        tag: group and element, 0xggggeeee.
        vr: value representation.
        match: what it asks for; `Universal` when it is a return key only.
    """

    tag: int
    vr: str
    match: Match


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed identifier."""

    root: QueryRoot
    level: QueryLevel
    keys: tuple[Key, ...]
    """In the order of the identifier; without Query/Retrieve Level and character set."""
    character_set: bytes = b""
    """Specific Character Set (0008,0005) of the request, raw; empty when absent."""
    private_keys: bool = False
    """Whether private keys of others were asked for; they are never answered."""
    wants_sha256: bool = False
    """Whether each answer shall tell the SHA-256 of its data set, in our private block; our own
    nodes ask for it at IMAGE level."""
    received: bytes = field(default=b"", compare=False, repr=False)
    """The identifier as it was received, for the audit trail; empty for a composed query."""

    def match(self, tag: int) -> Match:
        """What the key of a tag asks for; `Universal` when there is no such key."""
        for key in self.keys:
            if key.tag == tag:
                return key.match
        return Universal()


def compose_query(root: QueryRoot, level: QueryLevel, keys: Mapping[int, str]) -> Query:
    """Make a query from keys as text, for whoever asks without a network.

    Args:
        root: the information model.
        level: the Query/Retrieve Level.
        keys: tag to value as DICOM writes it, such as "PAP*" or "20260101-"; "" returns only,
            and so does a tag that PS3.6 does not know.

    Raises:
        InvalidInput: a value breaks the rules of its VR.
    """
    return Query(
        root=root,
        level=level,
        keys=tuple(
            Key(tag, vr_of_tag(tag), match_of(tag, vr_of_tag(tag), value))
            for tag, value in keys.items()
        ),
    )


def check_unique_keys(query: Query, *, retrieve: bool = False) -> None:
    """Check the rules for unique keys of a hierarchical query (PS3.4 C.4.1.2.1, C.4.2.1.4).

    Each level above the query's own must be fixed by a single value of its unique key. With
    `retrieve` the unique key of the level itself must be there too: one UID or a list (at PATIENT
    level one Patient ID).

    Raises:
        InvalidInput: a rule is broken. Answer A900.
    """
    for level in LEVELS_OF_ROOT[query.root]:
        match = query.match(level.unique_key)
        if level is query.level:
            if retrieve and not isinstance(match, _retrievable(level)):
                raise InvalidInput(
                    f"a retrieval at {level} level needs a value of {level.unique_key:08X}; name "
                    "what is to be retrieved"
                )
            return
        if not isinstance(match, Single):
            raise InvalidInput(
                f"an identifier at {query.level} level needs one single value of "
                f"{level.unique_key:08X}, the unique key of {level} level above; relational "
                "queries were not negotiated"
            )


def match_of(tag: int, vr: str, value: str) -> Match:
    """What the text of a key asks for (PS3.4 C.2.2.2.1 to C.2.2.2.5).

    Args:
        tag: of the key, for the error.
        vr: its value representation; anything but text is a return key.
        value: without padding, several values joined by a backslash.

    Raises:
        InvalidInput: the value breaks its VR, or is longer than we match.
    """
    if vr not in TEXT_VRS or not value.strip("*"):
        return Universal()
    has_wildcard = vr in _WILDCARD_VRS and ("*" in value or "?" in value)
    if "\\" in value and vr not in ONE_VALUE_VRS | _RANGE_VRS:
        several = tuple(dict.fromkeys(one for one in value.split("\\") if one))
        limit = MAX_UIDS if vr == "UI" else MAX_VALUES
        if has_wildcard or not 0 < len(several) <= limit:
            raise InvalidInput(
                f"the key {tag:08X} has several values with wild cards among them, or more than "
                f"{limit}, or only empty ones; ask for less at once"
            )
        return UidList(several)
    if len(value) > MAX_KEY_CHARACTERS:
        raise InvalidInput(
            f"the key {tag:08X} has more than {MAX_KEY_CHARACTERS} characters; shorten it"
        )
    if vr in _RANGE_VRS:
        found = parse_range(value, vr)
        if found is None:
            raise InvalidInput(f"the key {tag:08X} is neither a value nor a range of VR {vr}")
        return found
    return Wildcard(value) if has_wildcard else Single(value)


def text_of(match: Match) -> str:
    """The text of a key that asks for a match: the reverse of `match_of`."""
    match match:
        case Universal():
            return ""
        case Single(value):
            return value
        case Wildcard(pattern):
            return pattern
        case UidList(values):
            return "\\".join(values)
        case Range(low, high):
            return low if low is not None and low == high else f"{low or ''}-{high or ''}"


def _retrievable(level: QueryLevel) -> tuple[type[Match], ...]:
    return (Single,) if level is QueryLevel.PATIENT else (Single, UidList)
