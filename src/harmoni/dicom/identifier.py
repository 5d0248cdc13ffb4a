"""Identifiers of query and retrieve: the data sets of C-FIND, C-MOVE and C-GET (PS3.4 C.4).

In: bytes from a peer, bounded, which become a `Query` or `InvalidInput`, never another error.
Out: answers in the requester's own character set when that set can write them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from harmoni.dicom.matching import Match, Range, Single, UidList, Universal, Wildcard

__all__ = [
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
    "encode_answer",
    "encode_failed_list",
    "encode_query",
    "parse_answer",
    "parse_query",
]

QueryRoot = Literal["PATIENT", "STUDY"]


class QueryLevel(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


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

    Args:
        data: the data set as received, at most 1 MiB.
        transfer_syntax_uid: the one of its presentation context.
        root: the information model of its SOP class.

    Raises:
        InvalidInput: it cannot be read, or lacks a level that the root has. Answer A900 or C000.
    """
    raise NotImplementedError


def check_unique_keys(query: Query, *, retrieve: bool = False) -> None:
    """Check the rules for unique keys of a hierarchical query (PS3.4 C.4.1.2.1, C.4.2.1.4).

    Each level above the query's own must be fixed by a single value of its unique key. With
    `retrieve` the unique key of the level itself must be there too: one UID or a list (at PATIENT
    level one Patient ID).

    Raises:
        InvalidInput: a rule is broken. Answer A900.
    """
    raise NotImplementedError


def encode_answer(
    query: Query,
    values: Mapping[int, str],
    *,
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
) -> bytes:
    """Encode one match of a C-FIND (PS3.4 C.4.1.1.3.2).

    The answer holds exactly the keys asked for, empty where no value is known, and besides
    Query/Retrieve Level, Retrieve AE Title, and Specific Character Set when it has other than
    ASCII: the requester's set if that can write every value, else ISO_IR 192.

    Args:
        query: the request that is answered.
        values: tag to text, several values joined by a backslash. Others than asked for may be
            among them and are left out.
        transfer_syntax_uid: the one of the presentation context.
        retrieve_ae_title: where the match can be retrieved from, (0008,0054).
    """
    raise NotImplementedError


def encode_failed_list(uids: Sequence[str], transfer_syntax_uid: str) -> bytes:
    """Encode Failed SOP Instance UID List (0008,0058), the data set of a final response.

    Only as many UIDs as fit into one Explicit VR element (65,534 bytes) are written, the first
    ones; the caller logs the others.
    """
    raise NotImplementedError


def encode_query(query: Query, transfer_syntax_uid: str) -> bytes:
    """Encode an identifier as its requester (SCU): the reverse of `parse_query`.

    Raises:
        InvalidInput: a value cannot be written in the query's character set.
    """
    raise NotImplementedError


def parse_answer(data: bytes, transfer_syntax_uid: str) -> dict[int, str]:
    """Read an answer or a failed list as its receiver (SCU): tag to text, sequences left out.

    Raises:
        InvalidInput: it cannot be read.
    """
    raise NotImplementedError
