import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import Damaged
from harmoni.model.identifiers import PackId
from harmoni.sealing.event import TOMBSTONE, Event
from harmoni.sealing.tombstone import ErasedEvent, ErasedPack, SealedAs, Tombstone, hash_of

PACK = PackId.build(time_ms=1_795_492_800_000, site_number=1, random=bytes(9))
digests = st.binary(min_size=32, max_size=32)
times = st.integers(0, 253_402_300_799_999)
key_ids = st.one_of(st.just(""), st.integers(0, 255).map(lambda row: f"{PACK}.{row}"))
sealed = st.builds(
    SealedAs,
    size_bytes=st.integers(0, 1 << 40),
    sha256=digests,
    root=digests,
    sealed_at_ms=times,
)
packs = st.builds(
    ErasedPack, pack_id=st.just(PACK), key_id=key_ids, sealed=st.one_of(st.none(), sealed)
)
tombstones = st.builds(
    Tombstone,
    study_hash=digests,
    salt=digests,
    complete_at_ms=times,
    packs=st.lists(packs, max_size=3).map(tuple),
    events=st.lists(
        st.builds(ErasedEvent, pack_id=st.just(PACK), sequence=st.integers(0, 99), key_id=key_ids),
        max_size=3,
    ).map(tuple),
)


@given(tombstones)
def test_property_a_tombstone_is_read_back_from_its_event(tombstone):
    told = Event(
        kind=TOMBSTONE, at_ms=0, subject="", body=tombstone.body(), salt=bytes(32)
    ).encode()
    assert Tombstone.of_body(Event.decode(told).body) == tombstone


@given(st.text(), st.text(), digests)
def test_property_it_knows_its_study_and_no_other(study, other, salt):
    tombstone = Tombstone(
        study_hash=hash_of(study, salt), salt=salt, complete_at_ms=0, packs=(), events=()
    )
    assert tombstone.is_of(study)
    assert tombstone.is_of(other) == (study == other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("study", "00"),
        ("salt", "AA=="),
        ("complete", "soon"),
        ("packs", [{"pack": "../../etc", "key": ""}]),
        ("packs", [{"pack": str(PACK), "key": "no key"}]),
        ("events", [{"pack": str(PACK), "key": "", "sequence": -1}]),
    ],
)
def test_a_tombstone_with_a_wrong_field_is_damaged(field, value):
    body = Tombstone(
        study_hash=bytes(32), salt=bytes(32), complete_at_ms=0, packs=(), events=()
    ).body()
    with pytest.raises(Damaged):
        Tombstone.of_body(body | {field: value})
