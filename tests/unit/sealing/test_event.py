import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged, InvalidInput
from harmoni.sealing.event import Event
from unit.sealing.test_document import jsons

events = st.builds(
    Event,
    kind=st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True),
    at_ms=st.integers(0, 253_402_300_799_999),
    subject=st.text(),
    body=st.dictionaries(st.text(), jsons, max_size=4),
    salt=st.binary(min_size=32, max_size=32),
)


@given(events)
def test_property_an_event_is_read_back(event):
    assert Event.decode(event.encode()) == event


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        Event.decode(data)


@pytest.mark.parametrize("kind", ["", "Tombstone", "1st", "a" * 64, "a b"])
def test_a_kind_is_a_word(kind):
    with pytest.raises(InvalidInput):
        Event(kind=kind, at_ms=0, subject="", body={}, salt=bytes(32))


def test_a_salt_has_32_bytes():
    with pytest.raises(InvalidInput):
        Event(kind="hold", at_ms=0, subject="", body={}, salt=bytes(31))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"body":{}', b'"body":[]'),
        (b'"kind":"hold"', b'"kind":"Hold"'),
        (b'"salt":"A', b'"salt":"!'),
        (b'"subject":""', b'"subject":7'),
        (b'"time":"1970', b'"time":"1969'),
    ],
)
def test_an_event_with_a_wrong_field_is_damaged(old, new):
    data = Event(kind="hold", at_ms=0, subject="", body={}, salt=bytes(32)).encode()
    assert old in data
    with pytest.raises(Damaged):
        Event.decode(data.replace(old, new))
