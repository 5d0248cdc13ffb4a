import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.index import equality, ingest
from harmoni.index.database import Database
from harmoni.index.ingest import Fact
from harmoni.model import header
from index_samples import instance, pack_id

COUNTS = "SELECT (SELECT count(*) FROM patient), (SELECT count(*) FROM study),\
 (SELECT count(*) FROM series), (SELECT count(*) FROM instance)"


def record(database: Database, *batches, patient_domain="") -> None:
    for batch in batches:
        with database.write() as connection:
            ingest.record(connection, batch, ingest.Terms(patient_domain=patient_domain))


def rows(database: Database, sql: str) -> list[tuple[object, ...]]:
    with database.reader() as connection:
        return connection.execute(sql).fetchall()


def digest(database: Database) -> bytes:
    with database.reader() as connection:
        return equality.digest(connection)


def test_recording_twice_changes_nothing(database):
    batch = [instance(), instance("1.2.3.5", sequence=1)]
    record(database, batch)
    before = digest(database)
    record(database, batch, batch[1:] + batch)
    assert digest(database) == before
    assert rows(database, COUNTS) == [(1, 1, 1, 2)]


def test_versions_of_one_uid_each_have_a_row(database):
    record(database, [instance(), instance(content=b"other", pack=2)])
    assert rows(database, COUNTS) == [(1, 1, 1, 2)]


def test_the_first_instance_speaks_for_study_and_patient(database):
    late = instance(pack=2, values={header.PATIENT_NAME: "LATE", header.STUDY_DATE: "20260202"})
    early = instance(
        "1.2.3.5", values={header.PATIENT_NAME: "EARLY", header.STUDY_DATE: "20260101"}
    )
    record(database, [late], [early])
    assert rows(database, "SELECT name FROM patient_name") == [("early",)]
    assert rows(database, "SELECT date FROM study") == [("20260101",)]


def test_a_study_that_turns_out_to_be_anothers_takes_its_patient_along(database):
    late = instance(pack=2, values={header.PATIENT_ID: "WRONG"})
    early = instance("1.2.3.5", values={header.PATIENT_ID: "RIGHT"})
    record(database, [late], [early])
    assert rows(database, "SELECT patient_id FROM patient") == [("RIGHT",)]


def test_a_patient_keeps_the_word_of_its_next_study_when_the_first_goes(database):
    first = instance(pack=2, values={header.PATIENT_NAME: "A"})
    next_ = instance("9", study_uid="1.9", pack=3, values={header.PATIENT_NAME: "B"})
    moves = instance("1.2.3.5", pack=1, values={header.PATIENT_ID: "OTHER"})
    record(database, [first], [next_], [moves])
    assert sorted(
        rows(database, "SELECT patient_id, name FROM patient JOIN patient_name USING (patient_no)")
    ) == [
        ("OTHER", "παπαδοπουλοσ^γιωργοσ"),
        ("P1", "b"),
    ]


def test_without_patient_id_every_study_is_a_patient(database):
    values = {header.PATIENT_ID: ""}
    record(
        database,
        [instance(values=values), instance("9", study_uid="1.9", sequence=1, values=values)],
    )
    assert rows(database, COUNTS) == [(2, 2, 2, 2)]


def test_the_issuer_or_else_the_configured_domain_tells_patients_apart(database):
    record(
        database,
        [
            instance(),
            instance("2", study_uid="1.5", sequence=1, values={header.ISSUER_OF_PATIENT_ID: "LAB"}),
            instance("3", study_uid="1.6", sequence=2, values={header.ISSUER_OF_PATIENT_ID: "X"}),
        ],
        patient_domain="LAB",
    )
    found = rows(database, "SELECT patient_id, issuer FROM patient ORDER BY issuer")
    assert found == [("P1", "LAB"), ("P1", "X")]


def test_a_pack_is_noted_with_its_first_row(database):
    record(database, [instance(pack=7)])
    assert rows(database, "SELECT pack_id, state FROM pack") == [(pack_id(7).value, "open")]


def test_facts_are_idempotent_and_json_with_sorted_keys(database):
    fact = Fact(pack_id=pack_id(1), sequence=0, kind="hold", at_ms=5, body={"b": 1, "a": "ά"})
    for _ in range(2):
        with database.write() as connection:
            ingest.record_facts(connection, [fact])
    assert rows(database, "SELECT kind, at_ms, body FROM fact") == [
        ("hold", 5, '{"a": "ά", "b": 1}')
    ]


@pytest.mark.parametrize("value", ["\0", "A\\B", "", "Ω" * 64, "'; DROP TABLE study; --"])
def test_any_text_is_recorded(database, value):
    tags = (*header.PATIENT_TAGS, *header.STUDY_TAGS, header.MODALITY, header.SERIES_NUMBER)
    uids = (header.STUDY_INSTANCE_UID,)
    record(database, [instance(values={tag: value for tag in tags if tag not in uids})])
    assert rows(database, COUNTS) == [(1, 1, 1, 1)]


small = st.builds(
    lambda number, place, study, series, patient, name, class_uid: instance(
        f"1.{number}",
        study_uid=study,
        series_uid=series,
        pack=place // 4,
        sequence=place % 4,
        values={header.PATIENT_ID: patient, header.PATIENT_NAME: name, header.MODALITY: name},
        sop_class_uid=class_uid,
    ),
    st.integers(0, 3),
    st.integers(0, 15),
    st.sampled_from(["1.1", "1.2", ""]),
    st.sampled_from(["1.1", "1.2"]),
    st.sampled_from(["P1", "P2", ""]),
    st.sampled_from(["A", "B=C", ""]),
    st.sampled_from(["1.7", "1.8"]),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(small, max_size=12, unique_by=lambda one: one.location),
    st.randoms(use_true_random=False),
)
def test_property_order_and_batches_do_not_matter(new_database, instances, random):
    digests = set()
    for _ in range(2):
        database = new_database()
        left = random.sample(instances, len(instances))
        while left:
            size = random.randint(1, len(left))
            record(database, left[:size], left[:1])
            left = left[size:]
        digests.add(digest(database))
        database.close()
    assert len(digests) == 1
