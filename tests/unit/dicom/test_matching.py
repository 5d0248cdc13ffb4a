"""Matching by the rules of PS3.4 C.2.2.2."""

import fnmatch
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.dicom.matching import (
    Match,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    full_form,
    matches,
    name_groups,
    parse_range,
    wildcard_matches,
)

NAME = "Παπαδόπουλος^Γεώργιος^^^=PAPADOPOULOS^GEORGIOS"


@pytest.mark.parametrize(
    ("match", "value", "vr", "expected"),
    [
        (Universal(), "", "LO", True),
        (Universal(), "x", "LO", True),
        (Single("A1"), "A1", "LO", True),
        (Single("A1"), "a1", "LO", False),
        (Single("A1"), "", "LO", False),
        (Single("CT"), "MR\\CT", "CS", True),
        (Single("a\\b"), "a\\b", "LT", True),
        (Single("1.2"), "1.2.3", "UI", False),
        (Wildcard("A*"), "A1", "LO", True),
        (Wildcard("A*"), "B1", "LO", False),
        (Wildcard("?1"), "A1", "LO", True),
        (Wildcard("?1"), "1", "LO", False),
        (Wildcard("M?"), "CT\\MR", "CS", True),
        (Wildcard("*"), "", "LO", True),
        (UidList(("1.2", "1.3")), "1.3", "UI", True),
        (UidList(("1.2", "1.3")), "1.30", "UI", False),
        (UidList(("CT", "MR")), "US\\MR", "CS", True),
        (UidList(("παπαδοπουλος^γεωργιος",)), NAME, "PN", True),
        (Range("20260101", "20260131"), "20260101", "DA", True),
        (Range("20260101", "20260131"), "20260131", "DA", True),
        (Range("20260101", "20260131"), "20260201", "DA", False),
        (Range(None, "20260131"), "19991231", "DA", True),
        (Range("20260101", None), "20251231", "DA", False),
        (Range("20260101", None), "2026.01.01", "DA", True),
        (Range("20260101", None), "", "DA", False),
        (Range(None, "20260101"), "yesterday", "DA", False),
        (Range("100000.000000", "105959.999999"), "1030", "TM", True),
        (Range("100000.000000", "105959.999999"), "10:59:59.9", "TM", True),
        (Range("100000.000000", "105959.999999"), "11", "TM", False),
    ],
)
def test_a_value_answers_a_key_by_the_rules(
    match: Match, value: str, vr: str, *, expected: bool
) -> None:
    assert matches(match, value, vr) is expected


@pytest.mark.parametrize(
    "match",
    [
        Single("ΠΑΠΑΔΟΠΟΥΛΟΣ^ΓΕΩΡΓΙΟΣ"),
        Single("παπαδόπουλος^γεώργιος^"),
        Single("Papadopoulos ^ Georgios"),
        Single("=Papadopoulos^Georgios"),
        Single("Papadopoulos^Georgios=Παπαδόπουλος^Γεώργιος"),
        Wildcard("παπ*"),
        Wildcard("PAPADOP*^G*"),
        Wildcard("*γε?ργιος"),
        Wildcard("παπ*=PAP*"),
    ],
)
def test_person_names_are_found_whatever_case_tonos_or_alphabet(match: Match) -> None:
    assert matches(match, NAME, "PN")


@pytest.mark.parametrize(
    "match",
    [Single("ΠΑΠΑΔΟΠΟΥΛΟΣ"), Single("X"), Wildcard("γεωργ*"), Wildcard("παπ*=X*"), UidList(("X",))],
)
def test_other_names_do_not_answer(match: Match) -> None:
    assert not matches(match, NAME, "PN")


@pytest.mark.parametrize("match", [Single("A"), Wildcard("A*"), UidList(("A",))])
def test_an_absent_name_answers_no_name(match: Match) -> None:
    assert not matches(match, "", "PN")


def test_groups_of_a_name_are_folded_and_empty_ones_left_out() -> None:
    assert name_groups("Ωμέγα^^=") == ("ωμεγα",)
    assert name_groups("=A^ b ^") == ("a^b",)
    assert name_groups("^^") == ()


@pytest.mark.parametrize(
    ("text", "vr", "expected"),
    [
        ("20260131", "DA", Range("20260131", "20260131")),
        ("2026.01.31", "DA", Range("20260131", "20260131")),
        ("20260101-20260131", "DA", Range("20260101", "20260131")),
        ("20260101 - 20260131", "DA", Range("20260101", "20260131")),
        ("-20260131", "DA", Range(None, "20260131")),
        ("20260101-", "DA", Range("20260101", None)),
        ("10", "TM", Range("100000.000000", "105959.999999")),
        ("1030-", "TM", Range("103000.000000", None)),
        ("-1030", "TM", Range(None, "103059.999999")),
        ("10:30:15", "TM", Range("103015.000000", "103015.999999")),
        ("103015.25", "TM", Range("103015.250000", "103015.259999")),
        ("0900-103015.123456", "TM", Range("090000.000000", "103015.123456")),
        ("2026", "DT", Range("20260101000000.000000", "20261231235959.999999")),
        ("20260101120000+0200", "DT", Range("20260101120000.000000", "20260101120000.999999")),
        (
            "20260101-0500-202602",
            "DT",
            Range("20260101000000.000000", "20260231235959.999999"),
        ),
        ("", "DA", None),
        ("-", "DA", None),
        ("2026", "DA", None),
        ("20260101-x", "DA", None),
        ("x-20260101", "DA", None),
        ("1", "TM", None),
        ("1030.5", "TM", None),
        ("20260101", "LO", None),
    ],
)
def test_ranges_are_read_and_partial_values_widened(
    text: str, vr: str, expected: Range | None
) -> None:
    assert parse_range(text, vr) == expected


@given(st.datetimes(), st.datetimes())
def test_property_full_forms_order_as_the_moments_do(one, other) -> None:
    for vr, layout in (("DT", "%Y%m%d%H%M%S.%f"), ("TM", "%H%M%S.%f"), ("DA", "%Y%m%d")):
        texts = [
            moment.strftime(layout).rjust(len(other.strftime(layout)), "0")
            for moment in (one, other)
        ]
        if vr != "TM" and min(one.year, other.year) < 1000:
            continue
        forms = [full_form(text, vr) for text in texts]
        assert forms == texts
        assert matches(Range(min(texts), max(texts)), texts[0], vr)


@settings(max_examples=200)
@given(st.text("ab*?[", max_size=8), st.text("ab[*?", max_size=8))
def test_property_wildcards_match_as_a_regular_expression_does(pattern: str, text: str) -> None:
    translated = fnmatch.translate(pattern.replace("[", "[[]"))
    assert wildcard_matches(pattern, text) is (re.match(translated, text) is not None)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not wildcard_matches("*a" * 500 + "b", "a" * 1000)


@settings(max_examples=200)
@given(
    st.one_of(
        st.builds(Single, st.text(max_size=20)),
        st.builds(Wildcard, st.text(max_size=20)),
        st.builds(UidList, st.tuples(st.text(max_size=20))),
        st.builds(Range, st.text(max_size=20), st.none()),
    ),
    st.text(max_size=20),
    st.sampled_from(["PN", "LO", "DA", "TM", "DT", "UI", "CS", "LT"]),
)
def test_arbitrary_values_answer_yes_or_no(match: Match, value: str, vr: str) -> None:
    assert matches(match, value, vr) in (True, False)
