"""The database's answers against those of brute force over the same instances."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmoni.dicom import query as queries
from harmoni.dicom.identifier import Query, QueryLevel
from harmoni.dicom.matching import Universal, matches
from harmoni.index import find, ingest, statements
from harmoni.model import header
from harmoni.model.instance import Instance
from index_samples import CT, MR, instance

BIRTH_DATE = 0x0010_0030
TAGS_OF = {
    QueryLevel.PATIENT: header.PATIENT_TAGS,
    QueryLevel.STUDY: header.STUDY_TAGS,
    QueryLevel.SERIES: header.SERIES_TAGS,
    QueryLevel.IMAGE: header.INSTANCE_TAGS,
}
LEVELS = tuple(TAGS_OF)
# Tag: from which level on it is known.
COUNTED = {
    0x0020_1200: QueryLevel.PATIENT,
    0x0020_1202: QueryLevel.PATIENT,
    0x0020_1204: QueryLevel.PATIENT,
    0x0020_1206: QueryLevel.STUDY,
    0x0020_1208: QueryLevel.STUDY,
    0x0020_1209: QueryLevel.SERIES,
    0x0008_0061: QueryLevel.STUDY,
    0x0008_0062: QueryLevel.STUDY,
}
STUDIES = ["1.2.1", "1.2.2", "1.2.x", ""]
SERIES = ["1.3.1", "1.3.2"]


def place(one: Instance) -> tuple[str, int]:
    return one.location.pack_id.value, one.location.sequence


def word(one: Instance, tag: int) -> str:
    """A value of the sample as text; `index_samples` writes ISO 8859-7."""
    return one.header.value(tag).decode("iso8859_7").rstrip()


def text(values: set[str]) -> str:
    return "\\".join(sorted({part for value in values for part in value.split("\\") if part}))


class BruteForce:
    """What PS3.4 says of a few instances, by looking at all of them each time."""

    def __init__(self, instances: list[Instance]) -> None:
        self.instances = sorted(instances, key=place)

    def patient(self, one: Instance) -> tuple[str, str, str]:
        """The patient of the instance's study, by the study's first instance."""
        first = self.of_study(one)[0]
        patient_id = word(first, header.PATIENT_ID)
        if not patient_id:
            return "", "", first.study_instance_uid
        return patient_id, word(first, header.ISSUER_OF_PATIENT_ID), ""

    def of_patient(self, one: Instance) -> list[Instance]:
        return [other for other in self.instances if self.patient(other) == self.patient(one)]

    def of_study(self, one: Instance) -> list[Instance]:
        uid = one.study_instance_uid
        return [other for other in self.instances if other.study_instance_uid == uid]

    def of_series(self, one: Instance) -> list[Instance]:
        uid = one.series_instance_uid
        return [other for other in self.of_study(one) if other.series_instance_uid == uid]

    def shown(self, one: Instance) -> Instance:
        """Of all copies of a UID in one series the one that speaks for it."""
        uid = one.sop_instance_uid
        copies = [other for other in self.instances if other.sop_instance_uid == uid]
        source = copies[0].origin.calling_ae_title
        versions = defaultdict(list)
        for copy in copies:
            versions[copy.identity].append(copy)
        arrivals = {
            min(
                (copy.received_at_ms, place(copy)) for copy in version if came_from(copy, source)
            ): (version[0])
            for version in versions.values()
            if any(came_from(copy, source) for copy in version)
        }
        served = arrivals[max(arrivals)]
        here = [copy for copy in self.of_series(one) if copy.sop_instance_uid == uid]
        return served if served in here else here[0]

    def counted(self, tag: int, one: Instance) -> str:
        patient = [other for other in self.of_patient(one) if other.study_instance_uid]
        study, series = self.of_study(one), self.of_series(one)
        gathered = {
            0x0020_1200: {other.study_instance_uid for other in patient},
            0x0020_1202: {
                (other.study_instance_uid, other.series_instance_uid) for other in patient
            },
            0x0020_1204: {other.sop_instance_uid for other in patient},
            0x0020_1206: {other.series_instance_uid for other in study},
            0x0020_1208: {other.sop_instance_uid for other in study},
            0x0020_1209: {other.sop_instance_uid for other in series},
        }
        if tag in gathered:
            return str(len(gathered[tag]))
        if tag == find.MODALITIES_IN_STUDY:
            return text({word(self.of_series(other)[0], header.MODALITY) for other in study})
        return text({other.sop_class_uid for other in study})

    def values(self, query: Query, one: Instance) -> dict[int, str]:
        """Everything that is known of an instance at a level, whether it is asked for or not."""
        depth = LEVELS.index(query.level)
        speakers = (
            self.of_patient(one)[0],
            self.of_study(one)[0],
            self.of_series(one)[0],
            self.shown(one),
        )
        values: dict[int, str] = {}
        for level, speaker in list(zip(LEVELS, speakers, strict=True))[: depth + 1]:
            values |= {tag: word(speaker, tag) for tag in TAGS_OF[level]}
        for tag, level in COUNTED.items():
            if LEVELS.index(level) <= depth:
                values[tag] = self.counted(tag, one)
        if query.level is QueryLevel.IMAGE:
            values[find.AVAILABLE_TRANSFER_SYNTAX_UID] = speakers[-1].identity.transfer_syntax_uid
        return values

    def find(self, query: Query) -> list[dict[int, str]]:
        levels = LEVELS[: LEVELS.index(query.level) + 1]
        returned = {key.tag for key in query.keys} | {level.unique_key for level in levels}
        if query.level is QueryLevel.IMAGE:
            returned |= {header.SOP_CLASS_UID, find.AVAILABLE_TRANSFER_SYNTAX_UID}
        entities = {
            (
                self.patient(one),
                *(one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)[
                    : len(levels) - 1
                ],
            ): self.values(query, one)
            for one in self.instances
            if one.study_instance_uid
        }
        return [
            {tag: value for tag, value in values.items() if tag in returned}
            for values in entities.values()
            if all(
                isinstance(key.match, Universal)
                or key.tag not in values
                or matches(key.match, values[key.tag], key.vr)
                for key in query.keys
            )
        ]


def came_from(copy: Instance, source: str) -> bool:
    return copy.origin.calling_ae_title == source


def ordered(answers: list[dict[int, str]]) -> list[list[tuple[int, str]]]:
    return sorted(sorted(answer.items()) for answer in answers)


def answers(database, query: Query, **options) -> list[dict[int, str]]:
    with database.reader() as connection:
        return list(find.find(connection, query, **options))


def record(database, instances: list[Instance]) -> None:
    with database.write() as connection:
        ingest.record(connection, instances)


def of(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


samples = st.builds(
    lambda number, where, study, series, words, **others: instance(
        f"1.4.{number}",
        study_uid=study,
        series_uid=series,
        pack=where // 4,
        sequence=where % 4,
        values=words,
        **others,
    ),
    st.integers(0, 4),
    st.integers(0, 19),
    st.sampled_from(STUDIES),
    st.sampled_from(SERIES),
    st.fixed_dictionaries(
        {
            header.PATIENT_ID: of("P1", "P1", "p2", "P1\\P3", ""),
            header.PATIENT_NAME: of("Παπάς^Δ", "PAPAS^D=Παπάς^Δ", "PAPAS", "Pa\\Πα=X", "[x]", ""),
            header.ISSUER_OF_PATIENT_ID: of("", "", "LAB"),
            BIRTH_DATE: of("19500102", "1950.01.02", "", "soon"),
            header.STUDY_DATE: of("20260131", "20260201", "", "20260101\\20260301"),
            header.STUDY_TIME: of("1230", "123000.5", "09", ""),
            header.ACCESSION_NUMBER: of("A-1", "A-2", "", "a*"),
            header.STUDY_ID: of("1", "Δ1", ""),
            header.MODALITY: of("CT", "MR", "", "CT\\SR"),
            header.SERIES_NUMBER: of("1", "2", ""),
            header.INSTANCE_NUMBER: of("1", "2", ""),
        }
    ),
    sop_class_uid=of(CT, MR),
    content=st.sampled_from([b"a", b"b"]),
    syntax=of("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"),
    received_at_ms=st.integers(1, 3),
    source=of("CT1", "CT2"),
)
KEYS = {
    header.PATIENT_ID: ["", "P1", "P*", "?1", "P1\\p2", "P3", "*"],
    header.PATIENT_NAME: [
        "",
        "παπας^δ",
        "ΠΑΠ*",
        "παπας^δ\\X",
        "papas*=παπ*",
        "pap?s",
        "*=*",
        "Πα",
        "[x]",
        "?",
        "^",
    ],
    header.ISSUER_OF_PATIENT_ID: ["", "LAB", "L*"],
    BIRTH_DATE: ["", "19500102", "-19600101", "19500101-19500103"],
    header.STUDY_DATE: ["", "20260131", "20260101-20260131", "20260201-", "-20260131"],
    header.STUDY_TIME: ["", "1230", "12", "1200-1300", "-10"],
    header.ACCESSION_NUMBER: ["", "A-1", "A*", "?-?", "A-1\\A-2", "a*"],
    header.STUDY_ID: ["", "1", "Δ*"],
    header.STUDY_INSTANCE_UID: ["", "1.2.1", "1.2.1\\1.2.x", "1.2.9"],
    header.SERIES_INSTANCE_UID: ["", "1.3.1", "1.3.1\\1.3.2"],
    header.SOP_INSTANCE_UID: ["", "1.4.0", "1.4.1\\1.4.2\\1.4.3"],
    header.SOP_CLASS_UID: ["", CT, f"{CT}\\{MR}"],
    header.MODALITY: ["", "CT", "C*", "SR", "CT\\MR"],
    header.SERIES_NUMBER: ["", "1"],
    header.INSTANCE_NUMBER: ["", "1", "2"],
    0x0008_0061: ["", "CT", "SR", "?R", "CT\\MR"],
    0x0008_0062: ["", CT, MR],
    **{tag: ["", "1", "2"] for tag in COUNTED if tag >> 16 == 0x0020},
}
asked = st.lists(st.sampled_from(sorted(KEYS)), max_size=4, unique=True).flatmap(
    lambda tags: st.fixed_dictionaries({tag: st.sampled_from(KEYS[tag]) for tag in tags})
)
anything = st.one_of(
    st.builds(
        queries.compose_query, st.just(root), st.sampled_from(queries.LEVELS_OF_ROOT[root]), asked
    )
    for root in ("PATIENT", "STUDY")
)


@settings(max_examples=40)
@given(
    st.lists(samples, max_size=12, unique_by=place),
    st.lists(anything, min_size=4, max_size=8),
)
def test_property_the_database_answers_as_brute_force_does(new_database, instances, asked):
    database = new_database()
    record(database, instances)
    expected = BruteForce(instances)
    for query in asked:
        assert ordered(answers(database, query)) == ordered(expected.find(query))
    database.close()


def test_instances_without_study_are_nobodys_answer_and_in_nobodys_counts(database):
    record(
        database,
        [
            instance("1.1", study_uid=""),
            instance("1.2", sequence=1, study_uid="", values={header.PATIENT_ID: "P2"}),
        ],
    )
    query = queries.compose_query("PATIENT", QueryLevel.PATIENT, {0x0020_1204: ""})
    assert answers(database, query) == []
    record(database, [instance("1.3", sequence=2)])
    assert answers(database, query) == [{header.PATIENT_ID: "P1", 0x0020_1204: "1"}]


LARGE = ("patient", "patient_name", "study", "series", "instance")


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (QueryLevel.PATIENT, {header.PATIENT_ID: "P1"}),
        (QueryLevel.PATIENT, {header.PATIENT_NAME: "ΠΑΠ*"}),
        (QueryLevel.STUDY, {header.PATIENT_NAME: "ΠΑΠ*=pap*"}),
        (QueryLevel.STUDY, {header.PATIENT_ID: "P1"}),
        (QueryLevel.STUDY, {header.STUDY_INSTANCE_UID: "1.2\\1.3", 0x0008_0061: "CT"}),
        (QueryLevel.STUDY, {header.STUDY_DATE: "20260101-20260131", 0x0020_1208: ""}),
        (QueryLevel.STUDY, {header.ACCESSION_NUMBER: "A-1"}),
        (QueryLevel.STUDY, {header.ACCESSION_NUMBER: "A*"}),
        (QueryLevel.SERIES, {header.STUDY_INSTANCE_UID: "1.2"}),
        (QueryLevel.SERIES, {header.SERIES_INSTANCE_UID: "1.2"}),
        (QueryLevel.IMAGE, {header.SERIES_INSTANCE_UID: "1.2"}),
        (QueryLevel.IMAGE, {header.SOP_INSTANCE_UID: "1.2\\1.3"}),
    ],
)
def test_no_large_table_is_scanned_for_a_key_with_an_index(database, level, keys):
    sql, parameters = statements.compiled(
        find.statement(queries.compose_query("PATIENT", level, keys))
    )
    with database.reader() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    steps = [str(row[3]).split() for row in plan]
    assert [step for step in steps if step[0] == "SCAN" and step[1] in LARGE] == []


def test_a_query_that_is_given_up_releases_its_snapshot(database):
    record(database, [instance(f"1.{number}", sequence=number) for number in range(300)])
    with database.reader() as connection:
        query = queries.compose_query("STUDY", QueryLevel.IMAGE, {})
        next(find.find(connection, query))
    record(database, [instance("1.9999", pack=2)])
    # A checkpoint that resets the log is refused as long as anybody reads an old snapshot.
    [(refused, _, _)] = database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert refused == 0
    assert len(answers(database, query)) == 301


def test_an_answer_is_of_the_snapshot_in_which_the_query_began(database):
    record(database, [instance(f"1.{number}", sequence=number) for number in range(3)])
    with database.reader() as connection:
        query = queries.compose_query("STUDY", QueryLevel.IMAGE, {})
        found = find.find(connection, query)
        first = next(found)
        record(database, [instance("1.99", pack=2)])
        assert len([first, *found]) == 3
