import pytest

from harmoni.dicom.identifier import Key, Query, QueryLevel, compose_query
from harmoni.dicom.matching import Match, Single, UidList, Universal
from harmoni.index import ingest, lookup, packs
from harmoni.index.packs import PackState
from harmoni.model import header
from harmoni.model.errors import InvalidInput
from index_samples import instance, pack_id

UID = "1.2.3.4"


def held_after(database, *instances) -> list[lookup.Held]:
    with database.write() as connection:
        ingest.record(connection, instances)
        return lookup.versions(connection, UID)


def served_pack(copies: list[lookup.Held]) -> int:
    chosen = lookup.served(copies)
    assert chosen is not None
    return next(number for number in range(1, 9) if pack_id(number) == chosen.location.pack_id)


def query(level: QueryLevel, *keys: tuple[int, Match]) -> Query:
    return Query(
        root="STUDY", level=level, keys=tuple(Key(tag, "UI", match) for tag, match in keys)
    )


def test_everything_recorded_of_a_copy_comes_back(database):
    one = instance()
    [held] = held_after(database, one)
    assert held.identity == one.identity
    assert held.location == one.location
    assert held.origin == one.origin
    assert held.sop_class_uid == one.sop_class_uid
    assert held.study_instance_uid == one.study_instance_uid
    assert held.series_instance_uid == one.series_instance_uid
    assert held.received_at_ms == one.received_at_ms
    assert held.pack_state is PackState.OPEN
    assert held.sound


def test_copies_come_in_canonical_order_whatever_series_they_are_in(database):
    copies = held_after(
        database,
        instance(pack=3, series_uid="1.9"),
        instance(pack=1, sequence=5),
        instance(pack=1, sequence=2, study_uid="1.8"),
    )
    assert [(held.location.pack_id, held.location.sequence) for held in copies] == [
        (pack_id(1), 2),
        (pack_id(1), 5),
        (pack_id(3), 0),
    ]


def test_nothing_is_served_of_what_is_not_held(database):
    assert lookup.served(held_after(database)) is None


def test_the_newest_version_of_the_first_source_is_served(database):
    copies = held_after(
        database,
        instance(pack=1, content=b"first", received_at_ms=1),
        instance(pack=2, content=b"corrected", received_at_ms=5),
        instance(pack=3, content=b"foreign", received_at_ms=9, source="CT2"),
    )
    assert served_pack(copies) == 2


def test_a_healing_copy_does_not_make_an_old_version_the_newest(database):
    copies = held_after(
        database,
        instance(pack=1, content=b"first", received_at_ms=1),
        instance(pack=2, content=b"corrected", received_at_ms=5),
        instance(pack=3, content=b"first", received_at_ms=9),
    )
    assert served_pack(copies) == 2


def test_another_syntax_is_another_version(database):
    copies = held_after(
        database, instance(pack=1), instance(pack=2, syntax="1.2.9", received_at_ms=2**41)
    )
    assert served_pack(copies) == 2


def test_a_damaged_or_missing_copy_is_served_only_if_there_is_no_other(database):
    first, second = instance(pack=1), instance(pack=2)
    held_after(database, first, second)
    with database.write() as connection:
        packs.flag_damaged(connection, UID, first.location)
        assert served_pack(lookup.versions(connection, UID)) == 2
        packs.set_state(connection, pack_id(2), PackState.MISSING)
        assert served_pack(lookup.versions(connection, UID)) == 1


@pytest.mark.parametrize("state", [PackState.MISSING, PackState.EVICTED])
def test_a_copy_without_its_file_is_not_sound_and_served_last(database, state):
    held_after(database, instance(pack=1), instance(pack=2))
    with database.write() as connection:
        packs.set_state(connection, pack_id(1), state)
        copies = lookup.versions(connection, UID)
    assert [held.sound for held in copies] == [False, True]
    assert served_pack(copies) == 2


def test_a_retrieval_names_each_uid_once_with_its_served_copy(database):
    held_after(
        database,
        instance(pack=1),
        instance(pack=2, content=b"corrected", received_at_ms=2**41),
        instance("1.2.3.5", pack=1, sequence=1),
        instance("1.2.3.6", pack=1, sequence=2, study_uid="1.9"),
    )
    with database.reader() as connection:
        study = query(QueryLevel.STUDY, (header.STUDY_INSTANCE_UID, Single("1.2.3")))
        found = lookup.instances_of(connection, study)
        assert [(held.sop_instance_uid, held.location.pack_id) for held in found] == [
            (UID, pack_id(2)),
            ("1.2.3.5", pack_id(1)),
        ]
        both = query(QueryLevel.STUDY, (header.STUDY_INSTANCE_UID, UidList(("1.2.3", "1.9"))))
        assert len(lookup.instances_of(connection, both)) == 3


def test_a_retrieval_by_sop_instance_uids_ignores_other_keys(database):
    held_after(database, instance(), instance("1.2.3.5", sequence=1))
    with database.reader() as connection:
        images = query(
            QueryLevel.IMAGE,
            (header.SOP_INSTANCE_UID, UidList(("1.2.3.5", "1.2.3.99"))),
            (header.MODALITY, Single("MR")),
        )
        assert [held.sop_instance_uid for held in lookup.instances_of(connection, images)] == [
            "1.2.3.5"
        ]


def test_a_retrieval_of_everything_is_refused(database):
    with database.reader() as connection, pytest.raises(InvalidInput, match="unique key"):
        lookup.instances_of(
            connection, query(QueryLevel.STUDY, (header.STUDY_INSTANCE_UID, Universal()))
        )


def test_the_members_of_a_pack_come_in_order_whatever_series_they_are_in(database):
    one, two = instance(sequence=3), instance("1.9", sequence=1, study_uid="1.8")
    held_after(database, one, instance("1.7", pack=2), two)
    with database.reader() as connection:
        members = lookup.members(connection, pack_id(1))
        assert [held.location for held in members] == [two.location, one.location]
        assert lookup.members(connection, pack_id(9)) == []


def test_the_rows_of_one_pack_are_found_without_reading_all_rows(database):
    with database.reader() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {lookup._MEMBERS}", (pack_id(1).value,))
        steps = [row[3] for row in plan.fetchall()]
    assert any("ix_instance_pack_no" in step for step in steps)
    assert not any(step.startswith("SCAN instance") for step in steps)


def test_a_uid_that_two_studies_have_is_never_given_for_the_other(database):
    one = instance(study_uid="1.2.3", series_uid="1.2.3.1", content=b"one")
    two = instance(study_uid="1.2.9", series_uid="1.2.9.1", content=b"two", pack=2)
    with database.write() as connection:
        ingest.record(connection, [one, two])
    for study, expected in (("1.2.3", one), ("1.2.9", two)):
        query = compose_query("STUDY", QueryLevel.STUDY, {0x0020_000D: study})
        with database.reader() as connection:
            [held] = lookup.instances_of(connection, query)
        assert held.identity == expected.identity
        assert held.study_instance_uid == study
