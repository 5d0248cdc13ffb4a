import pytest

from harmoni.index import ingest, lookup, packs
from harmoni.index.packs import PackKind, PackState, SealedPack
from harmoni.model.errors import HarmoniError, NotHeld
from index_samples import instance, pack_id

SEALED = SealedPack(
    pack_id=pack_id(1),
    kind=PackKind.INSTANCES,
    size_bytes=4096,
    sha256=bytes(32),
    root=bytes(32),
    sealed_at_ms=9,
)


def test_a_pack_goes_from_open_to_sealed_in_whichever_order_it_is_told(database):
    with database.write() as connection:
        packs.sealed(connection, SEALED)
        packs.opened(connection, pack_id(1), PackKind.INSTANCES)
        packs.opened(connection, pack_id(2), PackKind.EVENTS)
        packs.sealed(connection, SEALED)
    with database.reader() as connection:
        assert [row.sealed for row in packs.packs_in(connection, PackState.SEALED)] == [SEALED]
        [row] = packs.packs_in(connection, PackState.OPEN)
        assert (row.pack_id, row.kind, row.sealed) == (pack_id(2), PackKind.EVENTS, None)
        assert packs.pack(connection, pack_id(3)) is None


def test_a_seal_request_stands_until_the_pack_is_sealed(database):
    with database.write() as connection:
        packs.opened(connection, pack_id(1), PackKind.INSTANCES)
        packs.request_seal(connection, [pack_id(1), pack_id(2)], at_ms=5)
        packs.request_seal(connection, [pack_id(1)], at_ms=6)
        assert packs.seal_requests(connection) == {pack_id(1): 5}
        packs.sealed(connection, SEALED)
        packs.request_seal(connection, [pack_id(1)], at_ms=7)
        assert packs.seal_requests(connection) == {}


def test_a_missing_pack_is_known_as_such_and_comes_back(database):
    with database.write() as connection:
        packs.sealed(connection, SEALED)
        packs.set_state(connection, pack_id(1), PackState.MISSING)
        assert [row.pack_id for row in packs.packs_in(connection, PackState.MISSING)] == [
            pack_id(1)
        ]
        packs.set_state(connection, pack_id(1), PackState.SEALED)
        assert packs.packs_in(connection, PackState.MISSING) == []
    with database.write() as connection, pytest.raises(NotHeld):
        packs.set_state(connection, pack_id(9), PackState.MISSING)


def test_one_copy_is_flagged_and_repaired(database):
    first, second = instance(), instance(pack=2)
    with database.write() as connection:
        ingest.record(connection, [first, second])
        packs.flag_damaged(connection, "1.2.3.4", first.location)
        assert [held.damaged for held in lookup.versions(connection, "1.2.3.4")] == [True, False]
        packs.flag_damaged(connection, "1.2.3.4", first.location, damaged=False)
        assert not any(held.damaged for held in lookup.versions(connection, "1.2.3.4"))
        with pytest.raises(NotHeld):
            packs.flag_damaged(connection, "1.2.3.5", first.location)


def test_a_pack_in_which_nothing_was_acknowledged_is_forgotten_with_its_request(database):
    with database.write() as connection:
        packs.opened(connection, pack_id(1), PackKind.INSTANCES)
        packs.request_seal(connection, [pack_id(1)], at_ms=5)
        packs.forget(connection, pack_id(1))
        assert packs.pack(connection, pack_id(1)) is None
        assert packs.seal_requests(connection) == {}


def test_a_pack_with_members_cannot_be_forgotten(database):
    with database.write() as connection:
        ingest.record(connection, [instance()])
        packs.request_seal(connection, [pack_id(1)], at_ms=5)
    with pytest.raises(HarmoniError, match="FOREIGN KEY"), database.write() as connection:
        packs.forget(connection, pack_id(1))
    with database.reader() as connection:
        assert packs.seal_requests(connection) == {pack_id(1): 5}
        assert len(lookup.versions(connection, "1.2.3.4")) == 1
