import os
import shutil

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError, InvalidInput, NotHeld
from harmoni.sealing import age
from harmoni.vault import recovery


def identity():
    return age.generate_identity(random=os.urandom(32))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of a hospital's keys and its recovery identity."""
    made = []
    real = age.generate_identity
    monkeypatch.setattr(
        age, "generate_identity", lambda **given: made.append(real(**given)) or made[-1]
    )
    (tmp_path / "site").mkdir()
    house = houses.make_house(tmp_path / "site")
    monkeypatch.undo()
    house.holding.keyring.mint()
    shutil.copytree(house.root / "keys/hospital-a", tmp_path / "keys")
    own = house.holding.keyring.identities.recovery
    return tmp_path / "keys", next(each for each in made if each.recipient() == own)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_age_file_is_for_the_new_site_and_the_recovery_identity_and_blocks_stay(copy):
    folder, own = copy
    before, new = files(folder), identity()
    done = recovery.readdress(Filesystem(folder), own, new.recipient())

    assert (done.files, done.failures) == (2, ())
    for path, data in files(folder).items():
        if path.suffix == ".age":
            assert (
                age.decrypt(data, new) == age.decrypt(data, own) == age.decrypt(before[path], own)
            )
        else:
            assert data == before[path]


def test_a_site_that_could_read_before_cannot_any_more(copy):
    folder, own = copy
    lost, new = identity(), identity()
    recovery.readdress(Filesystem(folder), own, lost.recipient())
    recovery.readdress(Filesystem(folder), own, new.recipient())
    for path in folder.rglob("*.age"):
        with pytest.raises(NotHeld):
            age.decrypt(path.read_bytes(), lost)


def test_the_identity_of_another_hospital_changes_nothing(copy):
    folder, _ = copy
    before = files(folder)
    with pytest.raises(InvalidInput, match="fingerprints"):
        recovery.readdress(Filesystem(folder), identity(), identity().recipient())
    assert files(folder) == before


def test_a_damaged_file_is_named_and_the_others_are_done(copy):
    folder, own = copy
    [path] = (folder / "epochs").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    new = identity()
    done = recovery.readdress(Filesystem(folder), own, new.recipient())
    assert done.files == 1
    assert len(done.failures) == 1
    assert path.name in done.failures[0]


def test_a_file_that_its_disk_does_not_give_is_named_and_the_others_are_done(copy):
    folder, own = copy
    (folder / "epochs" / "a.age").mkdir()
    done = recovery.readdress(Filesystem(folder), own, identity().recipient())
    assert done.files == 2
    assert "a.age" in done.failures[0]


def test_a_folder_that_holds_no_keys_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"recovery\.recipient"):
        recovery.readdress(Filesystem(tmp_path), identity(), identity().recipient())
