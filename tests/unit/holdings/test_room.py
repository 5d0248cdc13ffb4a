"""Below the reserve nothing new is taken in, and what was begun is ended all the same."""

import pytest

import house as houses
from harmoni.model.errors import OutOfResources

WHOLE_DISK = 1 << 62


def keep_back(house, reserve_bytes):
    """Change the reserve of a running holding, as other writers change what is free."""
    house.holding.room.reserve_bytes = reserve_bytes


def test_below_the_reserve_nothing_is_written_of_a_new_instance(house):
    keep_back(house, WHOLE_DISK)

    with pytest.raises(OutOfResources, match="reserve"):
        house.store(houses.data_set())

    assert house.files("packs/*/open/*") == []
    keep_back(house, 0)
    house.store(houses.data_set())
    assert len(house.versions()) == 1


def test_a_large_one_is_given_up_where_the_reserve_begins(house):
    incoming = house.begin()
    houses.pour(incoming, houses.data_set(pixels=bytes(6 << 20)))
    keep_back(house, WHOLE_DISK)

    with pytest.raises(OutOfResources):
        houses.pour(incoming, bytes(2 << 20))
    incoming.abandon()

    assert house.files("packs/*/open/*.part") == []


def test_what_is_held_already_is_acknowledged_without_room(house):
    house.store(houses.data_set())
    keep_back(house, WHOLE_DISK)

    house.store(houses.data_set())

    assert len(house.versions()) == 1


def test_packs_are_sealed_and_events_recorded_on_the_reserve(house):
    house.store(houses.data_set())
    keep_back(house, WHOLE_DISK)

    assert [each.damaged for each in house.seal()] == [()]
    house.commit_elsewhere(house.versions(), by="dc1")

    assert house.files("packs/*/p/*/*.tar")
