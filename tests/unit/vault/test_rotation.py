"""Keys are rotated beside running processes, and nothing is unreadable for a moment."""

import hashlib
from contextlib import nullcontext

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import Busy, Damaged, NotHeld, StorageFailed
from harmoni.sealing import age, keys
from harmoni.vault import reader

ACTS = ("publish", "replace", "rename", "remove")


class Rig:
    """A hospital with packs of two months, and processes that came at different times."""

    def __init__(self, root):
        self.house = houses.make_house(root)
        for number in (1, 2):
            self.house.store(houses.data_set(number), number)
            self.house.seal()
            self.house.clock.advance(40 * 86_400)
        self.house.again("dc1-n1-w7").holding.keyring.mint()
        self.packs = self.hashes()
        self.ids = [self.key_id(number) for number in (1, 2)]

    def rotate(self, *, epochs=False, house=None):
        rotation = (house or self.house.again("dc1-n1-cli")).holding.rotation
        return rotation.rotate(lambda *_: None, epochs=epochs)

    def hashes(self):
        files = self.house.files("packs/**/*.tar")
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in files}

    def key_id(self, number):
        [held] = self.house.versions(number)
        path = self.house.holding.layout.sealed_pack(held.location.pack_id)
        with self.house.site.files.open(path) as file:
            return reader.read_readme(file).key_id

    def reads(self, house):
        """Whether a process gives everything back; the live one has forgotten what it opened."""
        return all(
            house.recall(house.versions(number)[0]) == houses.data_set(number) for number in (1, 2)
        )

    def identity(self):
        layout, site = self.house.holding.layout, self.house.site
        wrapped = site.files.read(layout.identity(site.site))
        return keys.unwrap_identity(site.custody_key, wrapped)

    def age_files(self):
        folder = "keys/hospital-a"
        return self.house.files(f"{folder}/epochs/*") + self.house.files(f"{folder}/index/*")

    def blocks(self):
        files = self.house.files("keys/hospital-a/dc1-*/*")
        return [keys.KeyBlock.decode(path.read_bytes()) for path in files]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def opens(path, identity):
    try:
        age.decrypt(path.read_bytes(), identity)
    except NotHeld:
        return False
    return True


def test_after_a_rotation_every_key_opens_with_the_new_identity_and_none_with_the_old(rig):
    old, recovery = rig.identity(), rig.house.holding.keyring.identities.recovery
    rotated = rig.rotate()
    new = rig.identity()

    assert new != old
    assert rotated.recipient == new.recipient().to_string()
    assert rotated.files_encrypted == len(rig.age_files()) == 4
    assert all(opens(path, new) and not opens(path, old) for path in rig.age_files())
    assert rig.house.files("custody/*.next") == []
    assert rig.house.holding.keyring.identities.recovery == recovery


@pytest.mark.parametrize("epochs", [False, True])
def test_no_byte_of_a_pack_changes_and_all_is_read_by_those_before_and_after(rig, epochs):
    before = rig.house.again("dc1-n1-w3")
    rig.rotate(epochs=epochs)

    assert rig.hashes() == rig.packs
    for house in (rig.house, before, rig.house.again()):
        assert rig.reads(house)


def test_the_recovery_identity_still_opens_every_key(tmp_path, monkeypatch):
    made = []
    real = age.generate_identity
    monkeypatch.setattr(
        age, "generate_identity", lambda **given: made.append(real(**given)) or made[-1]
    )
    rig = Rig(tmp_path)
    recovery = next(
        each for each in made if each.recipient() == rig.house.holding.keyring.identities.recovery
    )
    rig.rotate(epochs=True)
    assert all(opens(path, recovery) for path in rig.age_files())


def test_new_epoch_keys_wrap_every_block_in_its_next_generation_without_changing_a_data_key(rig):
    keyring = rig.house.holding.keyring
    before = {each.block_id: each for each in rig.blocks()}
    data_keys = {each: keyring.data_key(each) for each in rig.ids}
    epochs = [path.read_bytes() for path in rig.house.files("keys/hospital-a/epochs/*")]
    rotated = rig.rotate(epochs=True)

    after = {each.block_id: each for each in rig.blocks()}
    assert rotated.epochs_replaced == len(epochs) == 3
    assert rotated.blocks_wrapped == len(after) == len(before)
    for block_id, block in after.items():
        assert block.generation == before[block_id].generation + 1
        assert not set(block.rows.values()) & set(before[block_id].rows.values())
    again = rig.house.again().holding.keyring
    assert {each: again.data_key(each) for each in rig.ids} == data_keys
    assert rig.house.files("keys/hospital-a/epochs/*.replaced") == []


@pytest.mark.parametrize("epochs", [False, True])
def test_a_process_that_runs_goes_on_minting_and_taking_in(rig, epochs):
    key_id, key = rig.house.holding.keyring.mint()
    rig.rotate(epochs=epochs)
    for number in range(3, 6):  # the block at hand, and a new month
        rig.house.store(houses.data_set(number), number)
        rig.house.seal()
        rig.house.clock.advance(40 * 86_400)

    fresh = rig.house.again()
    assert fresh.holding.keyring.data_key(str(key_id)) == key
    for number in range(3, 6):
        assert fresh.recall(fresh.versions(number)[0]) == houses.data_set(number)
    current = rig.identity()
    assert all(opens(path, current) for path in rig.age_files())


def test_a_block_that_is_put_back_after_a_rotation_is_wrapped_under_the_epoch_key_of_now(rig):
    key_id, key = rig.house.holding.keyring.mint()
    rig.rotate(epochs=True)
    [path] = rig.house.files(f"keys/hospital-a/dc1-n1-w0/{key_id.block}")
    path.unlink()
    rig.house.holding.keyring.mint()

    assert rig.house.again().holding.keyring.data_key(str(key_id)) == key


def test_what_is_minted_between_two_steps_is_not_left_behind(rig, monkeypatch):
    late = rig.house.again("dc1-n1-w9")
    minted = []
    real = Filesystem.replace

    def mint_too(self, name, data):
        real(self, name, data)
        if "/epochs/" in name and len(minted) < 8:
            late.clock.advance(40 * 86_400)
            minted.append(late.holding.keyring.mint())

    monkeypatch.setattr(Filesystem, "replace", mint_too)
    # Not from within the lock: the writer is another process and would wait for us.
    monkeypatch.setattr("harmoni.vault.identities.Identities.locked", unlocked)
    rig.rotate()
    monkeypatch.undo()

    current = rig.identity()
    assert all(opens(path, current) for path in rig.age_files())
    fresh = rig.house.again().holding.keyring
    assert all(fresh.data_key(str(key_id)) == key for key_id, key in minted)


def test_a_month_that_begins_and_a_block_that_is_brought_while_epochs_rotate_are_no_trouble(
    rig, monkeypatch
):
    late = rig.house.again("dc1-n1-w9")
    away = rig.house.files(f"keys/hospital-a/dc1-n1-w0/{rig.ids[0].partition('.')[0]}")[0]
    aside = away.rename(rig.house.root / "aside")
    minted = []
    real = Filesystem.replace

    def meanwhile(self, name, data):
        real(self, name, data)
        if "/dc1-n1-" in name and not minted:
            aside.rename(away)
            late.clock.advance(40 * 86_400)
            minted.append(late.holding.keyring.mint())

    monkeypatch.setattr(Filesystem, "replace", meanwhile)
    rig.rotate(epochs=True)
    monkeypatch.undo()

    fresh = rig.house.again()
    assert rig.reads(fresh)
    [(key_id, key)] = minted
    assert fresh.holding.keyring.data_key(str(key_id)) == key


def unlocked(_self):
    return nullcontext()


def steps(root, epochs):
    """How many acts change the store in a rotation."""
    rig, count = Rig(root), []
    with pytest.MonkeyPatch.context() as patch:
        for act in ACTS:
            patch.setattr(Filesystem, act, counting(getattr(Filesystem, act), count))
        rig.rotate(epochs=epochs)
    return len(count)


def counting(real, count):
    def act(self, *given):
        count.append(given)
        return real(self, *given)

    return act


@pytest.mark.parametrize("epochs", [False, True])
def test_killed_after_any_step_everything_is_read_and_the_same_command_completes_it(
    tmp_path, epochs
):
    (tmp_path / "count").mkdir()
    total = steps(tmp_path / "count", epochs)
    assert total >= (6 if not epochs else 20)
    for step in range(1, total + 1):
        root = tmp_path / str(step)
        root.mkdir()
        rig = Rig(root)
        running = rig.house.again("dc1-n1-w3")
        with pytest.MonkeyPatch.context() as patch:
            done = []
            for act in ACTS:
                patch.setattr(Filesystem, act, dying(getattr(Filesystem, act), done, step))
            with pytest.raises(StorageFailed, match="planted"):
                rig.rotate(epochs=epochs)
        for house in (running, rig.house.again(), rig.house):
            assert rig.reads(house)
            key_id, key = house.holding.keyring.mint()
            assert rig.house.again().holding.keyring.data_key(str(key_id)) == key

        rig.rotate(epochs=epochs)
        assert rig.reads(rig.house.again())
        assert rig.hashes() == rig.packs
        current = rig.identity()
        assert all(opens(path, current) for path in rig.age_files())
        assert rig.house.files("custody/*.next") == []
        assert rig.house.files("keys/hospital-a/epochs/*.replaced") == []


def dying(real, done, step):
    def act(self, *given):
        result = real(self, *given)
        done.append(given)
        if len(done) == step:
            raise StorageFailed("planted")
        return result

    return act


def test_two_rotations_do_not_run_at_the_same_time(rig):
    layout = rig.house.holding.layout
    with rig.house.site.files.lock_file(layout.rotation_lock), pytest.raises(Busy):
        rig.rotate()


@pytest.mark.parametrize("what", ["epochs", "index", "dc1-n1-w0"])
def test_a_key_that_does_not_open_stops_the_rotation_by_name_and_nothing_is_given_up(rig, what):
    old = rig.identity()
    path = rig.house.files(f"keys/hospital-a/{what}/*")[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + whole[-40:].swapcase())
    with pytest.raises(Damaged, match=path.name):
        rig.rotate(epochs=True)
    if what != "dc1-n1-w0":
        assert rig.identity() == old

    path.write_bytes(whole)
    rig.rotate(epochs=True)
    assert rig.reads(rig.house.again())


def test_an_epoch_of_before_a_rotation_that_comes_back_is_told_with_what_to_do(rig):
    path = rig.house.files("keys/hospital-a/epochs/*")[0]
    before = path.read_bytes()
    rig.rotate()
    path.write_bytes(before)

    with pytest.raises(NotHeld, match="before a rotation"):
        rig.house.again().holding.keyring.data_key(str(rig.ids[0]))
