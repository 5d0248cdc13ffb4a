import os
from pathlib import Path

import house as houses
from harmoni.holdings import rebuild
from harmoni.holdings.rebuild import Rebuilder
from harmoni.index import equality
from harmoni.index.database import Database


def digest(house):
    with house.holding.index.reader() as connection:
        return equality.digest(connection)


def fill(house):
    for number in (1, 2, 3):
        house.store(houses.data_set(number), number)
    house.store(houses.data_set(1, pixels=b"another version"), 1, calling="CT_B")
    house.seal()
    house.store(houses.data_set(4, series="1.2.3", name="ΠΑΠΑΔΟΠΟΥΛΟΣ"), 4)
    house.store(
        houses.data_set(5, study=None, sop_class=houses.PALETTE), 5, sop_class=houses.PALETTE
    )
    house.holding.events.record("hold", {"study": houses.STUDY}, subject=houses.STUDY)


def test_a_rebuild_from_packs_and_keys_gives_an_equal_index(house):
    fill(house)
    before = digest(house)
    seen = []
    report = house.holding.rebuilder().rebuild(lambda done, total: seen.append((done, total)))

    assert report.equal is True
    assert report.unreadable == ()
    assert before == digest(house)
    assert seen[-1] == (1, 1)
    assert house.recall(house.versions(4)[0]) == houses.data_set(
        4, series="1.2.3", name="ΠΑΠΑΔΟΠΟΥΛΟΣ"
    )


def test_a_rebuild_without_the_log_is_equal_too(house):
    fill(house)
    house.seal()
    before = digest(house)
    for path in house.files("log/hospital-a/dc1/*.json"):
        path.unlink()

    assert house.holding.rebuilder().rebuild().equal is True
    assert before == digest(house)


def test_a_lost_index_is_rebuilt_from_the_store(house):
    fill(house)
    house.seal()
    house.holding.events.retire()
    house.finish()
    before = digest(house)
    for path in house.files("index/hospital-a/*.sqlite*"):
        path.unlink()
    fresh = house.again("dc1-n1-cli")

    assert fresh.holding.rebuilder().rebuild().equal is None
    assert before == digest(fresh)


def test_workers_go_on_recording_into_the_rebuilt_index(house):
    house.store(houses.data_set(1), 1)
    operator = house.again("dc1-n1-cli")
    operator.holding.rebuilder().rebuild()
    house.store(houses.data_set(2), 2)

    assert operator.recall(operator.versions(2)[0]) == houses.data_set(2)
    assert house.recall(house.versions(1)[0]) == houses.data_set(1)


def test_a_pack_that_cannot_be_read_is_named_and_the_rest_is_rebuilt(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    [broken] = house.files("packs/hospital-a/p/*/*.tar")
    house.store(houses.data_set(2, study="1.2.3"), 2)
    house.seal()
    broken.chmod(0o600)
    broken.write_bytes(os.urandom(5000))
    report = house.holding.rebuilder().rebuild()

    assert [broken.name in text for text in report.unreadable] == [True]
    assert report.equal is False
    assert house.versions(1) == []
    assert house.recall(house.versions(2)[0]) == houses.data_set(2, study="1.2.3")


def test_a_pack_that_is_sealed_between_the_two_looks_is_not_missed(house, monkeypatch):
    house.store(houses.data_set())
    house.seal()
    [sealed] = house.files("packs/hospital-a/p/*/*.tar")
    waiting = house.root / "packs/hospital-a/open" / sealed.name
    sealed.rename(waiting)
    real, looks = Rebuilder._read_sealed, []

    def read_sealed(self, fresh, progress):
        real(self, fresh, progress)
        looks.append(fresh)
        if len(looks) == 2:
            waiting.rename(sealed)

    monkeypatch.setattr(Rebuilder, "_read_sealed", read_sealed)

    assert house.holding.rebuilder().rebuild().equal is True
    assert house.recall(house.versions()[0]) == houses.data_set()


def test_what_a_living_writer_has_not_flushed_gets_no_row_before_it_is(house, monkeypatch):
    house.store(houses.data_set())
    [path] = house.files("packs/hospital-a/open/*.tar")
    acts, real = [], os.fdatasync
    monkeypatch.setattr(
        os,
        "fdatasync",
        lambda fd: (acts.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd))[1],
    )
    house.holding.rebuilder().rebuild()

    assert path in acts


def test_the_rows_for_a_lost_index_are_flushed_before_it_is_live(house, monkeypatch):
    fill(house)
    for path in house.files("index/hospital-a/*.sqlite*"):
        path.unlink()
    fresh, acts = house.again("dc1-n1-cli"), []
    for owner, name in ((Database, "flush"), (Rebuilder, "_catch_up"), (rebuild, "make_live")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner,
            name,
            lambda *args, real=real, name=name: (acts.append(name), real(*args))[1],
        )
    fresh.holding.rebuilder().rebuild()

    assert acts[acts.index("_catch_up") :][:3] == ["_catch_up", "flush", "make_live"]
