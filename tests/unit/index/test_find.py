r"""Queries against brute force: every row of a small index held against dicom/matching.py."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest

from harmoni.dicom.identifier import (
    DATASET_SHA256,
    INSTANCE_AVAILABILITY,
    Key,
    Query,
    QueryLevel,
)
from harmoni.dicom.matching import (
    Match,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    matches,
    parse_range,
)
from harmoni.index import find, ingest, keys, packs, statements
from harmoni.index.database import Database
from harmoni.index.packs import PackState
from harmoni.model import header
from harmoni.model.instance import Instance
from index_samples import CT, MR, instance, pack_id

BIRTH_DATE, STUDY_DESCRIPTION, BODY_PART = 0x0010_0030, 0x0008_1030, 0x0018_0015


def ask(
    database: Database,
    level: QueryLevel,
    asked: Iterable[tuple[int, str, Match]],
    limit: int | None = None,
    *,
    wants_sha256: bool = False,
) -> list[dict[int, str]]:
    query = Query(
        root="PATIENT",
        level=level,
        keys=tuple(Key(*key) for key in asked),
        wants_sha256=wants_sha256,
    )
    with database.reader() as connection:
        return list(find.find(connection, query, limit=limit))


def hold(database: Database, *instances: Instance) -> None:
    with database.write() as connection:
        ingest.record(connection, instances)


def test_an_answer_has_the_keys_asked_for_and_the_unique_ones(database):
    hold(database, instance(values={STUDY_DESCRIPTION: "Θώραξ", header.SERIES_NUMBER: "7"}))
    everything = Universal()
    asked = [
        (header.PATIENT_NAME, "PN", everything),
        (STUDY_DESCRIPTION, "LO", everything),
        (header.SERIES_NUMBER, "IS", everything),
        (header.INSTANCE_NUMBER, "IS", everything),
        (BODY_PART, "CS", everything),
        (0x0040_0244, "DA", everything),
    ]
    expected = {
        header.PATIENT_NAME: "Παπαδόπουλος^Γιώργος",
        header.PATIENT_ID: "P1",
        STUDY_DESCRIPTION: "Θώραξ",
        header.STUDY_INSTANCE_UID: "1.2.3",
        header.SERIES_NUMBER: "7",
        BODY_PART: "",
        header.SERIES_INSTANCE_UID: "1.2.3.1",
    }
    assert ask(database, QueryLevel.SERIES, asked) == [expected]
    assert ask(database, QueryLevel.IMAGE, asked) == [
        expected
        | {
            header.INSTANCE_NUMBER: "1",
            header.SOP_INSTANCE_UID: "1.2.3.4",
            header.SOP_CLASS_UID: CT,
            find.AVAILABLE_TRANSFER_SYNTAX_UID: "1.2.840.10008.1.2.1",
        }
    ]


def test_counts_and_gathered_values_count_uids_not_copies(database):
    hold(
        database,
        instance(),
        instance(pack=2),
        instance("1.2.3.5", pack=2, sequence=1, content=b"other"),
        instance(
            "1.2.3.6",
            pack=2,
            sequence=2,
            series_uid="1.2.3.2",
            sop_class_uid=MR,
            values={header.MODALITY: "MR"},
        ),
        instance("1.9.1", pack=3, study_uid="1.9", series_uid="1.9.1"),
    )
    tags = {
        find.NUMBER_OF_PATIENT_RELATED_STUDIES: "2",
        find.NUMBER_OF_PATIENT_RELATED_SERIES: "3",
        find.NUMBER_OF_PATIENT_RELATED_INSTANCES: "4",
        find.NUMBER_OF_STUDY_RELATED_SERIES: "2",
        find.NUMBER_OF_STUDY_RELATED_INSTANCES: "3",
        keys.MODALITIES_IN_STUDY: "CT\\MR",
        keys.SOP_CLASSES_IN_STUDY: f"{CT}\\{MR}",
        find.NUMBER_OF_SERIES_RELATED_INSTANCES: "2",
    }
    [answer] = ask(
        database,
        QueryLevel.SERIES,
        [(header.SERIES_INSTANCE_UID, "UI", Single("1.2.3.1"))]
        + [(tag, "IS", Universal()) for tag in tags],
    )
    assert {tag: answer[tag] for tag in tags} == tags


def test_of_several_versions_the_served_one_is_shown(database):
    first = instance(values={header.INSTANCE_NUMBER: "1"})
    newer = instance(
        pack=2, content=b"other", received_at_ms=2**41, values={header.INSTANCE_NUMBER: "2"}
    )
    elsewhere = instance(pack=3, series_uid="1.7", values={header.INSTANCE_NUMBER: "3"})
    hold(database, first, newer, elsewhere)
    number = [(header.INSTANCE_NUMBER, "IS", Universal())]
    shown = {
        answer[header.SERIES_INSTANCE_UID]: answer[header.INSTANCE_NUMBER]
        for answer in ask(database, QueryLevel.IMAGE, number)
    }
    assert shown == {"1.2.3.1": "2", "1.7": "3"}


@pytest.mark.parametrize(
    ("level", "key", "supported"),
    [
        (QueryLevel.STUDY, (header.PATIENT_NAME, "PN", Wildcard("A*")), True),
        (QueryLevel.STUDY, (find.NUMBER_OF_STUDY_RELATED_SERIES, "IS", Universal()), True),
        (QueryLevel.STUDY, (INSTANCE_AVAILABILITY, "CS", Universal()), True),
        (QueryLevel.STUDY, (INSTANCE_AVAILABILITY, "CS", Single("OFFLINE")), False),
        (QueryLevel.STUDY, (header.INSTANCE_NUMBER, "IS", Universal()), False),
        (QueryLevel.STUDY, (0x0040_0275, "SQ", Universal()), False),
        (QueryLevel.IMAGE, (find.AVAILABLE_TRANSFER_SYNTAX_UID, "UI", Universal()), True),
        (QueryLevel.IMAGE, (find.AVAILABLE_TRANSFER_SYNTAX_UID, "UI", Single("1.2")), False),
    ],
)
def test_a_key_is_supported_when_it_is_returned_and_matched(level, key, supported):
    query = Query(root="PATIENT", level=level, keys=(Key(*key),))
    assert find.supports(query) is supported


def test_an_image_tells_the_syntax_and_hash_of_the_served_version_when_asked(database):
    first = instance(syntax="1.2.840.10008.1.2.4.50")
    newer = instance(pack=2, content=b"other", received_at_ms=2**41)
    hold(database, first, newer)
    syntax = [(find.AVAILABLE_TRANSFER_SYNTAX_UID, "UI", Universal())]
    [told] = ask(database, QueryLevel.IMAGE, syntax, wants_sha256=True)
    assert told[find.AVAILABLE_TRANSFER_SYNTAX_UID] == newer.identity.transfer_syntax_uid
    assert told[DATASET_SHA256] == newer.identity.sha256.hex()

    [untold] = ask(database, QueryLevel.IMAGE, syntax)
    assert untold == {tag: value for tag, value in told.items() if tag != DATASET_SHA256}
    for level in (QueryLevel.PATIENT, QueryLevel.STUDY, QueryLevel.SERIES):
        [above] = ask(database, level, [], wants_sha256=True)
        assert DATASET_SHA256 not in above


def test_the_hash_is_supported_where_it_is_told():
    for level in QueryLevel:
        query = Query(root="PATIENT", level=level, keys=(), wants_sha256=True)
        assert find.supports(query) is (level is QueryLevel.IMAGE)
        assert not find.supports(replace(query, private_keys=True))


def evict(database: Database, *numbers: int) -> None:
    with database.write() as connection:
        for number in numbers:
            packs.set_state(connection, pack_id(number), PackState.EVICTED)


def availability(database: Database, level: QueryLevel) -> dict[str, str]:
    """By the unique key of the level."""
    rows = ask(database, level, [(INSTANCE_AVAILABILITY, "CS", Universal())])
    return {row[level.unique_key]: row[INSTANCE_AVAILABILITY] for row in rows}


def test_availability_is_nearline_where_an_instance_below_is_evicted(database):
    hold(
        database,
        instance("1.1", study_uid="1.2", series_uid="1.3"),
        instance("1.4", study_uid="1.2", series_uid="1.3", pack=2),
        instance("1.5", study_uid="1.2", series_uid="1.6"),
        instance("1.7", study_uid="1.8", series_uid="1.9", pack=3),
        instance("1.10", study_uid="1.11", pack=4, values={header.PATIENT_ID: "P2"}),
    )
    assert {state for level in QueryLevel for state in availability(database, level).values()} == {
        "ONLINE"
    }
    evict(database, 2)
    assert availability(database, QueryLevel.PATIENT) == {"P1": "NEARLINE", "P2": "ONLINE"}
    assert availability(database, QueryLevel.STUDY) == {
        "1.2": "NEARLINE",
        "1.8": "ONLINE",
        "1.11": "ONLINE",
    }
    assert availability(database, QueryLevel.SERIES) == {
        "1.3": "NEARLINE",
        "1.6": "ONLINE",
        "1.9": "ONLINE",
        "1.2.3.1": "ONLINE",
    }
    images = availability(database, QueryLevel.IMAGE)
    assert {uid for uid, state in images.items() if state == "NEARLINE"} == {"1.4"}
    assert len(images) == 5
    with database.write() as connection:
        packs.set_state(connection, pack_id(2), PackState.MISSING)
    assert availability(database, QueryLevel.PATIENT)["P1"] == "ONLINE"


@pytest.mark.parametrize(
    ("second", "state", "expected"),
    [
        ({}, PackState.SEALED, "ONLINE"),
        ({}, PackState.EVICTED, "NEARLINE"),
        ({}, PackState.MISSING, "NEARLINE"),
        ({"content": b"other", "received_at_ms": 2**40}, PackState.SEALED, "NEARLINE"),
    ],
    ids=["here", "evicted too", "missing", "an older version"],
)
def test_an_evicted_copy_is_away_only_if_no_other_of_its_version_is_here(
    database, second, state, expected
):
    hold(database, instance(received_at_ms=2**41), instance(pack=2, **second))
    evict(database, 1)
    with database.write() as connection:
        packs.set_state(connection, pack_id(2), state)
    for level in QueryLevel:
        assert list(availability(database, level).values()) == [expected]


def test_availability_is_told_only_when_asked(database):
    hold(database, instance())
    evict(database, 1)
    assert all(INSTANCE_AVAILABILITY not in ask(database, level, [])[0] for level in QueryLevel)


@pytest.mark.parametrize("level", [QueryLevel.PATIENT, QueryLevel.STUDY, QueryLevel.SERIES])
def test_availability_looks_at_what_is_below_a_row_not_at_all_that_is_evicted(database, level):
    keys_ = (
        Key(INSTANCE_AVAILABILITY, "CS", Universal()),
        Key(level.unique_key, "UI", Single("1.2")),
    )
    query = Query(root="PATIENT", level=level, keys=keys_)
    sql, parameters = statements.compiled(find.statement(query))
    with database.reader() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    steps = [step for step in plan if "its_pack" in step]
    assert steps == ["SEARCH its_pack USING INTEGER PRIMARY KEY (rowid=?)"]


def test_instances_without_a_study_are_in_no_answer(database):
    hold(database, instance(study_uid="", values={header.PATIENT_ID: ""}))
    assert [ask(database, level, []) for level in QueryLevel] == [[], [], [], []]


def test_a_limit_ends_the_answers(database):
    hold(database, *(instance(f"1.{number}", sequence=number) for number in range(9)))
    assert len(ask(database, QueryLevel.IMAGE, [], limit=4)) == 4


def test_a_key_of_a_lower_level_asks_for_nothing(database):
    hold(database, instance())
    assert len(ask(database, QueryLevel.STUDY, [(header.MODALITY, "CS", Single("MR"))])) == 1


@pytest.mark.parametrize("pattern", ["*" * 70_000, "a" * 70_000, "[a-z]*", "*]*", "%", "_"])
def test_no_pattern_is_too_much(database, pattern):
    hold(database, instance())
    asked = [(header.PATIENT_ID, "LO", Wildcard(pattern))]
    expected = 1 if matches(Wildcard(pattern), "P1", "LO") else 0
    assert len(ask(database, QueryLevel.PATIENT, asked)) == expected


@pytest.mark.parametrize(
    ("tag", "vr", "match", "index"),
    [
        (header.PATIENT_ID, "LO", Single("P1"), "sqlite_autoindex_patient_1 (patient_id=?)"),
        (header.PATIENT_ID, "LO", Wildcard("P*"), "sqlite_autoindex_patient_1 (patient_id>?"),
        (header.PATIENT_NAME, "PN", Single("A^B"), "patient_name USING PRIMARY KEY (name=?)"),
        (header.PATIENT_NAME, "PN", Wildcard("Πα*"), "patient_name USING PRIMARY KEY (name>?"),
        (header.STUDY_INSTANCE_UID, "UI", Single("1.2"), "sqlite_autoindex_study_1 (uid=?)"),
        (header.ACCESSION_NUMBER, "SH", Single("A"), "ix_study_accession_number (acc"),
        (header.STUDY_DATE, "DA", Range("20260101", "20260102"), "ix_study_date (date>?"),
    ],
)
def test_keys_that_narrow_use_an_index(database, tag, vr, match, index):
    query = Query(root="STUDY", level=QueryLevel.STUDY, keys=(Key(tag, vr, match),))
    sql, parameters = statements.compiled(find.statement(query))
    with database.reader() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan


def test_a_sop_instance_uid_is_found_by_its_hash(database):
    one = Key(header.SOP_INSTANCE_UID, "UI", UidList(("1.2", "1.3")))
    query = Query(root="STUDY", level=QueryLevel.IMAGE, keys=(one,))
    sql, parameters = statements.compiled(find.statement(query))
    with database.reader() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    assert plan[0] == "SEARCH instance USING INDEX ix_instance_sop_hash (sop_hash=?)"


def test_values_are_bound_never_written_into_the_statement():
    hostile = "'; DROP TABLE study; --"
    match = Wildcard(f"{hostile}*")
    asked = tuple(
        Key(tag, "LO", match) for tag in (header.PATIENT_ID, header.PATIENT_NAME, header.STUDY_ID)
    )
    query = Query(root="STUDY", level=QueryLevel.STUDY, keys=asked)
    sql, parameters = statements.compiled(find.statement(query))
    assert "DROP" not in sql
    assert f"{hostile}*" in parameters


# The oracle. Few letters, so that values and keys meet often; drawn evenly from a seed, because
# hypothesis prefers poor examples and shrinking a database takes minutes.
WORDS = ["", "a", "A", "ά", "Aά1", "β[", "]1", "aa"]
SEVERAL = ["a\\β[", "1\\A"]
DATES = ["20260101", "20260131", "2026.01.15", "", "x", "20260101\\20260131"]
DATE_SPANS = ["20260101-", "-20260115", "20260102-20260131", "20260101"]
TIME_SPANS = ["12", "1200-1231", "-1230", "1230-"]
CODES = ["CT", "MR", "", "CT\\MR"]
NUMBERS = ["1", "2", ""]
TAGS: dict[int, tuple[str, list[str]]] = {
    header.PATIENT_NAME: ("PN", [*WORDS, "A^ά", "a=β[", "ά^=1^A"]),
    header.PATIENT_ID: ("LO", WORDS + SEVERAL),
    BIRTH_DATE: ("DA", DATES),
    header.STUDY_DATE: ("DA", DATES),
    header.STUDY_TIME: ("TM", ["1230", "12", "123015.5", "", "12:30:15"]),
    header.ACCESSION_NUMBER: ("SH", WORDS + SEVERAL),
    header.STUDY_ID: ("SH", WORDS + SEVERAL),
    STUDY_DESCRIPTION: ("LO", WORDS + SEVERAL),
    header.MODALITY: ("CS", CODES),
    header.SERIES_NUMBER: ("IS", NUMBERS),
    BODY_PART: ("CS", CODES),
    header.INSTANCE_NUMBER: ("IS", NUMBERS),
    header.STUDY_INSTANCE_UID: ("UI", ["1.1", "1.2", "1.3"]),
    header.SERIES_INSTANCE_UID: ("UI", ["1.1", "1.2"]),
    header.SOP_INSTANCE_UID: ("UI", ["1.1", "1.2", "1.3", "1.4"]),
    header.SOP_CLASS_UID: ("UI", [CT, MR]),
    keys.MODALITIES_IN_STUDY: ("CS", ["CT", "MR"]),
    keys.SOP_CLASSES_IN_STUDY: ("UI", [CT, MR]),
    find.NUMBER_OF_STUDY_RELATED_INSTANCES: ("IS", ["1", "2"]),
}
UNIQUE = (
    header.PATIENT_ID,
    header.STUDY_INSTANCE_UID,
    header.SERIES_INSTANCE_UID,
    header.SOP_INSTANCE_UID,
)


def some_instance(random: Random, sequence: int) -> Instance:
    values = {tag: random.choice(known) for tag, (_, known) in TAGS.items()}
    return instance(
        values[header.SOP_INSTANCE_UID],
        study_uid=values[header.STUDY_INSTANCE_UID],
        series_uid=values[header.SERIES_INSTANCE_UID],
        sop_class_uid=values[header.SOP_CLASS_UID],
        sequence=sequence,
        values=values,
    )


def every_match(tag: int) -> list[Match]:
    """All that is asked of an attribute here: values that are held, parts of them, others."""
    vr, known = TAGS[tag]
    if vr in ("DA", "TM"):
        spans = [parse_range(text, vr) for text in (DATE_SPANS if vr == "DA" else TIME_SPANS)]
        return [span for span in spans if span is not None]
    singles = [value for value in known if value and "\\" not in value]
    found: list[Match] = [Single(value) for value in singles]
    if vr in ("UI", "CS"):
        found.append(UidList((singles[0], singles[-1])))
    if vr != "UI":
        patterns = {
            pattern for one in singles for pattern in (f"{one[0]}*", f"*{one[-1]}", f"?{one[1:]}")
        }
        found += [Wildcard(pattern) for pattern in sorted(patterns)]
    return found


def by_unique_keys(row: dict[int, str]) -> list[str]:
    return [row.get(tag, "") for tag in (*UNIQUE, *sorted(TAGS))]


@pytest.mark.parametrize("level", QueryLevel)
@pytest.mark.parametrize("seed", range(2))
def test_answers_are_those_of_brute_force(database, level, seed):
    random = Random(seed)
    hold(database, *(some_instance(random, sequence) for sequence in range(8)))
    everything = [(tag, vr, Universal()) for tag, (vr, _) in TAGS.items()]
    rows = ask(database, level, everything)
    asked = [[(tag, vr, match)] for tag, (vr, _) in TAGS.items() for match in every_match(tag)]
    asked += [random.choice(asked) + random.choice(asked) for _ in range(20)]
    for wanted in asked:
        tags = [tag for tag, _, _ in wanted]
        expected = [
            row
            for row in rows
            if all(matches(match, row[tag], vr) for tag, vr, match in wanted if tag in row)
        ]
        # Every attribute is a return key, so that whole rows can be compared.
        others = [key for key in everything if key[0] not in tags]
        returned = ask(database, level, [*wanted, *others])
        assert sorted(returned, key=by_unique_keys) == sorted(expected, key=by_unique_keys), wanted
