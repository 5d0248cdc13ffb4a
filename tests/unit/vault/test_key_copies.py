import os
import shutil
import time

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import StorageFailed
from harmoni.sealing import keys
from harmoni.vault.key_copies import KeyCopies

LATER_MS = 60_000


class Rig:
    def __init__(self, root):
        self.places = [root / "second", root / "third"]
        for folder in (root / "site", *self.places):
            folder.mkdir()
        self.house = houses.make_house(root / "site", key_copies=tuple(self.places))
        self.copies = self.house.holding.key_copies

    def mint(self):
        return self.house.holding.keyring.mint()

    def verify(self, grace_s=0.0):
        """As seen after what was written last is no longer on its way."""
        return self.copies.verify(now_ms=int(time.time() * 1000) + LATER_MS, grace_s=grace_s)

    def equal(self, place):
        own = self.house.root / "keys"
        return contents(own) == contents(place / "keys")


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_every_key_is_in_three_places_after_a_round_and_nothing_of_custody_is(rig):
    rig.mint()
    assert rig.copies.mirror() == {}
    assert all(map(rig.equal, rig.places))
    assert rig.verify() == []
    assert {path.name for place in rig.places for path in place.iterdir()} == {"keys"}


def test_what_a_crash_left_half_brought_goes_with_the_next_round(rig):
    rig.mint()
    rig.copies.mirror()
    left = rig.places[0] / "keys/hospital-a/epochs/.a.0123456789abcdef.tmp"
    left.touch()
    holding = rig.house.holding
    opens = holding.keyring.identities.fits
    fresh = KeyCopies(rig.house.site.files, holding.layout, rig.places, opens)

    assert fresh.mirror() == {}
    assert not left.exists()


def test_what_is_minted_later_is_brought_by_the_next_round(rig):
    for _ in range(4):
        assert rig.copies.mirror() == {}
        rig.house.clock.advance(40 * 86_400)
        rig.mint()
        assert len(rig.verify()) == 2
    assert rig.copies.mirror() == {}
    assert all(map(rig.equal, rig.places))


def test_a_round_without_news_reads_and_writes_no_file(rig, monkeypatch):
    rig.mint()
    for _ in range(2):
        rig.copies.mirror()
    touched = []
    for act in ("open", "create", "read", "replace"):
        monkeypatch.setattr(Filesystem, act, lambda *given: touched.append(given))
    assert rig.copies.mirror() == {}
    assert touched == []


@pytest.mark.parametrize("epochs", [False, True])
def test_a_rotation_reaches_the_copies_and_what_it_replaced_goes_there_too(rig, epochs):
    rig.mint()
    real = Filesystem.replace

    def mirror_too(self, name, data):
        real(self, name, data)
        if self is rig.house.site.files:
            rig.copies.mirror()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Filesystem, "replace", mirror_too)
        rig.house.holding.rotation.rotate(lambda *_: None, epochs=epochs)
    assert rig.copies.mirror() == {}
    assert all(map(rig.equal, rig.places))
    assert rig.verify() == []


def test_a_place_that_is_away_is_told_and_not_made_and_catches_up_when_it_is_back(rig):
    rig.copies.mirror()
    away = rig.places[1]
    away.rename(away.with_name("elsewhere"))
    rig.mint()

    [(place, why)] = rig.copies.mirror().items()
    assert str(away) in place
    assert "mount it" in why
    assert rig.equal(rig.places[0])
    assert not away.exists()
    assert "mount it" in rig.verify()[0]

    away.with_name("elsewhere").rename(away)
    assert rig.copies.mirror() == {}
    assert rig.equal(away)


def test_a_place_that_comes_back_empty_gets_everything(rig):
    rig.mint()
    rig.copies.mirror()
    shutil.rmtree(rig.places[0])
    rig.copies.mirror()
    rig.places[0].mkdir()
    assert rig.copies.mirror() == {}
    assert rig.equal(rig.places[0])


def test_a_disk_that_is_full_at_one_place_is_told_and_the_others_are_served(rig, monkeypatch):
    real = Filesystem.replace

    def refuse(self, name, data):
        if self.path("") == rig.places[0]:
            raise StorageFailed("planted")
        real(self, name, data)

    monkeypatch.setattr(Filesystem, "replace", refuse)
    rig.mint()
    assert "planted" in rig.copies.mirror()[f"keys at {rig.places[0]}"]
    assert rig.equal(rig.places[1])
    monkeypatch.undo()
    assert rig.copies.mirror() == {}
    assert rig.equal(rig.places[0])


def test_keys_that_were_restored_from_before_an_erasure_overwrite_no_later_generation(rig):
    key_id, _ = rig.mint()
    rig.copies.mirror()
    name = rig.house.holding.layout.key_block("dc1-n1-w0", key_id.block)
    there = rig.places[0] / name
    later = keys.KeyBlock.decode(there.read_bytes()).without(frozenset({200})).encode()
    there.write_bytes(later)
    own = rig.house.root / name
    os.utime(own)  # the local file came anew
    own.write_bytes(own.read_bytes())
    (own.parent / "x").touch()
    (own.parent / "x").unlink()

    assert "older here than there" in rig.copies.mirror()[f"keys at {rig.places[0]}"]
    assert there.read_bytes() == later


@pytest.mark.parametrize("fault", ["missing", "altered", "lost here"])
def test_every_byte_of_a_copy_is_compared(rig, fault):
    key_id, _ = rig.mint()
    rig.copies.mirror()
    name = rig.house.holding.layout.key_block("dc1-n1-w0", key_id.block)
    path = rig.places[0] / name
    if fault == "missing":
        path.unlink()
    elif fault == "altered":
        path.write_bytes(path.read_bytes().swapcase())
    else:
        (rig.house.root / name).unlink()

    told = rig.verify()
    assert len(told) == (2 if fault == "lost here" else 1)
    assert key_id.block in told[0]
    assert str(rig.places[0]) in told[0]


def test_what_was_minted_a_moment_ago_is_not_called_behind(rig):
    rig.mint()
    assert len(rig.verify()) == 2
    assert rig.verify(grace_s=3600.0) == []


def test_a_copy_opens_what_was_stored_when_the_keys_here_are_lost(rig):
    rig.house.store(houses.data_set())
    rig.house.seal()
    rig.copies.mirror()
    shutil.rmtree(rig.house.root / "keys")
    shutil.copytree(rig.places[1] / "keys", rig.house.root / "keys")

    fresh = rig.house.again()
    assert fresh.recall(fresh.versions()[0]) == houses.data_set()


@pytest.mark.parametrize("at", [100, -1])
def test_a_key_that_went_bad_here_is_not_written_over_a_good_one_there(rig, at):
    rig.mint()
    rig.copies.mirror()
    [epoch] = (rig.house.root / "keys/hospital-a/epochs").iterdir()
    data = bytearray(epoch.read_bytes())
    good = bytes(data)
    data[at] ^= 1
    epoch.write_bytes(data)

    assert ["restore it from there" in why for why in rig.copies.mirror().values()] == [True, True]
    for place in rig.places:
        assert (place / "keys/hospital-a/epochs" / epoch.name).read_bytes() == good
    epoch.write_bytes(good)
    assert rig.copies.mirror() == {}
    assert all(map(rig.equal, rig.places))
