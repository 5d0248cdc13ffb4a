"""A day of one hospital, act by act: what it was told, and whether that was true."""

import pytest

import house as houses
from harmoni.index.packs import PackState
from harmoni.model.errors import HarmoniError, OutOfResources, StorageFailed

SMALL_BYTES = 20_000
"""What the product's limit is lowered to: an instance above it goes to disk as it comes."""
SIZES = (100, 40_000, 3_000, 60_000)


def data_of(number):
    return houses.data_set(number, pixels=bytes([number]) * (SIZES[number % len(SIZES)] // 2 * 2))


class Story:
    """What a hospital does in a day, and what it was told."""

    def __init__(self, house):
        self.house = house
        self.told = set()
        self.events = 0
        self.refused = []

    def try_to(self, act, *args):
        try:
            act(*args)
        except (OutOfResources, StorageFailed) as error:
            self.refused.append(error)
        except HarmoniError as error:  # a peer would get the wrong status
            pytest.fail(f"{type(error).__name__}: {error}")

    def store(self, number):
        self.house.store(data_of(number), number)
        self.told.add(number)

    def tell(self):
        self.house.holding.events.record("conflict", {"source": "CT_A"}, subject=houses.STUDY)
        self.events += 1

    def seal(self):
        self.house.holding.recorder.packs.retire_all()
        self.house.holding.events.retire()
        _, failures = self.house.holding.sealer.finish_free()
        assert all(isinstance(why, str) for why in failures.values())

    def day(self):
        for number in (1, 2):
            self.try_to(self.store, number)
        self.try_to(self.tell)
        self.try_to(self.seal)
        self.try_to(self.store, 3)
        self.try_to(self.seal)
        self.try_to(self.rebuild)

    def rebuild(self):
        self.house.holding.rebuilder().rebuild()

    def evening(self):
        """The fault is gone: the same process takes what was refused, and everything is sealed."""
        for number in {1, 2, 3, 4} - self.told:
            self.store(number)
        # A fenced pack is encrypted anew in one round of the keeper and sealed in the next.
        for _ in range(2):
            self.seal()
        self.check(self.house)

    def morning(self):
        """Another process finds everything, has nothing to do, and rebuilds the index."""
        house = self.house.again("dc1-n1-w9")
        assert house.holding.sealer.finish_free() == ([], {})
        self.check(house)
        assert house.holding.rebuilder().rebuild().sound
        self.check(house)

    def check(self, house):
        """Everything that was acknowledged is there, once, as it was sent, and sealed."""
        for number in self.told:
            held = [each for each in house.versions(number) if each.sound]
            assert held, number
            assert {each.pack_state for each in held} == {PackState.SEALED}
            assert house.recall(held[0]) == data_of(number)
        with house.holding.index.reader() as connection:
            [(facts,)] = connection.execute("SELECT count(*) FROM fact").fetchall()
        assert facts >= self.events
