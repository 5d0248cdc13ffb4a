"""Between its two marks a gateway lets go of what was used least, and of nothing unsafe."""

import pytest

import house as houses
from harmoni.dicom.identifier import QueryLevel, compose_query
from harmoni.gateway.space import Space
from harmoni.index import packs
from harmoni.runtime import log

STUDIES = [f"{houses.STUDY}{digit}" for digit in (1, 2, 3)]


class Disk:
    """What the file system tells: how much is used by others, and by the packs that are there."""

    def __init__(self, packs, pack_bytes):
        self._packs = packs
        self.pack_bytes = pack_bytes
        self.whole_bytes = 10 * pack_bytes
        self.others_bytes = 4.5 * pack_bytes

    def used_bytes(self, *_):
        return int(self.others_bytes + self.pack_bytes * len(self._packs()))

    def free_bytes(self, *_):
        return self.whole_bytes - self.used_bytes()


@pytest.fixture
def full(gateway, archive):
    """Three studies that are safe at the centre, a fourth that is not."""
    for number, study in enumerate(STUDIES, 1):
        data = houses.data_set(number, study=study, series=f"{study}.2")
        gateway.store(number, data=data)
        gateway.clock.advance(60)
    gateway.deliver(archive)
    gateway.store(4)
    gateway.seal()
    gateway.holding.room.reserve_bytes = 0
    return gateway


@pytest.fixture
def disk(full, monkeypatch):
    """A disk of which each study fills a tenth, and others somewhat less than half."""
    with full.holding.index.reader() as connection:
        [row] = packs.packs_of_study(connection, STUDIES[0])
    disk = Disk(lambda: held(full), row.sealed.size_bytes)
    for name in ("used_bytes", "free_bytes"):
        monkeypatch.setattr(type(full.house.files), name, getattr(disk, name))
    return disk


def held(gateway):
    return gateway.holding.let_go.studies()


def space(gateway):
    return Space(gateway.house, log.get())


def marks(gateway, **changes):
    section = gateway.house.config.space.model_copy(update=changes)
    gateway.house.config = gateway.house.config.model_copy(update={"space": section})


@pytest.mark.usefixtures("disk")
def test_nothing_goes_below_the_upper_mark(full):
    marks(full, evict_above=0.95)
    space(full).keep()

    assert len(held(full)) == 4


@pytest.mark.usefixtures("disk")
def test_the_longest_unused_goes_first_and_only_down_to_the_lower_mark(full):
    with full.holding.index.write() as connection:
        packs.touch(connection, [STUDIES[0]], full.clock.now_ms())

    space(full).keep()

    left = held(full)
    assert STUDIES[1] not in left
    assert STUDIES[0] in left
    assert houses.STUDY in left


def test_no_more_goes_than_is_wanted_while_a_reader_has_it_open(full, disk):
    before = held(full)
    disk._packs = lambda: before

    space(full).keep()

    assert len(held(full)) == 2


def test_what_is_not_safe_stays_however_full_it_is(full, disk):
    disk.others_bytes = disk.whole_bytes

    space(full).keep()

    assert held(full) == [houses.STUDY]


def test_it_lets_go_below_twice_the_reserve_however_little_is_used(full, disk):
    disk.others_bytes = 0
    full.holding.room.reserve_bytes = 3 * disk.pack_bytes
    keeping = space(full)
    keeping.keep()
    assert len(held(full)) == 4

    disk.others_bytes = 1
    full.clock.advance(30)
    keeping.keep()

    assert len(held(full)) == 3


def test_a_retrieval_counts_as_use(full):
    query = compose_query("STUDY", QueryLevel.STUDY, {0x0020_000D: STUDIES[0]})
    full.retrieving(full.asker()).plan(query)

    assert held(full)[0] == STUDIES[1]


def test_it_looks_every_half_minute(full, disk):
    disk.others_bytes = 0
    keeping = space(full)
    keeping.keep()
    disk.others_bytes = disk.whole_bytes
    full.clock.advance(29)
    keeping.keep()
    assert len(held(full)) == 4
    full.clock.advance(1)
    keeping.keep()
    assert held(full) == [houses.STUDY]
