import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import ConfigurationError, Damaged, InvalidInput, NotHeld
from harmoni.model.identifiers import HospitalId, SiteId
from harmoni.sealing import age, keys
from harmoni.sealing.keys import EpochKey, KeyBlock, KeyId
from unit.sealing import samples

BLOCK_ID = samples.PACK_ID.value
IDENTITY = age.generate_identity(random=samples.randomness("identity", 32))
EPOCH = EpochKey(
    hospital=samples.HOSPITAL,
    site=samples.SITE,
    month="2026-11",
    key=samples.randomness("epoch", 32),
)
RANDOM = samples.randomness("block", keys.BLOCK_RANDOM_BYTES)
BLOCK = KeyBlock.mint(block_id=BLOCK_ID, epoch=EPOCH, random=RANDOM)


def test_a_key_id_is_block_and_row():
    assert str(KeyId(BLOCK_ID, 17)) == f"{BLOCK_ID}.17"
    assert KeyId.parse(f"{BLOCK_ID}.17") == KeyId(BLOCK_ID, 17)


@pytest.mark.parametrize("row", ["", "256", "-1", "017", "1.1", "x", "\u0661"])
def test_what_is_no_key_id_is_invalid(row):
    with pytest.raises(InvalidInput):
        KeyId.parse(f"{BLOCK_ID}.{row}")


@given(st.text(max_size=40))
def test_arbitrary_text_is_no_key_id(text):
    with pytest.raises(InvalidInput):
        KeyId.parse(text)


def test_an_epoch_key_is_read_back_from_its_age_file():
    sealed = EPOCH.seal([IDENTITY.recipient()], random=samples.randomness("age", 32))
    assert EpochKey.open(sealed, IDENTITY) == EPOCH


def test_an_age_file_that_holds_something_else_is_damaged():
    sealed = age.encrypt(b"{}", [IDENTITY.recipient()], random=samples.randomness("age", 32))
    with pytest.raises(Damaged):
        EpochKey.open(sealed, IDENTITY)


@pytest.mark.parametrize("change", [{"month": "2026-13"}, {"month": "26-1"}, {"key": bytes(31)}])
def test_an_epoch_key_has_a_month_and_32_bytes(change):
    with pytest.raises(InvalidInput):
        replace(EPOCH, **change)


def test_secrets_are_not_shown():
    assert repr(EPOCH.key) not in repr(EPOCH)


def test_a_block_holds_256_different_keys():
    opened = [BLOCK.open_row(row, EPOCH) for row in range(keys.ROWS)]
    assert {len(key) for key in opened} == {32}
    assert len(set(opened)) == keys.ROWS


def test_a_block_is_read_back():
    assert KeyBlock.decode(BLOCK.encode()) == BLOCK


def test_an_erased_row_is_gone_and_the_others_stay():
    smaller = KeyBlock.decode(BLOCK.without(frozenset({3, 255})).encode())
    assert smaller.generation == 1
    assert len(smaller.rows) == 254
    assert smaller.open_row(4, EPOCH) == BLOCK.open_row(4, EPOCH)
    for row in (3, 255):
        with pytest.raises(NotHeld):
            smaller.open_row(row, EPOCH)


def test_rotation_keeps_the_keys():
    december = replace(EPOCH, month="2026-12", key=samples.randomness("december", 32))
    smaller = BLOCK.without(frozenset({7}))
    rotated = smaller.rewrapped(EPOCH, december, random=samples.randomness("nonces", 255 * 12))
    assert (rotated.month, rotated.generation) == ("2026-12", 2)
    assert all(
        rotated.open_row(row, december) == BLOCK.open_row(row, EPOCH) for row in smaller.rows
    )
    with pytest.raises(ConfigurationError):
        rotated.open_row(1, EPOCH)


@pytest.mark.parametrize(
    "change",
    [{"hospital": HospitalId("h-other")}, {"site": SiteId("dc2")}, {"month": "2026-10"}],
)
def test_an_epoch_key_of_another_name_is_refused(change):
    with pytest.raises(ConfigurationError):
        BLOCK.open_row(0, replace(EPOCH, **change))


def test_another_key_under_the_right_name_is_found():
    with pytest.raises(Damaged):
        BLOCK.open_row(0, replace(EPOCH, key=bytes(32)))


@pytest.mark.parametrize("place", range(60))
def test_every_flipped_byte_of_a_row_is_found(place):
    row = bytearray(BLOCK.rows[9])
    row[place] ^= 1
    with pytest.raises(Damaged):
        replace(BLOCK, rows={9: bytes(row)}).open_row(9, EPOCH)


def test_a_row_does_not_open_elsewhere():
    """Neither in another row, nor in another block, nor for another hospital."""
    other = HospitalId("h-other")
    for moved in (
        replace(BLOCK, rows={8: BLOCK.rows[9]}),
        replace(BLOCK, block_id="0" * 26),
    ):
        with pytest.raises(Damaged):
            moved.open_row(8, EPOCH)
    with pytest.raises(Damaged):
        replace(BLOCK, hospital=other).open_row(8, replace(EPOCH, hospital=other))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.pop("rows"),
        lambda f: f["rows"].update({"256": f["rows"]["0"]}),
        lambda f: f["rows"].update({"00": f["rows"]["0"]}),
        lambda f: f["rows"].update({"x": f["rows"]["0"]}),
        lambda f: f["rows"].update({"0": "AAAA"}),
        lambda f: f["rows"].update({"0": None}),
        lambda f: f.update(block="x"),
        lambda f: f.update(suite="rot13"),
        lambda f: f.update(generation=-1),
        lambda f: f.update(month="2026"),
    ],
)
def test_a_malformed_block_is_damaged(change):
    fields = json.loads(BLOCK.encode())
    change(fields)
    with pytest.raises(Damaged):
        KeyBlock.decode(json.dumps(fields).encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        KeyBlock.decode(data)


def test_a_wrapped_identity_opens_under_its_key_only():
    kek = samples.randomness("kek", 32)
    wrapped = keys.wrap_identity(kek, IDENTITY)
    assert keys.unwrap_identity(kek, wrapped) == IDENTITY
    for key, data in ((bytes(32), wrapped), (kek, wrapped[:-8]), (kek, b""), (kek, b"x" * 23)):
        with pytest.raises(ConfigurationError):
            keys.unwrap_identity(key, data)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_wrapped_identity(data):
    with pytest.raises(ConfigurationError):
        keys.unwrap_identity(bytes(32), data)


def test_too_little_randomness_is_a_programming_error():
    with pytest.raises(ValueError, match="random bytes"):
        KeyBlock.mint(block_id=BLOCK_ID, epoch=EPOCH, random=bytes(99))
    with pytest.raises(ValueError, match="random bytes"):
        BLOCK.rewrapped(EPOCH, EPOCH, random=bytes(99))
