import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import InvalidInput
from harmoni.sealing import bech32

prefixes = st.text("abcdefghij1-", min_size=1, max_size=10)


@given(prefixes, st.binary(max_size=200))
def test_property_bytes_are_read_back_in_either_case(prefix, data):
    text = bech32.encode(prefix, data)
    assert bech32.decode(text, prefix) == data
    assert bech32.decode(text.upper(), prefix) == data


def test_a_published_vector():
    """BIP 173: the separator and the checksum of an empty data part."""
    assert bech32.encode("a", b"") == "a12uel5l"
    data = bytes(range(0))
    assert bech32.decode("A12UEL5L", "a") == data


@given(st.binary(min_size=1, max_size=40), st.data())
def test_property_a_changed_character_is_found(data, draw):
    text = bech32.encode("age1pq", data)
    place = draw.draw(st.integers(len("age1pq1"), len(text) - 1))
    other = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        with pytest.raises(InvalidInput):
            bech32.decode(changed, "age1pq")


@given(st.text(max_size=100))
def test_arbitrary_text_is_invalid(text):
    with pytest.raises(InvalidInput):
        bech32.decode(text, "age1pq")
    with pytest.raises(InvalidInput):
        bech32.decode("age1pq1" + text, "age1pq")


@pytest.mark.parametrize("text", ["a12UEL5L", "b12uel5l", "a1", "a12uel5", "a1" + "q" * 5000])
def test_what_is_not_bech32_is_invalid(text):
    with pytest.raises(InvalidInput):
        bech32.decode(text, "a")


def test_stray_bits_are_invalid():
    """One group of five bits holds no whole byte; the checksum over it is right all the same."""
    with pytest.raises(InvalidInput, match="stray"):
        bech32.decode("a1pv7wwwr", "a")
