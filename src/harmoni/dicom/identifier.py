"""Identifiers of query and retrieve: the data sets of C-FIND, C-MOVE and C-GET (PS3.4 C.4).

In: bytes from a peer, bounded, which become a `Query` or `InvalidInput`, never another error.
Out: answers in the requester's own character set when that set can write them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from harmoni.dicom import dataset, text
from harmoni.dicom.encoding import TEXT_VRS
from harmoni.dicom.matching import (
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
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    Element,
)

__all__ = [
    "FAILED_SOP_INSTANCE_UID_LIST",
    "INSTANCE_AVAILABILITY",
    "MAX_IDENTIFIER_BYTES",
    "QUERY_RETRIEVE_LEVEL",
    "RETRIEVE_AE_TITLE",
    "Key",
    "Match",
    "Query",
    "QueryLevel",
    "QueryRoot",
    "Range",
    "Single",
    "UidList",
    "Universal",
    "Wildcard",
    "check_unique_keys",
    "compose_query",
    "encode_answer",
    "encode_failed_list",
    "encode_query",
    "parse_answer",
    "parse_query",
]

MAX_IDENTIFIER_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 1000
MAX_LIST_VALUES: Final = 10_000
MAX_KEY_CHARACTERS: Final = 1024
"""Of a single value or a pattern; no VR that is matched by text allows more in one line."""

QUERY_RETRIEVE_LEVEL: Final = 0x0008_0052
RETRIEVE_AE_TITLE: Final = 0x0008_0054
INSTANCE_AVAILABILITY: Final = 0x0008_0056
FAILED_SOP_INSTANCE_UID_LIST: Final = 0x0008_0058

QueryRoot = Literal["PATIENT", "STUDY"]

_LENGTH_TO_END: Final = 0x0008_0001
_NO_KEYS: Final = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, _LENGTH_TO_END})
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE_VRS: Final = frozenset({"DA", "TM", "DT"})
_ONE_VALUE_VRS: Final = frozenset({"ST", "LT", "UT", "UR"})
_CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


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
_LEVELS_OF_ROOT: Final[Mapping[QueryRoot, tuple[QueryLevel, ...]]] = {
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

    def match(self, tag: int) -> Match:
        """What the key of a tag asks for; `Universal` when there is no such key."""
        for key in self.keys:
            if key.tag == tag:
                return key.match
        return Universal()


def parse_query(data: bytes, transfer_syntax_uid: str, root: QueryRoot) -> Query:
    """Read an identifier of C-FIND, C-MOVE or C-GET.

    Sequences, binary and private attributes are never matched; the private ones are left out.

    Args:
        data: the data set as received, at most `MAX_IDENTIFIER_BYTES`.
        transfer_syntax_uid: the one of its presentation context.
        root: the information model of its SOP class.

    Raises:
        InvalidInput: it cannot be read, names no level of the root, or has a key whose value
            breaks its VR. Answer A900 or C000.
    """
    found = dataset.decode_data_set(data, transfer_syntax_uid, MAX_IDENTIFIER_BYTES)
    character_set = _value(found, SPECIFIC_CHARACTER_SET)
    tags = [tag for tag in found if _is_key(tag)]
    if len(tags) > MAX_KEYS:
        raise InvalidInput(f"the identifier has more than {MAX_KEYS} keys; ask for fewer")
    return Query(
        root=root,
        level=_level(found, root),
        keys=tuple(_key(found[tag], character_set) for tag in tags),
        character_set=character_set,
    )


def compose_query(root: QueryRoot, level: QueryLevel, keys: Mapping[int, str]) -> Query:
    """Make a query from keys as text, for whoever asks without a network.

    Args:
        root: the information model.
        level: the Query/Retrieve Level.
        keys: tag to value as DICOM writes it, such as "PAP*" or "20260101-"; "" returns only.

    Raises:
        InvalidInput: a value breaks the rules of its VR, or a tag is not in the dictionary.
    """
    return Query(
        root=root,
        level=level,
        keys=tuple(
            Key(tag, vr, _match(Element(tag, vr, b""), value))
            for tag, value in keys.items()
            for vr in (dataset.vr_of_tag(tag),)
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
    for level in _LEVELS_OF_ROOT[query.root]:
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


def encode_answer(
    query: Query,
    values: Mapping[int, str],
    *,
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
) -> bytes:
    """Encode one match of a C-FIND (PS3.4 C.4.1.1.3.2).

    The answer holds exactly the keys asked for, empty where no value is known (sequences and
    binary values never are), and besides
    Query/Retrieve Level, Retrieve AE Title, and Specific Character Set when it has other than
    ASCII: the requester's set if that can write every value, else ISO_IR 192.

    Args:
        query: the request that is answered.
        values: tag to text, several values joined by a backslash. Others than asked for may be
            among them and are left out. Instance Availability is ONLINE unless it is given.
        transfer_syntax_uid: the one of the presentation context.
        retrieve_ae_title: where the match can be retrieved from, (0008,0054).

    Raises:
        InvalidInput: the transfer syntax is none for such data sets.
    """
    known = {INSTANCE_AVAILABILITY: "ONLINE", **values, RETRIEVE_AE_TITLE: retrieve_ae_title}
    asked = {key.tag: key.vr for key in query.keys}
    asked[RETRIEVE_AE_TITLE] = "AE"
    asked[QUERY_RETRIEVE_LEVEL] = "CS"
    known[QUERY_RETRIEVE_LEVEL] = query.level.value
    texts = [known.get(tag, "") for tag, vr in asked.items() if vr in _CHARACTER_SET_VRS]
    character_set = query.character_set
    if any(text.encode(value, character_set) is None for value in texts):
        character_set = text.UTF_8
    elements: list[Element | dataset.Sequence] = [
        _answer_element(tag, vr, known.get(tag, ""), character_set) for tag, vr in asked.items()
    ]
    if not all(value.isascii() for value in texts):
        elements.append(Element(SPECIFIC_CHARACTER_SET, "CS", character_set))
    return dataset.encode_data_set(elements, transfer_syntax_uid)


def encode_failed_list(uids: Sequence[str], transfer_syntax_uid: str) -> bytes:
    """Encode Failed SOP Instance UID List (0008,0058), the data set of a final response.

    Only as many UIDs as fit into one Explicit VR element (65,534 bytes) are written, the first
    ones; the caller logs the others.
    """
    value = _shortened("\\".join(uids).encode("ascii", "replace"))
    elements = [Element(FAILED_SOP_INSTANCE_UID_LIST, "UI", value)]
    return dataset.encode_data_set(elements, transfer_syntax_uid)


def encode_query(query: Query, transfer_syntax_uid: str) -> bytes:
    """Encode an identifier as its requester (SCU): the reverse of `parse_query`.

    Raises:
        InvalidInput: a value cannot be written in the query's character set or is too long.
    """
    elements: list[Element | dataset.Sequence] = [
        Element(QUERY_RETRIEVE_LEVEL, "CS", query.level.value.encode("ascii"))
    ]
    if query.character_set:
        elements.append(Element(SPECIFIC_CHARACTER_SET, "CS", query.character_set))
    for key in query.keys:
        value = text.encode(_match_text(key.match), query.character_set)
        if value is None:
            raise InvalidInput(
                f"the key {key.tag:08X} cannot be written in character set "
                f"{query.character_set!r}; ask in ISO_IR 192"
            )
        empty = key.vr == "SQ"
        elements.append(dataset.Sequence(key.tag, ()) if empty else Element(key.tag, key.vr, value))
    return dataset.encode_data_set(elements, transfer_syntax_uid)


def parse_answer(data: bytes, transfer_syntax_uid: str) -> dict[int, str]:
    """Read an answer or a failed list as its receiver (SCU): tag to text.

    Text and binary integers are read; sequences and other binary values are left out.

    Raises:
        InvalidInput: it cannot be read.
    """
    found = dataset.decode_data_set(data, transfer_syntax_uid, MAX_IDENTIFIER_BYTES)
    character_set = _value(found, SPECIFIC_CHARACTER_SET)
    answer: dict[int, str] = {}
    for tag, element in found.items():
        if isinstance(element, dataset.Sequence):
            continue
        if element.vr in TEXT_VRS:
            answer[tag] = text.decode(element, character_set)
        elif (number := dataset.decode_integer(element, transfer_syntax_uid)) is not None:
            answer[tag] = str(number)
    return answer


def _is_key(tag: int) -> bool:
    group, element = tag >> 16, tag & 0xFFFF
    return tag not in _NO_KEYS and group % 2 == 0 and element != 0


def _value(found: dataset.DataSet, tag: int) -> bytes:
    element = found.get(tag)
    return element.value.rstrip(b" \0") if isinstance(element, Element) else b""


def _level(found: dataset.DataSet, root: QueryRoot) -> QueryLevel:
    name = _value(found, QUERY_RETRIEVE_LEVEL).decode("ascii", "replace").strip().upper()
    for level in _LEVELS_OF_ROOT[root]:
        if level.value == name:
            return level
    raise InvalidInput(
        f"Query/Retrieve Level {name!r} is none of the {root} root; it must be one of "
        f"{', '.join(_LEVELS_OF_ROOT[root])}"
    )


def _key(element: Element | dataset.Sequence, character_set: bytes) -> Key:
    if isinstance(element, dataset.Sequence):
        return Key(element.tag, "SQ", Universal())
    if element.vr not in TEXT_VRS:
        return Key(element.tag, element.vr, Universal())
    return Key(element.tag, element.vr, _match(element, text.decode(element, character_set)))


def _match(element: Element, value: str) -> Match:
    """What the text of a key asks for (PS3.4 C.2.2.2.1 to C.2.2.2.5)."""
    if not value.strip("*"):
        return Universal()
    if element.vr in _RANGE_VRS:
        found = parse_range(value, element.vr)
        if found is None:
            raise InvalidInput(
                f"the key {element.tag:08X} is neither a value nor a range of VR {element.vr}"
            )
        return found
    has_wildcard = element.vr in _WILDCARD_VRS and ("*" in value or "?" in value)
    if "\\" in value and element.vr not in _ONE_VALUE_VRS:
        several = tuple(dict.fromkeys(one for one in value.split("\\") if one))
        if has_wildcard or not 0 < len(several) <= MAX_LIST_VALUES:
            raise InvalidInput(
                f"the key {element.tag:08X} has several values with wild cards among them, or "
                f"more than {MAX_LIST_VALUES}, or only empty ones; ask for less at once"
            )
        return UidList(several)
    if len(value) > MAX_KEY_CHARACTERS:
        raise InvalidInput(
            f"the key {element.tag:08X} has more than {MAX_KEY_CHARACTERS} characters; shorten it"
        )
    return Wildcard(value) if has_wildcard else Single(value)


def _retrievable(level: QueryLevel) -> tuple[type[Match], ...]:
    return (Single,) if level is QueryLevel.PATIENT else (Single, UidList)


def _match_text(match: Match) -> str:
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


def _answer_element(
    tag: int, vr: str, value: str, character_set: bytes
) -> Element | dataset.Sequence:
    if vr == "SQ":
        return dataset.Sequence(tag, ())
    if vr not in TEXT_VRS:
        return Element(tag, vr, b"")
    encoded = text.encode(value, character_set) if vr in _CHARACTER_SET_VRS else None
    return Element(tag, vr, _shortened(encoded or value.encode("ascii", "replace")))


def _shortened(value: bytes) -> bytes:
    """As many whole values as one Explicit VR element takes."""
    if len(value) <= dataset.MAX_SHORT_VALUE_BYTES:
        return value
    head = value[: dataset.MAX_SHORT_VALUE_BYTES + 1]
    return head[: head.rfind(b"\\")] if b"\\" in head else head[:-1]
