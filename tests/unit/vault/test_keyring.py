import os

import pytest

import house as houses
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.holding import Holding
from harmoni.model.errors import AlreadyHeld, ConfigurationError, NotHeld, StorageFailed
from harmoni.sealing import age
from harmoni.vault import custody


def recipient():
    return age.generate_identity(random=os.urandom(32)).recipient()


@pytest.fixture
def house(tmp_path):
    return houses.make_house(tmp_path)


def test_a_key_block_that_somebody_removed_is_put_back_before_its_next_key_is_used(house):
    key_id, key = house.holding.keyring.mint()
    [path] = house.files("keys/hospital-a/dc1-n1-w0/*")
    content = path.read_bytes()
    path.unlink()
    house.holding.keyring.mint()

    assert path.read_bytes() == content
    assert house.again().holding.keyring.data_key(str(key_id)) == key


def test_a_lost_key_block_is_told_with_what_to_do(house):
    key_id, _ = house.holding.keyring.mint()
    for path in house.files("keys/hospital-a/dc1-n1-w0/*"):
        path.unlink()

    with pytest.raises(NotHeld, match="restore"):
        house.again().holding.keyring.data_key(str(key_id))


def test_a_new_month_has_a_new_epoch_and_old_keys_still_open(house):
    key_id, key = house.holding.keyring.mint()
    house.clock.advance(40 * 86_400)
    house.holding.keyring.mint()

    assert len(house.files("keys/hospital-a/epochs/*.age")) == 2
    assert house.again().holding.keyring.data_key(str(key_id)) == key


def test_the_257th_key_comes_from_another_block(house):
    ids = [house.holding.keyring.mint()[0] for _ in range(257)]

    assert len({each.block for each in ids}) == 2
    assert len({str(each) for each in ids}) == 257


def test_a_hospital_is_not_made_twice(house):
    with pytest.raises(AlreadyHeld):
        Holding.create(house.site, houses.HOSPITAL, recipient())


def test_making_a_hospital_that_was_cut_short_is_completed_by_the_same_call(tmp_path, monkeypatch):
    real = Filesystem.replace

    def die(self, name, data):
        if name.endswith("/current"):
            raise StorageFailed("planted")
        real(self, name, data)

    monkeypatch.setattr(Filesystem, "replace", die)
    with pytest.raises(StorageFailed):
        houses.make_house(tmp_path)
    monkeypatch.undo()
    [path] = tmp_path.glob("custody/*.identity")
    path.unlink()  # the second call below has another custody key

    house = houses.make_house(tmp_path)
    house.store(houses.data_set())
    assert house.recall(house.versions()[0]) == houses.data_set()


def test_another_custody_key_opens_nothing(house):
    site = houses.make_site(house.root, house.clock, os.urandom(32), "dc1-n1-w1")
    with pytest.raises(ConfigurationError):
        Holding(site, houses.HOSPITAL)


def test_a_custody_key_is_created_once_and_read_back(tmp_path):
    custody.create(tmp_path / "key")
    key = custody.load(tmp_path / "key")

    assert len(key) == custody.KEY_BYTES
    with pytest.raises(AlreadyHeld):
        custody.create(tmp_path / "key")
    assert custody.load(tmp_path / "key") == key
    assert custody.audit_key(key) != key


@pytest.mark.parametrize("fault", ["missing", "short", "readable"])
def test_a_custody_key_that_cannot_be_right_is_refused_in_a_sentence(tmp_path, fault):
    path = tmp_path / "key"
    if fault != "missing":
        path.write_bytes(bytes(31 if fault == "short" else 32))
        path.chmod(0o644 if fault == "readable" else 0o600)

    with pytest.raises(ConfigurationError, match="key"):
        custody.load(path)
