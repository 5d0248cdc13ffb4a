"""Identifiers of query and retrieve: the data sets of C-FIND, C-MOVE and C-GET (PS3.4 C.4).

In: bytes from a peer, bounded, which become a `Query` or `InvalidInput`, never another error.
Out: answers in the requester's own character set when that set can write them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from harmoni.dicom import dataset, private_block, text
from harmoni.dicom.encoding import TEXT_VRS
from harmoni.dicom.matching import Match, Range, Single, UidList, Universal, Wildcard
from harmoni.dicom.private_block import DATASET_SHA256
from harmoni.dicom.query import (
    LEVELS_OF_ROOT,
    Key,
    Query,
    QueryLevel,
    QueryRoot,
    check_unique_keys,
    compose_query,
    match_of,
    text_of,
)
from harmoni.model.errors import InvalidInput
from harmoni.model.header import SPECIFIC_CHARACTER_SET, Element

__all__ = [
    "DATASET_SHA256",
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
QUERY_RETRIEVE_LEVEL: Final = 0x0008_0052
RETRIEVE_AE_TITLE: Final = 0x0008_0054
INSTANCE_AVAILABILITY: Final = 0x0008_0056
FAILED_SOP_INSTANCE_UID_LIST: Final = 0x0008_0058

_LENGTH_TO_END: Final = 0x0008_0001
_NO_KEYS: Final = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, _LENGTH_TO_END})
_CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def parse_query(data: bytes, transfer_syntax_uid: str, root: QueryRoot) -> Query:
    """Read an identifier of C-FIND, C-MOVE or C-GET.

    Sequences, binary and private attributes are never matched; the private ones are left out, but
    for the empty SHA-256 in our own block, which asks for that of each answer.

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
    asking = _asking_for_sha256(found)
    if len(tags) > MAX_KEYS:
        raise InvalidInput(f"the identifier has more than {MAX_KEYS} keys; ask for fewer")
    return Query(
        root=root,
        level=_level(found, root),
        keys=tuple(_key(found[tag], character_set) for tag in tags),
        character_set=character_set,
        private_keys=any(private_block.is_private(tag) and tag not in asking for tag in found),
        wants_sha256=bool(asking),
        received=data,
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
    binary values never are), and besides Query/Retrieve Level, Retrieve AE Title, and Specific
    Character Set when it has other than ASCII: the requester's set if that can write every value,
    else ISO_IR 192. Our private block is in it when it was asked for and the SHA-256 is known.

    Args:
        query: the request that is answered.
        values: tag to text, several values joined by a backslash. Others than asked for may be
            among them and are left out. Instance Availability is ONLINE unless it is given;
            `DATASET_SHA256` is 64 hexadecimal digits.
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
    if query.wants_sha256 and DATASET_SHA256 in values:
        elements += _sha256_block(bytes.fromhex(values[DATASET_SHA256]))
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
        value = text.encode(text_of(key.match), query.character_set)
        if value is None:
            raise InvalidInput(
                f"the key {key.tag:08X} cannot be written in character set "
                f"{query.character_set!r}; ask in ISO_IR 192"
            )
        empty = key.vr == "SQ"
        elements.append(dataset.Sequence(key.tag, ()) if empty else Element(key.tag, key.vr, value))
    if query.wants_sha256:
        elements += _sha256_block(b"")
    return dataset.encode_data_set(elements, transfer_syntax_uid)


def parse_answer(data: bytes, transfer_syntax_uid: str) -> dict[int, str]:
    """Read an answer or a failed list as its receiver (SCU): tag to text.

    Text and binary integers are read, and the SHA-256 in our private block, as hexadecimal digits
    under `DATASET_SHA256`; sequences, other binary and other private values are left out.

    Raises:
        InvalidInput: it cannot be read, or its SHA-256 is none.
    """
    found = dataset.decode_data_set(data, transfer_syntax_uid, MAX_IDENTIFIER_BYTES)
    character_set = _value(found, SPECIFIC_CHARACTER_SET)
    answer: dict[int, str] = {}
    for tag, element in found.items():
        # Private tags mean what their creator says, and so nothing by themselves.
        if isinstance(element, dataset.Sequence) or private_block.is_private(tag):
            continue
        if element.vr in TEXT_VRS:
            answer[tag] = text.decode(element, character_set)
        elif (number := dataset.decode_integer(element, transfer_syntax_uid)) is not None:
            answer[tag] = str(number)
    if digest := _sha256(found):
        answer[DATASET_SHA256] = digest.hex()
    return answer


def _asking_for_sha256(found: dataset.DataSet) -> frozenset[int]:
    """The tags with which an identifier asks for the SHA-256 of each answer; empty if it does not.

    A value there would be one to match, and by that nobody is found.
    """
    block = private_block.find(found)
    if block is None or private_block.value(found, private_block.SHA256, block) != b"":
        return frozenset()
    return frozenset(
        {private_block.creator(block).tag, private_block.tag(private_block.SHA256, block)}
    )


def _sha256_block(digest: bytes) -> tuple[Element, Element]:
    return private_block.creator(), Element(DATASET_SHA256, "OB", digest)


def _sha256(found: dataset.DataSet) -> bytes:
    """The SHA-256 in our private block; empty when it is not told."""
    block = private_block.find(found)
    digest = None if block is None else private_block.value(found, private_block.SHA256, block)
    if digest and len(digest) != private_block.SHA256_BYTES:
        raise InvalidInput(
            f"the SHA-256 in the private block {private_block.CREATOR} of an answer has "
            f"{len(digest)} bytes instead of {private_block.SHA256_BYTES}"
        )
    return digest or b""


def _is_key(tag: int) -> bool:
    group, element = tag >> 16, tag & 0xFFFF
    return tag not in _NO_KEYS and group % 2 == 0 and element != 0


def _value(found: dataset.DataSet, tag: int) -> bytes:
    element = found.get(tag)
    return element.value.rstrip(b" \0") if isinstance(element, Element) else b""


def _level(found: dataset.DataSet, root: QueryRoot) -> QueryLevel:
    name = _value(found, QUERY_RETRIEVE_LEVEL).decode("ascii", "replace").strip().upper()
    for level in LEVELS_OF_ROOT[root]:
        if level.value == name:
            return level
    raise InvalidInput(
        f"Query/Retrieve Level {name!r} is none of the {root} root; it must be one of "
        f"{', '.join(LEVELS_OF_ROOT[root])}"
    )


def _key(element: Element | dataset.Sequence, character_set: bytes) -> Key:
    if isinstance(element, dataset.Sequence):
        return Key(element.tag, "SQ", Universal())
    value = text.decode(element, character_set) if element.vr in TEXT_VRS else ""
    return Key(element.tag, element.vr, match_of(element.tag, element.vr, value))


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
