"""What two versions of an instance differ in is found out once both are sealed, and recorded."""

import json

import pytest

import house as houses
from harmoni.dicom import uids
from harmoni.holdings.conflict import Difference, pixels_sha256
from harmoni.holdings.record import Announced
from harmoni.model.instance import Origin

EXPLICIT = uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN)
JPEG = uids.storage_transfer_syntax("1.2.840.10008.1.2.4.50")
DAY_MS = 86_400_000


def look(house):
    """Seal everything, and look at each pack as the keeper does."""
    return [
        (conflict.source, conflict.difference, len(conflict.pairs))
        for finished in house.seal()
        for conflict in house.holding.conflicts.look(finished.pack_id)
    ]


def facts(house):
    with house.holding.index.reader() as connection:
        rows = connection.execute("SELECT body FROM fact WHERE kind = 'conflict'").fetchall()
    return [json.loads(body) for (body,) in rows]


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
    [pack] = house.files("packs/**/*.tar")
    store_as(house, houses.data_set(1, name="OTHER"), EXPLICIT)
    held = house.versions(1)[0]
    with pack.open("r+b") as file:
        file.seek(held.location.offset + 300)
        file.write(b"\0" * 40)
    assert look(house) == [("CT_A", Difference.PIXELS, 1)]
    assert house.versions(1)[0].damaged


def test_an_identical_one_again_is_no_conflict(house):
    house.store(houses.data_set(1), 1)
    house.store(houses.data_set(1), 1)
    assert look(house) == []
    assert facts(house) == []


def test_looking_again_records_nothing_twice_and_what_was_missed_once(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.store(houses.data_set(1, pixels=b"\1\2"), 1)
    house.seal()

    first = list(house.holding.conflicts.look_again())
    assert [conflict.difference for conflict in first] == [Difference.PIXELS]
    assert list(house.holding.conflicts.look_again()) == []
    assert len(facts(house)) == 1


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
