"""What two versions of an instance differ in is found out once both are sealed, and recorded."""

import json

import pytest

import house as houses
from harmoni.dicom import uids
from harmoni.holdings.conflict import Difference, pixels_sha256
from harmoni.holdings.record import Announced
from harmoni.index import ingest, packs
from harmoni.index.packs import PackState
from harmoni.model.errors import Damaged, OutOfResources, StorageFailed
from harmoni.model.instance import Origin

EXPLICIT = uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN)
IMPLICIT = uids.storage_transfer_syntax(uids.IMPLICIT_VR_LITTLE_ENDIAN)
JPEG = uids.storage_transfer_syntax("1.2.840.10008.1.2.4.50")
DAY_MS = 86_400_000


def look(house):
    """Seal everything, and compare as the keeper does."""
    house.seal()
    return compare(house)


def compare(house):
    return [
        (conflict.source, conflict.difference, len(conflict.pairs))
        for conflict in house.holding.conflicts.compare(60)
    ]


def facts(house):
    with house.holding.index.reader() as connection:
        rows = connection.execute("SELECT body FROM fact WHERE kind = 'conflict'").fetchall()
    return [json.loads(body) for (body,) in rows]


def damage(house, held):
    [pack] = house.files(f"packs/**/{held.location.pack_id}.tar")
    with pack.open("r+b") as file:
        file.seek(held.location.offset + 300)
        file.write(b"\0" * 40)


def store_as(house, data, syntax):
    incoming = house.holding.recorder.begin(
        Announced(
            sop_class_uid=houses.CT,
            sop_instance_uid=houses.uid(1),
            transfer_syntax=syntax,
            origin=Origin(calling_ae_title="CT_A", called_ae_title="HARMONI", address="192.0.2.7"),
        )
    )
    houses.pour(incoming, data)
    incoming.finish()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [({"name": "MERGED^NAME"}, Difference.HEADER), ({"pixels": b"\1\2"}, Difference.PIXELS)],
)
@pytest.mark.parametrize("packs", [1, 2])
def test_a_changed_header_is_told_from_changed_pixels(house, changed, difference, packs):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2), 2)
    if packs == 2:
        assert look(house) == []
    house.store(houses.data_set(1, **changed), 1, calling="CT_B")

    assert look(house) == [("CT_B", difference, 1)]
    [body] = facts(house)
    assert body["difference"] == difference
    assert body["instances"] == [
        {
            "before": house.versions(1)[0].identity.sha256.hex(),
            "sha256": house.versions(1)[1].identity.sha256.hex(),
            "sop_instance_uid": houses.uid(1),
        }
    ]


def test_another_transfer_syntax_is_a_class_of_its_own(house):
    store_as(house, houses.data_set(1), EXPLICIT)
    store_as(house, houses.data_set(1), JPEG)
    assert look(house) == [("CT_A", Difference.SYNTAX, 1)]


def test_what_cannot_be_compared_counts_as_pixels(house):
    store_as(house, houses.data_set(1), EXPLICIT)
    house.seal()
    compare(house)
    damage(house, house.versions(1)[0])
    store_as(house, houses.data_set(1, name="OTHER"), EXPLICIT)
    assert look(house) == [("CT_A", Difference.PIXELS, 1)]
    assert house.versions(1)[0].damaged


def evict(house, number=1):
    """Let go of the packs of all copies of an instance that are sealed."""
    for held in house.versions(number):
        if held.pack_state is PackState.SEALED:
            with house.holding.index.write() as connection:
                packs.set_state(connection, held.location.pack_id, PackState.EVICTED)
            [path] = house.files(f"packs/**/{held.location.pack_id}.tar")
            path.unlink()


def test_nothing_is_compared_with_evicted_copies(house):
    house.store(houses.data_set(1), 1)
    assert look(house) == []
    evict(house)
    house.store(houses.data_set(1, name="OTHER"), 1)
    assert look(house) == []
    assert house.holding.conflicts.failures == {}

    # The next version is compared with the one that is here.
    house.store(houses.data_set(1, name="THIRD"), 1)
    assert look(house) == [("CT_A", Difference.HEADER, 1)]
    assert facts(house)[0]["instances"][0]["before"] == house.versions(1)[1].identity.sha256.hex()


def test_a_version_that_was_evicted_and_comes_again_is_no_new_one(house):
    house.store(houses.data_set(1), 1)
    look(house)
    evict(house)
    house.store(houses.data_set(1, name="OTHER"), 1)
    look(house)
    house.store(houses.data_set(1), 1)

    assert [held.pack_state.value for held in house.versions(1)] == ["evicted", "sealed", "open"]
    assert look(house) == []


def test_an_evicted_pack_that_was_not_compared_waits_for_its_return(house):
    house.store(houses.data_set(1), 1)
    look(house)
    house.store(houses.data_set(1, name="OTHER"), 1)
    house.seal()
    evicted = house.versions(1)[1].location.pack_id
    with house.holding.index.write() as connection:
        packs.set_state(connection, evicted, PackState.EVICTED)
    assert compare(house) == []
    assert house.holding.rebuilder().rebuild().sound
    assert compare(house) == []
    with house.holding.index.write() as connection:
        packs.set_state(connection, evicted, PackState.SEALED)

    assert compare(house) == [("CT_A", Difference.HEADER, 1)]


def test_an_identical_one_again_is_no_conflict(house):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(1), 1)
    assert look(house) == []
    assert facts(house) == []


def test_what_was_compared_is_not_compared_again_and_what_waits_is(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.store(houses.data_set(1, pixels=b"\1\2"), 1)
    house.seal()

    assert compare(house) == [("CT_A", Difference.PIXELS, 1)]
    assert compare(house.again()) == []
    assert len(facts(house)) == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuilt_index_compares_nothing_again_and_what_still_waits_if_that_is_known(house, lost):
    for values in ({}, {"pixels": b"\1\2"}, {"name": "MERGED^NAME"}):
        house.store(houses.data_set(1, **values), 1)
        house.seal()
        if values != {"name": "MERGED^NAME"}:
            compare(house)
    if lost:
        for path in house.files("index/**/*.sqlite*"):
            path.unlink()
        house = house.again()
    house.holding.rebuilder().rebuild()
    assert compare(house.again()) == ([] if lost else [("CT_A", Difference.HEADER, 1)])


def test_a_clock_that_is_set_back_hides_no_conflict(house):
    house.store(houses.data_set(1), 1)
    assert look(house) == []
    house.clock.advance(-3600)
    house.store(houses.data_set(1, pixels=b"\1\2"), 1)
    assert look(house) == [("CT_A", Difference.PIXELS, 1)]


@pytest.mark.parametrize("syntax", [JPEG, IMPLICIT])
def test_another_syntax_hides_no_changed_pixels(house, syntax):
    store_as(house, houses.data_set(1), EXPLICIT)
    store_as(house, houses.data_set(1), syntax)
    assert look(house) == [("CT_A", Difference.SYNTAX, 1)]
    store_as(house, houses.data_set(1, pixels=b"\1\2"), syntax)
    assert look(house) == [("CT_A", Difference.PIXELS, 1)]


def test_the_sound_one_of_several_copies_is_compared(house):
    store_as(house, houses.data_set(1), EXPLICIT)
    house.seal()
    damage(house, house.versions(1)[0])
    with pytest.raises(Damaged):
        house.recall(house.versions(1)[0])
    store_as(house, houses.data_set(1), EXPLICIT)
    assert look(house) == []
    store_as(house, houses.data_set(1, name="MERGED^NAME"), EXPLICIT)
    assert look(house) == [("CT_A", Difference.HEADER, 1)]


def test_a_pack_that_cannot_be_read_holds_up_no_other_and_is_tried_again(house, monkeypatch):
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    look(house)
    for number in (1, 2):
        house.store(houses.data_set(number, name="MERGED^NAME"), number)
        house.seal()
    conflicts = house.holding.conflicts
    real = conflicts._recall

    def bad_sector(held):
        if held.sop_instance_uid == houses.uid(1):
            raise StorageFailed("planted")
        return real(held)

    with monkeypatch.context() as patch:
        patch.setattr(conflicts, "_recall", bad_sector)
        assert compare(house) == [("CT_A", Difference.HEADER, 1)]
    assert len(conflicts.failures) == 1
    assert compare(house) == []
    house.clock.advance(60)
    assert compare(house) == [("CT_A", Difference.HEADER, 1)]
    assert conflicts.failures == {}


def test_of_many_versions_in_one_pack_each_is_paired_once(house):
    for number in range(40):
        house.store(houses.data_set(1, name=f"NAME{number}"), 1)
    assert look(house) == [("CT_A", Difference.HEADER, 39)]


def test_an_event_that_was_recorded_twice_counts_once_in_the_digest(house, monkeypatch):
    house.store(houses.data_set(1), 1)
    look(house)
    house.store(houses.data_set(1, name="MERGED^NAME"), 1)
    house.seal()

    def full(*_args, **_options):
        raise OutOfResources("planted")

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "record_facts", full)
        compare(house)
    house.clock.advance(60)
    compare(house)
    house.holding.events.retire()
    house.finish()
    assert len(facts(house)) == 2
    digest = house.holding.conflicts.digest(0, house.clock.now_ms() + DAY_MS)
    assert dict(digest["CT_A"]) == {Difference.HEADER: 1}


def test_a_digest_counts_instances_by_source_and_difference(house):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(2), 2)
    look(house)
    for number in (1, 2):
        house.store(houses.data_set(number, name="MERGED^NAME"), number, calling="PACS_A")
    look(house)

    now_ms = house.clock.now_ms()
    digest = house.holding.conflicts.digest(now_ms - DAY_MS, now_ms + 1)
    assert {source: dict(counts) for source, counts in digest.items()} == {
        "PACS_A": {Difference.HEADER: 2}
    }
    assert house.holding.conflicts.digest(now_ms + 1, now_ms + DAY_MS) == {}


@pytest.mark.parametrize("step", [1, 7, 8, 11, 12, 13, 100, 1 << 20])
def test_the_pixels_hash_does_not_depend_on_the_cut(step):
    def chunks(data):
        return [memoryview(data)[at : at + step] for at in range(0, len(data), step)]

    data, renamed = houses.data_set(1), houses.data_set(1, name="SHORT")
    whole = pixels_sha256([memoryview(data)], EXPLICIT)
    assert whole is not None
    assert pixels_sha256(chunks(data), EXPLICIT) == whole
    assert pixels_sha256(chunks(renamed), EXPLICIT) == whole
    other = houses.data_set(1, pixels=b"\x55\xaa" * 499 + b"\x55\xab")
    assert pixels_sha256(chunks(other), EXPLICIT) != whole
