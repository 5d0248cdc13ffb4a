"""Queries as values: what a key's text asks for, and which keys a level needs."""

import pytest

from harmoni.dicom.matching import Match
from harmoni.dicom.query import (
    Key,
    Query,
    QueryLevel,
    QueryRoot,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    check_unique_keys,
    compose_query,
    match_of,
    text_of,
)
from harmoni.model.errors import InvalidInput

PATIENT_ID, STUDY_UID = 0x00100020, 0x0020000D
SERIES_UID, INSTANCE_UID = 0x0020000E, 0x00080018


@pytest.mark.parametrize(
    ("vr", "value", "match"),
    [
        ("LO", "", Universal()),
        ("LO", "**", Universal()),
        ("UI", "*", Universal()),
        ("DA", "*", Universal()),
        ("SQ", "x", Universal()),
        ("US", "1", Universal()),
        ("UN", "x", Universal()),
        ("LO", "A1", Single("A1")),
        ("IS", "1?", Single("1?")),
        ("UI", "1.*", Single("1.*")),
        ("LT", "a\\b", Single("a\\b")),
        ("PN", "PAP*", Wildcard("PAP*")),
        ("CS", "?T", Wildcard("?T")),
        ("UI", "1.2\\1.3\\\\1.2", UidList(("1.2", "1.3"))),
        ("CS", "CT\\MR", UidList(("CT", "MR"))),
        ("DA", "20260101-", Range("20260101", None)),
        ("TM", "10", Range("100000.000000", "105959.999999")),
    ],
)
def test_the_text_of_a_key_tells_what_it_asks_for(vr: str, value: str, match: Match) -> None:
    assert match_of(0, vr, value) == match


@pytest.mark.parametrize(
    ("vr", "value", "why"),
    [
        ("LO", "x" * 1025, "more than 1024 characters"),
        ("DA", "-" * 1_000_000, "more than 1024 characters"),
        ("DA", "20260101\\20260102", "neither a value nor a range"),
        ("TM", "noon", "neither a value nor a range"),
        ("CS", "C*\\MR", "wild cards"),
        ("UI", "\\\\", "only empty ones"),
        ("UI", "\\".join(map(str, range(10_001))), "more than 10000"),
        ("CS", "\\".join(map(str, range(101))), "more than 100"),
    ],
)
def test_a_key_that_breaks_its_rules_is_refused(vr: str, value: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"the key 00100020 .*{why}"):
        match_of(PATIENT_ID, vr, value)


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("LO", ""),
        ("LO", "A1"),
        ("PN", "PAP*"),
        ("UI", "1.2\\1.3"),
        ("DA", "20260101"),
        ("DA", "20260101-20260131"),
        ("DA", "-20260131"),
        ("TM", "103000.000000-"),
    ],
)
def test_a_match_is_written_as_it_was_read(vr: str, value: str) -> None:
    assert text_of(match_of(0, vr, value)) == value


def test_a_query_is_composed_of_tags_and_text() -> None:
    query = compose_query(
        "STUDY", QueryLevel.STUDY, {0x00100010: "PAP*", 0x00200010: "", 0x00091001: "private"}
    )
    assert query == Query(
        root="STUDY",
        level=QueryLevel.STUDY,
        keys=(
            Key(0x00100010, "PN", Wildcard("PAP*")),
            Key(0x00200010, "SH", Universal()),
            Key(0x00091001, "UN", Universal()),
        ),
    )
    assert query.match(0x00100010) == Wildcard("PAP*")
    assert query.match(PATIENT_ID) == Universal()


def query_of(root: QueryRoot, level: QueryLevel, **keys: object) -> Query:
    tags = {"patient": PATIENT_ID, "study": STUDY_UID, "series": SERIES_UID, "image": INSTANCE_UID}
    return Query(
        root=root,
        level=level,
        keys=tuple(Key(tags[name], "UI", match) for name, match in keys.items()),
    )


ONE, LIST, ALL = Single("1"), UidList(("1", "2")), Universal()
PATIENT, STUDY, SERIES, IMAGE = QueryLevel


@pytest.mark.parametrize(
    ("query", "retrieve", "fits"),
    [
        (query_of("STUDY", STUDY), False, True),
        (query_of("STUDY", STUDY), True, False),
        (query_of("STUDY", STUDY, study=ONE), True, True),
        (query_of("STUDY", STUDY, study=LIST), True, True),
        (query_of("STUDY", STUDY, study=LIST), False, True),
        (query_of("STUDY", SERIES, study=ONE), False, True),
        (query_of("STUDY", SERIES, study=LIST), False, False),
        (query_of("STUDY", SERIES, study=ALL), False, False),
        (query_of("STUDY", SERIES), False, False),
        (query_of("STUDY", IMAGE, study=ONE, series=ONE), False, True),
        (query_of("STUDY", IMAGE, study=ONE), False, False),
        (query_of("STUDY", IMAGE, study=ONE, series=ONE, image=LIST), True, True),
        (query_of("STUDY", IMAGE, study=ONE, series=LIST, image=LIST), True, False),
        (query_of("PATIENT", PATIENT), False, True),
        (query_of("PATIENT", PATIENT, patient=ONE), True, True),
        (query_of("PATIENT", PATIENT, patient=LIST), True, False),
        (query_of("PATIENT", PATIENT, patient=Wildcard("1*")), True, False),
        (query_of("PATIENT", STUDY, study=ONE), True, False),
        (query_of("PATIENT", STUDY, patient=ONE, study=ONE), True, True),
        (query_of("PATIENT", STUDY, patient=Wildcard("1*")), False, False),
    ],
)
def test_levels_above_need_a_single_value(query: Query, *, retrieve: bool, fits: bool) -> None:
    if fits:
        check_unique_keys(query, retrieve=retrieve)
    else:
        with pytest.raises(InvalidInput):
            check_unique_keys(query, retrieve=retrieve)
