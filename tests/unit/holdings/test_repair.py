"""A damaged or missing pack is replaced by a copy that is what was sealed, and by no other."""

import os
import shutil
from pathlib import Path

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.repair import copy_below
from harmoni.index.packs import PackState
from harmoni.model.errors import Busy, Damaged, StorageFailed


@pytest.fixture
def copied(house, tmp_path):
    """A house with two packs, and a copy of its packs."""
    for number in (1, 2):
        house.store(houses.data_set(number, study=f"{houses.STUDY}{number}"), number)
    house.seal()
    copy = tmp_path / "copy"
    shutil.copytree(house.root / "packs", copy / "packs")
    return house, copy


def pack_of(house, number):
    [path] = house.files(f"packs/*/p/*/{house.versions(number)[0].location.pack_id}.tar")
    path.chmod(0o600)
    return path


def repair(house, copy):
    source = copy_below(Filesystem(copy), house.holding.layout)
    return list(house.holding.repairer.run(source, "the copy"))


def damage(path, at=-3000):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_damaged_pack_is_replaced_by_the_copy_and_counts_again(copied):
    house, copy = copied
    path = pack_of(house, 1)
    whole = path.read_bytes()
    damage(path, house.versions(1)[0].location.offset + 50)
    house.holding.scrubber.verify(house.versions(1)[0].location.pack_id)
    assert not house.versions(1)[0].sound

    [done] = repair(house, copy)

    assert done.repaired
    assert "another SHA-256" in done.why
    assert path.read_bytes() == whole
    assert path.stat().st_mode & 0o777 == 0o400
    assert house.versions(1)[0].sound
    assert house.recall(house.versions(1)[0]) == houses.data_set(1, study=f"{houses.STUDY}1")


def test_a_missing_pack_comes_back_and_the_repair_is_an_event_that_a_rebuild_finds(copied):
    house, copy = copied
    pack_of(house, 2).unlink()
    house.holding.presence.check()

    [done] = repair(house, copy)
    house.holding.events.retire()
    house.seal()

    assert done.repaired
    assert house.holding.rebuilder().rebuild().equal
    with house.holding.index.reader() as connection:
        told = connection.execute("SELECT kind, body FROM fact").fetchall()
    assert [kind for kind, _ in told] == ["repair"]
    assert '"was": "missing"' in told[0][1]


def test_a_pack_is_never_replaced_without_an_event_though_the_repair_was_cut_short(
    copied, monkeypatch
):
    house, copy = copied
    pack_of(house, 2).unlink()
    house.holding.presence.check()
    real = Filesystem.rename

    def rename_and_fail(self, old, new):
        real(self, old, new)
        raise StorageFailed("planted")

    monkeypatch.setattr(Filesystem, "rename", rename_and_fail)
    with pytest.raises(StorageFailed):
        repair(house, copy)
    monkeypatch.undo()
    [done] = repair(house, copy)

    assert done.repaired
    with house.holding.index.reader() as connection:
        assert connection.execute("SELECT kind FROM fact").fetchall() == [("repair",)]


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("rescan", [False, True])
def test_a_pack_whose_end_is_gone_can_be_repaired_after_a_rebuild(copied, logged, rescan):
    house, copy = copied
    path = pack_of(house, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000])
    if not logged:
        house.holding.scrubber.verify(house.versions(1)[0].location.pack_id)
        for log in filter(Path.is_file, house.files("log/**/*")):
            log.unlink()
    assert not house.holding.rebuilder(rescan=rescan).rebuild().sound

    [done] = repair(house, copy)

    assert done.repaired
    assert path.read_bytes() == whole
    assert house.versions(1)[0].sound


def test_a_pack_that_a_rescan_could_not_read_can_be_repaired(copied):
    house, copy = copied
    path = pack_of(house, 1)
    whole = path.read_bytes()
    damage(path, house.versions(1)[0].location.offset + 50)
    assert not house.holding.rebuilder(rescan=True).rebuild().sound

    [done] = repair(house, copy)

    assert done.repaired
    assert path.read_bytes() == whole
    assert house.versions(1)[0].sound


def test_a_copy_that_is_damaged_itself_replaces_nothing(copied):
    house, copy = copied
    path = pack_of(house, 1)
    damage(path)
    house.holding.scrubber.verify(house.versions(1)[0].location.pack_id)
    before = path.read_bytes()
    [other] = copy.glob(f"packs/*/p/*/{path.name}")
    other.chmod(0o600)
    damage(other, 700)

    [done] = repair(house, copy)

    assert not done.repaired
    assert "the copy" in done.why
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.repair"))


def test_a_pack_that_the_copy_does_not_have_is_named(copied):
    house, copy = copied
    pack_of(house, 1).unlink()
    house.holding.presence.check()
    shutil.rmtree(copy / "packs")

    [done] = repair(house, copy)

    assert not done.repaired
    assert "does not exist" in done.why


def test_a_lost_pack_that_only_the_log_knows_comes_back_with_its_rows(copied):
    """Index and pack are lost at once: after a rebuild the log alone names the pack."""
    house, copy = copied
    pack_of(house, 1).unlink()
    shutil.rmtree(house.root / "index" / "hospital-a")
    (house.root / "index" / "hospital-a").mkdir()
    anew = house.again()
    anew.holding.rebuilder().rebuild()
    assert anew.versions(1) == []

    [done] = repair(anew, copy)

    assert done.repaired
    assert anew.versions(1)[0].pack_state is PackState.SEALED
    assert anew.recall(anew.versions(1)[0]) == houses.data_set(1, study=f"{houses.STUDY}1")


def test_there_is_one_repair_at_a_time(copied):
    house, copy = copied
    with (
        house.site.files.lock_file(house.holding.layout.repair_lock),
        pytest.raises(Busy),
    ):
        repair(house, copy)


def test_what_an_interrupted_repair_left_goes_also_where_the_pack_is_whole_again(copied):
    house, copy = copied
    path = pack_of(house, 1)
    whole = path.read_bytes()
    damage(path)
    house.holding.scrubber.verify(house.versions(1)[0].location.pack_id)
    left = path.with_suffix(".repair")
    left.write_bytes(b"half")
    path.write_bytes(whole)

    [done] = repair(house, copy)

    assert done.repaired
    assert not left.exists()


def test_what_an_interrupted_repair_left_is_in_nobodys_way(copied):
    house, copy = copied
    path = pack_of(house, 1)
    damage(path)
    house.holding.scrubber.verify(house.versions(1)[0].location.pack_id)
    path.with_suffix(".repair").write_bytes(b"half")

    [done] = repair(house, copy)

    assert done.repaired
    assert not list(path.parent.glob("*.repair"))


def test_who_had_the_damaged_file_open_reads_the_repaired_one(copied):
    house, copy = copied
    held = house.versions(1)[0]
    path = pack_of(house, 1)
    damage(path, held.location.offset + 50)
    with pytest.raises(Damaged):
        house.recall(held)
    house.holding.scrubber.verify(held.location.pack_id)

    repair(house, copy)

    assert house.recall(held) == houses.data_set(1, study=f"{houses.STUDY}1")


@pytest.mark.parametrize("hostile", ["loop", "pipe", "folder", "link out"])
def test_what_is_no_file_in_the_copy_costs_the_other_packs_nothing(copied, tmp_path, hostile):
    house, copy = copied
    paths = sorted((pack_of(house, 1), pack_of(house, 2)), key=lambda path: path.name)
    for path in paths:
        path.unlink()
    house.holding.presence.check()
    place = copy / paths[0].relative_to(house.root)
    place.unlink()
    match hostile:
        case "loop":
            place.symlink_to(place.name)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case _:
            place.symlink_to("/proc/self/mem")

    done = repair(house, copy)

    assert [each.repaired for each in done] == [False, True]
