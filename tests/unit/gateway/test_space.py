"""Between its two marks a gateway lets go of what was used least, and of nothing unsafe."""

import pytest

import house as houses
from harmoni.dicom.identifier import QueryLevel, compose_query
from harmoni.gateway.space import Space
from harmoni.index import packs
from harmoni.runtime import log

STUDIES = [f"{houses.STUDY}{digit}" for digit in (1, 2, 3)]


@pytest.fixture
def full(gateway, archive, monkeypatch):
    """Three studies that are safe at the centre, a fourth that is not; each fills a tenth."""
    for number, study in enumerate(STUDIES, 1):
        data = houses.data_set(number, study=study, series=f"{study}.2")
        gateway.store(number, data=data)
        gateway.clock.advance(60)
    gateway.deliver(archive)
    gateway.store(4)
    gateway.seal()
    monkeypatch.setattr(
        type(gateway.house.files), "used_fraction", lambda *_: 0.45 + 0.1 * len(held(gateway))
    )
    return gateway


def held(gateway):
    return gateway.holding.let_go.studies()


def space(gateway):
    return Space(gateway.house, log.get())


def marks(gateway, **changes):
    section = gateway.house.config.space.model_copy(update=changes)
    gateway.house.config = gateway.house.config.model_copy(update={"space": section})


def test_nothing_goes_below_the_upper_mark(full):
    marks(full, evict_above=0.95)
    space(full).keep()

    assert len(held(full)) == 4


def test_the_longest_unused_goes_first_and_only_down_to_the_lower_mark(full):
    with full.holding.index.write() as connection:
        packs.touch(connection, [STUDIES[0]], full.clock.now_ms())

    space(full).keep()

    left = held(full)
    assert STUDIES[1] not in left
    assert STUDIES[0] in left
    assert houses.STUDY in left


def test_what_is_not_safe_stays_however_full_it_is(full, monkeypatch):
    monkeypatch.setattr(type(full.house.files), "used_fraction", lambda *_: 0.99)

    space(full).keep()

    assert held(full) == [houses.STUDY]


def test_it_lets_go_below_twice_the_reserve_however_little_is_used(full, monkeypatch):
    free = [0]
    monkeypatch.setattr(type(full.house.files), "used_fraction", lambda *_: 0.01)
    monkeypatch.setattr(type(full.house.files), "free_bytes", lambda *_: free[0])
    free[0] = 2 * full.holding.room.reserve_bytes
    keeping = space(full)
    keeping.keep()
    assert len(held(full)) == 4

    free[0] -= 1
    full.clock.advance(30)
    keeping.keep()

    assert held(full) == [houses.STUDY]


def test_a_retrieval_counts_as_use(full):
    query = compose_query("STUDY", QueryLevel.STUDY, {0x0020_000D: STUDIES[0]})
    full.retrieving(full.asker()).plan(query)

    assert held(full)[0] == STUDIES[1]


def test_it_looks_every_half_minute(full, monkeypatch):
    looks = []
    monkeypatch.setattr(type(full.house.files), "used_fraction", lambda *_: looks.append(1) or 0.1)
    keeping = space(full)
    for _ in range(3):
        keeping.keep()
    assert len(looks) == 1
    full.clock.advance(30)
    keeping.keep()
    assert len(looks) == 2
