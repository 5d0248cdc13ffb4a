import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.model.instance import Origin
from harmoni.sealing import provenance
from harmoni.sealing.provenance import Provenance

words = st.text(st.characters(), max_size=20)
origins = st.builds(
    Origin,
    calling_ae_title=words,
    called_ae_title=words,
    address=words,
    verdict=st.lists(
        st.tuples(words, st.sampled_from(["match", "mismatch", "unobservable"])), max_size=4
    ).map(tuple),
)
provenances = st.builds(
    Provenance,
    origin=origins,
    received_at_ms=st.integers(0, 253_402_300_799_999),
    salt=st.binary(min_size=32, max_size=32),
    original_prefix=st.none() | st.binary(max_size=300),
)


@given(provenances, st.sampled_from([b"", b"\0", b" "]))
def test_property_a_provenance_is_read_back_with_any_padding(value, padding):
    data = provenance.encode(value)
    assert len(data) % 2 == 0
    assert provenance.decode(data + padding) == value


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damaged(data):
    with pytest.raises(Damaged):
        provenance.decode(data)


@pytest.mark.parametrize(
    "pair", ['["address"]', '["address","maybe"]', '[1,"match"]', '"ab"', "null", '["a","match",1]']
)
def test_a_verdict_that_is_none_is_damaged(pair):
    value = Provenance(
        origin=Origin(calling_ae_title="", called_ae_title="", address=""),
        received_at_ms=0,
        salt=bytes(32),
    )
    data = provenance.encode(value)
    assert b'"verdict":[]' in data
    with pytest.raises(Damaged):
        provenance.decode(data.replace(b'"verdict":[]', f'"verdict":[{pair}]'.encode()))
