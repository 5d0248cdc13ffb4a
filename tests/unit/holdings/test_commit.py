import pytest

import house as houses
from harmoni.dicom.commitment_data import Reference
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.model.errors import Busy, HarmoniError

REQUESTER = "GW_A"
DAY_S = 86_400


def reference(number, sop_class=houses.CT, sha256=None):
    return Reference(sop_class_uid=sop_class, sop_instance_uid=houses.uid(number), sha256=sha256)


def round_(house):
    house.holding.commitments.resolve_all()
    house.holding.recorder.packs.retire_due()
    house.finish()
    house.holding.commitments.resolve_all()
    return house.holding.commitments.due(REQUESTER)


def test_a_commitment_waits_for_the_seal_and_the_seal_is_asked_for(house):
    house.store(houses.data_set(1), 1)
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])

    assert round_(house) == []
    house.clock.advance(20)
    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [None]
    assert house.versions(1)[0].pack_state.value == "sealed"

    house.holding.commitments.answered(REQUESTER, "1.2.3")
    assert house.holding.commitments.due(REQUESTER) == []


def test_what_was_committed_is_an_event_in_the_store(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    round_(house)

    with house.holding.index.reader() as connection:
        [(kind, body)] = connection.execute("SELECT kind, body FROM fact").fetchall()
    assert kind == "commitment"
    assert '"copies": 1' in body
    assert house.versions(1)[0].identity.sha256.hex() in body


def test_an_unknown_instance_fails_only_after_its_grace(house):
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    assert round_(house) == []
    house.clock.advance(600)

    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [0x0112]


def test_our_own_gateway_is_told_at_once_what_is_not_here(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1), reference(2)], at_once=True)
    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [None, 0x0112]


def test_a_clock_that_jumps_ahead_ends_no_grace(house):
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    round_(house)
    house.clock.set_ahead(366 * DAY_S)
    house.clock.advance(599)

    assert round_(house) == []


def test_a_clock_that_is_set_back_prolongs_no_grace(house):
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    round_(house)
    house.clock.set_back(DAY_S)
    house.clock.advance(600)

    assert len(round_(house)) == 1


def test_an_instance_that_arrives_within_the_grace_is_committed(house):
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    house.clock.advance(300)
    house.store(houses.data_set(1), 1)
    house.seal()

    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [None]


def test_another_class_and_another_hash_are_told_apart(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.holding.commitments.accept(
        REQUESTER, "1.2.3", [reference(1, sop_class=houses.PALETTE), reference(1, sha256=b"x" * 32)]
    )
    house.clock.advance(600)

    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [0x0119, 0x0112]


def test_who_asks_by_hash_is_told_the_copies_and_their_sites(tmp_path):
    house = houses.make_house(
        tmp_path, policy=CommitmentPolicy(safe_copies=2, places=("dc1", "dc2"))
    )
    for number in (1, 2):
        house.store(houses.data_set(number), number)
    house.seal()
    known = house.versions(1)[0].identity.sha256
    references = [reference(1, sha256=known), reference(1, sha256=b"x" * 32), reference(2)]
    house.holding.commitments.accept(REQUESTER, "1.2.3", references, at_once=True)

    [due] = round_(house)
    assert [(item.copies, item.sites) for item in due.references] == [
        (2, ("dc1", "dc2")),
        (None, ()),
        (None, ()),
    ]


def test_commitment_means_that_every_version_is_safe(house):
    house.store(houses.data_set(1), 1)
    house.seal()
    house.store(houses.data_set(1, pixels=b"another"), 1)
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])

    assert round_(house) == []
    house.clock.advance(20)
    assert len(round_(house)) == 1


def test_a_damaged_instance_is_not_committed(house):
    from harmoni.index import packs

    house.store(houses.data_set(1), 1)
    house.seal()
    with house.holding.index.write() as connection:
        packs.flag_damaged(connection, houses.uid(1), house.versions(1)[0].location)
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])

    [due] = round_(house)
    assert [item.failure_reason for item in due.references] == [0x0110]


def test_fewer_verified_places_than_asked_for_wait_and_are_never_downgraded(tmp_path):
    house = houses.make_house(tmp_path, policy=CommitmentPolicy(safe_copies=2, places=("dc1",)))
    house.store(houses.data_set(1), 1)
    house.seal()
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    house.clock.advance(1_000_000)

    assert round_(house) == []
    assert house.holding.commitments.waiting() == 1


def test_the_same_transaction_again_changes_nothing_and_another_content_is_refused(house):
    accept = house.holding.commitments.accept
    accept(REQUESTER, "1.2.3", [reference(1)])
    accept(REQUESTER, "1.2.3", [reference(1)])
    with pytest.raises(HarmoniError):
        accept(REQUESTER, "1.2.3", [reference(2)])
    assert house.holding.commitments.waiting() == 1


def test_what_waits_for_long_is_looked_at_seldom(house, monkeypatch):
    from harmoni.index import commitment

    house.store(houses.data_set(1), 1)
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)])
    house.clock.advance(500)
    looks = []
    real = commitment.copies
    monkeypatch.setattr(commitment, "copies", lambda *args: (looks.append(1), real(*args))[1])
    for _ in range(60):
        house.holding.commitments.resolve_all()
        house.clock.advance(1)

    assert 2 <= len(looks) <= 5


def test_a_requester_with_too_much_that_waits_is_asked_to_come_later(house, monkeypatch):
    from harmoni.holdings import commit

    monkeypatch.setattr(commit, "_MOST_WAITING", 3)
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(n) for n in range(1, 6)])
    with pytest.raises(Busy):
        house.holding.commitments.accept(REQUESTER, "1.2.4", [reference(1)])
    house.holding.commitments.accept("OTHER", "1.2.4", [reference(1)])

    assert house.holding.commitments.waiting() == 2


def test_nobody_is_told_at_once_while_a_pack_is_unfinished(house):
    house.holding.commitments.accept(REQUESTER, "1.2.3", [reference(1)], at_once=True)
    house.holding.commitments.resolve_all(all_finished=False)
    assert house.holding.commitments.due(REQUESTER) == []
    house.holding.commitments.resolve_all()
    [due] = house.holding.commitments.due(REQUESTER)
    assert [item.failure_reason for item in due.references] == [0x0112]
