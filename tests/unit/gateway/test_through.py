"""Queries and retrievals through the gateway: what is here, what was let go, what is elsewhere."""

import copy
import os
import threading
from itertools import chain

import pytest

import house as houses
from gateway_ends import store
from harmoni.audit import spool
from harmoni.audit.event import Act
from harmoni.dicom.identifier import QueryLevel, compose_query
from harmoni.gateway.catalogue import Listed
from harmoni.gateway.fetch import MOST_UIDS, requests
from harmoni.gateway.union import merge
from harmoni.index import lookup
from harmoni.index.find import (
    NUMBER_OF_PATIENT_RELATED_INSTANCES,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_SERIES,
)
from harmoni.model.errors import HarmoniError, OutOfResources, Unreachable
from harmoni.vault import custody

PATIENT, STUDY, SERIES, SOP = 0x0010_0020, 0x0020_000D, 0x0020_000E, 0x0008_0018
AVAILABILITY = 0x0008_0056
OTHER_STUDY = f"{houses.STUDY[:-1]}7"


def of_study(*more):
    return compose_query(
        "STUDY",
        QueryLevel.STUDY,
        {STUDY: houses.STUDY, AVAILABILITY: "", NUMBER_OF_STUDY_RELATED_INSTANCES: ""}
        | dict.fromkeys(more, ""),
    )


def answers(gateway, query, **changes):
    return list(gateway.finding(gateway.asker(**changes)).find(query))


def test_a_study_that_was_let_go_is_found_as_nearline(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)
    gateway.seal()
    [before] = answers(gateway, of_study())
    gateway.holding.let_go.evict(houses.STUDY)

    [after] = answers(gateway, of_study())

    assert before[AVAILABILITY] == "ONLINE"
    assert after[AVAILABILITY] == "NEARLINE"
    assert after[NUMBER_OF_STUDY_RELATED_INSTANCES] == "2"


def test_what_only_the_centre_has_is_found_and_counted_once(gateway, archive):
    gateway.store(1, 2)
    for number in (2, 3, 4):
        store(archive.holding, number)

    [answer] = answers(gateway, of_study(NUMBER_OF_STUDY_RELATED_SERIES))

    assert answer[NUMBER_OF_STUDY_RELATED_INSTANCES] == "4"
    assert answer[NUMBER_OF_STUDY_RELATED_SERIES] == "1"


def test_counts_of_series_and_patient_are_those_of_the_union(gateway, archive):
    gateway.store(1)
    store(archive.holding, 2)
    store(archive.holding, 3, houses.data_set(3, study=OTHER_STUDY, series=f"{OTHER_STUDY}.2"))
    series = compose_query(
        "STUDY",
        QueryLevel.SERIES,
        {STUDY: houses.STUDY, SERIES: "", NUMBER_OF_SERIES_RELATED_INSTANCES: ""},
    )
    patient = compose_query(
        "PATIENT",
        QueryLevel.PATIENT,
        {PATIENT: "4711", NUMBER_OF_PATIENT_RELATED_INSTANCES: ""},
    )

    [of_series] = answers(gateway, series)
    [of_patient] = answers(gateway, patient)

    assert of_series[NUMBER_OF_SERIES_RELATED_INSTANCES] == "2"
    assert of_patient[NUMBER_OF_PATIENT_RELATED_INSTANCES] == "3"


def test_a_study_that_never_passed_through_is_found_as_nearline(gateway, archive):
    store(archive.holding, 1)

    [answer] = answers(gateway, of_study())

    assert answer[AVAILABILITY] == "NEARLINE"
    assert answer[NUMBER_OF_STUDY_RELATED_INSTANCES] == "1"


def test_images_of_both_are_listed_once(gateway, archive):
    gateway.store(1, 2)
    store(archive.holding, 2)
    store(archive.holding, 3)
    query = compose_query(
        "STUDY", QueryLevel.IMAGE, {STUDY: houses.STUDY, SERIES: houses.SERIES, SOP: ""}
    )

    found = sorted(answer[SOP] for answer in answers(gateway, query))

    assert found == [houses.uid(1), houses.uid(2), houses.uid(3)]


def test_with_the_centre_away_a_query_is_answered_from_what_passed_through(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    archive.stop()

    [answer] = answers(gateway, of_study())

    assert answer[NUMBER_OF_STUDY_RELATED_INSTANCES] == "2"


def test_a_strict_gateway_does_not_answer_alone(gateway):
    gateway.store(1)
    with pytest.raises(Unreachable):
        answers(gateway, of_study(), strict=True)


def test_a_centre_that_was_away_is_left_alone_for_a_moment(gateway, centre):
    asker = gateway.asker()
    asked = []

    class Counting:
        def open(self, *_, **__):
            asked.append(1)
            raise Unreachable("away")

    asker._centre = Counting()
    for _ in range(3):
        assert asker.ask(lambda _: 1) is None
    assert len(asked) == 1
    gateway.clock.advance(11)
    asker.ask(lambda _: 1)
    assert len(asked) == 2


def retrieve(gateway, query, asker=None):
    plan = gateway.retrieving(asker or gateway.asker()).plan(query)
    return {
        each.sop_instance_uid: b"".join(bytes(chunk) for chunk in each.open())
        for each in plan
        if each.wait(30)
    }


def whole_study(study=houses.STUDY):
    return compose_query("STUDY", QueryLevel.STUDY, {STUDY: study})


def test_what_was_let_go_comes_back_byte_for_byte_and_needs_no_job(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)

    got = retrieve(gateway, whole_study())

    assert got == {houses.uid(n): houses.data_set(n) for n in (1, 2)}
    assert gateway.states() == {}
    assert gateway.versions(1)[-1].sound


def test_a_retrieval_gives_what_is_here_and_fetches_what_is_not(gateway, archive):
    gateway.store(1)
    store(archive.holding, 2)

    got = retrieve(gateway, whole_study())

    assert got == {houses.uid(n): houses.data_set(n) for n in (1, 2)}
    # What only the centre had is asked about before anybody would send it back.
    assert gateway.states() == {"queued": 1, "doubtful": 1}


@pytest.mark.parametrize("level", ["PATIENT", "SERIES", "IMAGE"])
def test_a_retrieval_at_any_level_fetches_what_only_the_centre_has(gateway, archive, level):
    store(archive.holding, 1)
    keys = {
        "PATIENT": {PATIENT: "4711"},
        "SERIES": {STUDY: houses.STUDY, SERIES: houses.SERIES},
        "IMAGE": {STUDY: houses.STUDY, SERIES: houses.SERIES, SOP: houses.uid(1)},
    }[level]
    root = "PATIENT" if level == "PATIENT" else "STUDY"

    got = retrieve(gateway, compose_query(root, QueryLevel(level), keys))

    assert got == {houses.uid(1): houses.data_set(1)}


def test_two_retrievals_at_once_share_one_fetch(gateway, archive):
    gateway.store(1, 2, 3)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    asker = gateway.asker()
    results = []
    first = gateway.retrieving(asker).plan(whole_study())
    second = gateway.retrieving(asker).plan(whole_study())
    for plan in (first, second):
        for each in plan:
            assert each.wait(30)
        results.append([b"".join(bytes(chunk) for chunk in each.open()) for each in plan])

    assert results[0] == results[1]
    assert [len(gateway.versions(number)) for number in (1, 2, 3)] == [2, 2, 2]


def without_room(gateway, archive, *pixels):
    """Instances of so many pixels that only the centre has, and a gateway without room for them."""
    wanted = {}
    for number, each in enumerate(pixels, 1):
        wanted[houses.uid(number)] = houses.data_set(number, pixels=each)
        gateway.store(number, data=wanted[houses.uid(number)])
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    gateway.holding.room.reserve_bytes = 1 << 62
    return wanted


def test_what_there_is_no_room_for_is_relayed_from_the_centre_and_kept_nowhere(gateway, archive):
    wanted = without_room(gateway, archive, b"", b"\x01\x02" * 1000, os.urandom(5 << 20))

    before = sorted(gateway.house.files.path("packs").rglob("*"))

    assert retrieve(gateway, whole_study()) == wanted

    assert [len(gateway.versions(number)) for number in (1, 2, 3)] == [1, 1, 1]
    assert sorted(gateway.house.files.path("packs").rglob("*")) == before
    *_, given = audited(gateway.house)
    assert (given.act, given.action) == (Act.BEGIN_TRANSFERRING, "R")
    assert given.study_uids == (houses.STUDY,)


def test_what_is_relayed_and_damaged_at_the_centre_never_comes_whole(gateway, archive):
    [wanted] = without_room(gateway, archive, os.urandom(3 << 20)).values()
    archive.seal()
    spoil(archive, 1)
    [outgoing] = gateway.retrieving(gateway.asker()).plan(whole_study())
    assert outgoing.wait(30)
    came = bytearray()

    with pytest.raises(HarmoniError):
        came.extend(chain.from_iterable(outgoing.open()))

    assert len(came) < len(wanted)


def test_a_relay_whose_receiver_has_gone_ends(gateway, archive):
    without_room(gateway, archive, os.urandom(20 << 20))
    [outgoing] = gateway.retrieving(gateway.asker()).plan(whole_study())
    assert outgoing.wait(30)

    giving = outgoing.open()
    next(giving)
    [relaying] = [each for each in threading.enumerate() if each.name == "relay"]
    giving.close()
    relaying.join(30)

    assert not relaying.is_alive()


def test_what_a_fetch_finds_no_room_for_is_relayed(gateway, archive):
    wanted = without_room(gateway, archive, b"", os.urandom(5 << 20))
    beforehand = gateway.holding.room
    gateway.holding.recorder.packs.room = copy.copy(beforehand)
    beforehand.reserve_bytes = 0  # it is begun as if there were enough

    assert retrieve(gateway, whole_study()) == wanted

    assert [len(gateway.versions(number)) for number in (1, 2)] == [1, 1]


def test_with_the_centre_away_what_was_let_go_fails_and_what_is_here_does_not(gateway, archive):
    gateway.store(1)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    gateway.store(2)
    archive.stop()
    plan = gateway.retrieving(gateway.asker()).plan(whole_study())
    here, away = sorted(plan, key=lambda each: each.sop_instance_uid, reverse=True)

    assert b"".join(bytes(chunk) for chunk in here.open()) == houses.data_set(2)
    assert away.wait(60)
    with pytest.raises(Unreachable):
        b"".join(away.open())


def test_a_study_of_which_nothing_is_known_is_not_called_empty_while_the_centre_is_away(gateway):
    with pytest.raises(Unreachable):
        gateway.retrieving(gateway.asker()).plan(whole_study("1.2.3"))


def test_a_study_that_nobody_has_is_empty(gateway, archive):
    assert list(gateway.retrieving(gateway.asker()).plan(whole_study("1.2.3"))) == []


def test_a_long_list_is_cut_into_requests_of_one_series_each():
    def listed(series, number):
        return Listed(
            study_instance_uid="1.2",
            series_instance_uid=series,
            sop_class_uid=houses.CT,
            sop_instance_uid=f"{series}.{number}",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            sha256=None,
        )

    wanted = [listed("1.2.1", n) for n in range(MOST_UIDS + 1)] + [listed("1.2.2", 1)]
    made = list(requests(wanted))

    assert [query.level for query in made] == [QueryLevel.IMAGE] * 3


def test_what_the_centre_gives_back_is_audited_with_its_study(gateway, archive):
    gateway.store(1)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)

    retrieve(gateway, whole_study())

    events = audited(gateway.house)
    taken = [each for each in events if each.who.calling_ae_title == "HARMONI"]
    assert {each.act for each in taken} >= {Act.BEGIN_TRANSFERRING}
    assert all(each.study_uids == (houses.STUDY,) for each in taken)


def audited(house):
    key = custody.audit_key(house.custody_key)
    return [
        entry.event
        for name in spool.names(house.files)
        for entry in spool.read(house.files, name, key)
    ]


def spoil(archive, number):
    """Damage an instance in the middle of its data, at the centre."""
    with archive.holding.index.reader() as connection:
        [held] = lookup.versions(connection, houses.uid(number))
    [path] = [
        path
        for path in archive.site.files.path("packs").glob("*/p/*/*.tar")
        if path.stem == str(held.location.pack_id)
    ]
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(held.location.offset + held.location.size_bytes // 2)
        file.write(b"\xff" * 16)


def test_one_that_is_damaged_at_the_centre_keeps_no_other_from_coming(gateway, archive):
    pixels = bytes(3 << 20)
    for number in (1, 2, 3):
        gateway.store(number, data=houses.data_set(number, pixels=pixels))
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    archive.seal()
    spoil(archive, 1)
    plan = gateway.retrieving(gateway.asker()).plan(whole_study())
    came, failed = set(), set()
    for each in plan:
        assert each.wait(60)
        try:
            assert b"".join(bytes(chunk) for chunk in each.open()).endswith(pixels)
            came.add(each.sop_instance_uid)
        except HarmoniError:
            failed.add(each.sop_instance_uid)

    assert failed == {houses.uid(1)}
    assert came == {houses.uid(2), houses.uid(3)}


def test_what_is_let_go_of_after_it_was_planned_comes_from_the_centre(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)
    gateway.seal()
    plan = gateway.retrieving(gateway.asker()).plan(whole_study())
    gateway.holding.let_go.evict(houses.STUDY)

    got = [b"".join(bytes(chunk) for chunk in each.open()) for each in plan]

    assert got == [houses.data_set(1), houses.data_set(2)]


def test_a_patient_moves_as_many_studies_as_there_are_places_for(gateway, archive):
    studies = [f"{houses.STUDY}{number}" for number in range(6)]
    for number, study in enumerate(studies, 1):
        store(archive.holding, number, houses.data_set(number, study=study, series=f"{study}.1"))
    query = compose_query("PATIENT", QueryLevel.PATIENT, {PATIENT: "4711"})

    assert len(retrieve(gateway, query)) == len(studies)


def test_the_same_bytes_in_another_syntax_are_not_taken_for_what_is_wanted(gateway, archive):
    gateway.store(1)
    [held] = gateway.versions(1)
    wanted = Listed(
        study_instance_uid=houses.STUDY,
        series_instance_uid=houses.SERIES,
        sop_class_uid=houses.CT,
        sop_instance_uid=houses.uid(1),
        transfer_syntax_uid="1.2.840.10008.1.2.4.70",
        sha256=held.identity.sha256,
    )
    fetch = gateway.asker().fetches.fetch([wanted])[houses.uid(1)]

    assert fetch.wait(houses.uid(1), 30)
    with pytest.raises(HarmoniError):
        fetch.held(houses.uid(1))


@pytest.mark.parametrize("known", [True, False])
def test_only_a_gateway_that_was_there_from_the_beginning_answers_alone(gateway, known):
    if not known:
        gateway.house.files.remove("stubs.complete")
    gateway.store(1)
    if known:
        assert len(answers(gateway, of_study())) == 1
    else:
        with pytest.raises(Unreachable):
            answers(gateway, of_study())


@pytest.mark.parametrize("before", [True, False])
def test_a_gateway_knows_all_where_the_centre_had_nothing_when_they_met(gateway, archive, before):
    gateway.house.files.remove("stubs.complete")
    if before:
        store(archive.holding, 1)

    gateway.standing._meet()

    assert gateway.house.knows_all is not before


def test_patients_of_two_issuers_are_two_and_nobody_is_lost(gateway, archive):
    query = compose_query("PATIENT", QueryLevel.PATIENT, {PATIENT: "*"})
    here = [{PATIENT: "1"}, {PATIENT: ""}, {PATIENT: ""}]
    there = [{PATIENT: "1"}, {PATIENT: "1"}, {PATIENT: "2"}, {PATIENT: ""}]

    merged = merge(query, here, there)

    assert sorted(each.values[PATIENT] for each in merged) == ["", "", "1", "1", "2"]


def test_a_query_with_too_many_matches_at_the_centre_is_not_called_an_outage(gateway, archive):
    asker = gateway.asker()

    def act(_):
        raise OutOfResources("more matches than it tells")

    with pytest.raises(OutOfResources):
        asker.ask(act)
    assert asker.ask(lambda asked: asked.answers(of_study())) == []


def test_somebody_else_in_the_centres_place_is_no_centre(gateway, centre, archive):
    """The archive shows a hospital's certificate: the gateway answers as if nobody were there."""
    archive.stop()
    hospital = centre.houses[0].tls_files
    section = archive.config.tls.model_copy(
        update={"certificate": hospital.certificate, "key": hospital.key}
    )
    archive.config = archive.config.model_copy(update={"tls": section})
    archive.start()
    gateway.store(1)

    assert len(answers(gateway, of_study())) == 1
    assert retrieve(gateway, whole_study()) == {houses.uid(1): houses.data_set(1)}
    with pytest.raises(HarmoniError, match="names no site of the centre"):
        gateway.forwarder.round()
    assert gateway.states() == {"queued": 1}


def test_a_pack_that_somebody_removed_here_comes_from_the_centre_at_once(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)
    gateway.seal()
    [path] = [
        path
        for path in gateway.house.files.path("packs").glob("*/p/*/*.tar")
        if path.stem == str(gateway.versions(1)[0].location.pack_id)
    ]
    path.unlink()

    assert retrieve(gateway, whole_study()) == {houses.uid(n): houses.data_set(n) for n in (1, 2)}


def test_a_second_version_from_elsewhere_after_the_first_was_let_go_is_given(gateway, archive):
    gateway.store(1)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    second = houses.data_set(1, name="CORRECTED^NAME")
    gateway.store(1, data=second, calling="PACS_A")
    gateway.deliver(archive)

    assert retrieve(gateway, whole_study()) == {houses.uid(1): second}
