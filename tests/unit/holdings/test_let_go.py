"""A gateway's holding: it answers for nothing itself, and lets go of what is safe elsewhere."""

import pytest

import house as houses
from harmoni.dicom.commitment_data import Reference
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.index import jobs, lookup
from harmoni.index import packs as packs_module
from harmoni.index.jobs import JobState
from harmoni.index.packs import PackState
from harmoni.model.errors import NotHeld

CENTRE = "centre"
PACS = "PACS_A"


@pytest.fixture
def gateway(tmp_path):
    return houses.make_house(
        tmp_path,
        destination=CENTRE,
        policy=CommitmentPolicy(safe_copies=1, elsewhere=True),
    )


def reference(number):
    return Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(number))


def committed(gateway, *numbers, copies=1):
    """The centre's report has come and is recorded."""
    held = [held for number in numbers for held in gateway.versions(number)]
    gateway.commit_elsewhere(held, by=CENTRE, copies=copies)


def sealed(gateway, *numbers):
    for number in numbers:
        gateway.store(houses.data_set(number), number)
    gateway.seal()
    assert list(gateway.holding.conflicts.compare(60)) == []


def packs(gateway):
    return gateway.files("packs/*/p/*/*.tar")


def jobs_of(gateway):
    with gateway.holding.index.reader() as connection:
        return {state: n for state, n in jobs.depth(connection).by_state.items() if n}


def test_nothing_is_let_go_of_before_it_is_committed_elsewhere(gateway):
    sealed(gateway, 1, 2)
    committed(gateway, 1)

    done = gateway.holding.let_go.evict(houses.STUDY)

    assert done.packs == 0
    assert "has 1 instances that are not committed elsewhere" in done.stayed[0]
    assert len(packs(gateway)) == 1


def test_fewer_copies_than_are_asked_for_are_not_safe(tmp_path):
    gateway = houses.make_house(
        tmp_path, destination=CENTRE, policy=CommitmentPolicy(safe_copies=2, elsewhere=True)
    )
    sealed(gateway, 1)
    committed(gateway, 1, copies=1)
    assert gateway.holding.let_go.evict(houses.STUDY).packs == 0

    committed(gateway, 1, copies=2)
    assert gateway.holding.let_go.evict(houses.STUDY).packs == 1


def test_an_open_pack_is_not_let_go_of(gateway):
    gateway.store(houses.data_set(1), 1)
    committed(gateway, 1)

    assert "is open, not sealed" in gateway.holding.let_go.evict(houses.STUDY).stayed[0]


def test_what_was_let_go_is_gone_from_the_disk_and_stays_in_every_answer(gateway):
    sealed(gateway, 1, 2)
    size = packs(gateway)[0].stat().st_size
    committed(gateway, 1, 2)

    done = gateway.holding.let_go.evict(houses.STUDY)

    assert (done.packs, done.instances, done.freed_bytes, done.stayed) == (1, 2, size, ())
    assert packs(gateway) == []
    [stub] = gateway.versions(1)
    assert stub.pack_state is PackState.EVICTED
    assert not stub.sound
    assert gateway.holding.let_go.studies() == []
    assert gateway.holding.let_go.evict(houses.STUDY).packs == 0


def test_a_study_that_was_never_here_is_not_held(gateway):
    with pytest.raises(NotHeld):
        gateway.holding.let_go.evict("1.2.3")


def test_stubs_are_rebuilt_from_the_events(gateway):
    sealed(gateway, 1, 2)
    committed(gateway, 1, 2)
    gateway.holding.let_go.evict(houses.STUDY)
    gateway.store(houses.data_set(3), 3)
    gateway.holding.events.retire()
    gateway.seal()
    before = gateway.versions(1)

    report = gateway.holding.rebuilder().rebuild()

    assert report.equal
    assert report.sound
    assert gateway.versions(1) == before
    assert gateway.versions(1)[0].pack_state is PackState.EVICTED


def test_stubs_are_rebuilt_where_the_old_index_is_lost_and_the_rest_asks_before_it_is_sent(gateway):
    sealed(gateway, 1, 2)
    committed(gateway, 1, 2)
    gateway.holding.let_go.evict(houses.STUDY)
    gateway.store(houses.data_set(3), 3)
    gateway.holding.events.retire()
    gateway.seal()
    for path in gateway.files("index/*/current"):
        path.unlink()

    report = gateway.holding.rebuilder().rebuild()

    assert report.equal is None
    assert report.missing == ()
    assert gateway.versions(1)[0].pack_state is PackState.EVICTED
    assert jobs_of(gateway) == {JobState.DOUBTFUL: 1}


def test_an_eviction_that_was_cut_short_is_completed(gateway, monkeypatch):
    sealed(gateway, 1)
    committed(gateway, 1)
    let_go = gateway.holding.let_go
    monkeypatch.setattr(let_go, "_remove", lambda _: None)
    let_go.evict(houses.STUDY)
    monkeypatch.undo()
    assert len(packs(gateway)) == 1

    assert len(let_go.complete()) == 1
    assert packs(gateway) == []
    assert let_go.complete() == []


def test_a_member_that_recovery_adopts_asks_before_it_is_sent(gateway):
    gateway.store(houses.data_set(1), 1)
    with gateway.holding.index.write() as connection:  # the last second, lost with the power
        for table in ("job", "instance"):
            connection.execute(f"DELETE FROM {table}")
    [finished] = gateway.seal()

    assert finished.adopted == 1
    assert jobs_of(gateway) == {JobState.DOUBTFUL: 1}


def test_what_comes_again_after_it_was_let_go_is_held_again_and_asked_about(gateway):
    sealed(gateway, 1)
    committed(gateway, 1)
    gateway.holding.let_go.evict(houses.STUDY)

    gateway.store(houses.data_set(1), 1)

    assert [held.pack_state for held in gateway.versions(1)] == [PackState.EVICTED, PackState.OPEN]
    assert jobs_of(gateway) == {JobState.DOUBTFUL: 1}
    with gateway.holding.index.reader() as connection:
        assert lookup.served(lookup.versions(connection, houses.uid(1))).sound


def round_(gateway):
    gateway.holding.commitments.resolve_all()
    return gateway.holding.commitments.due(PACS)


def test_a_peer_is_told_committed_when_the_centre_is_and_not_before(gateway):
    sealed(gateway, 1)
    gateway.holding.commitments.accept(PACS, "1.2.3", [reference(1)])
    assert round_(gateway) == []

    committed(gateway, 1)
    gateway.clock.advance(30)
    [due] = round_(gateway)

    assert [each.failure_reason for each in due.references] == [None]


def test_a_peer_that_asks_puts_its_instances_first(gateway):
    gateway.store(houses.data_set(1), 1)
    gateway.holding.commitments.accept(PACS, "1.2.3", [reference(1)])
    round_(gateway)

    with gateway.holding.index.reader() as connection:
        [(urgency,)] = connection.execute("SELECT urgency FROM job").fetchall()
    assert urgency == jobs.Urgency.COMMITMENT


def test_a_parked_instance_is_reported_as_failed_with_0110(gateway):
    gateway.store(houses.data_set(1), 1)
    with gateway.holding.index.write() as connection:
        [job] = jobs.lease(connection, CENTRE, now_ms=2**60, until_ms=2**60, most=1)
        jobs.park(connection, CENTRE, job, "A900")
    gateway.holding.commitments.accept(PACS, "1.2.3", [reference(1)])

    [due] = round_(gateway)

    assert [each.failure_reason for each in due.references] == [0x0110]


def test_an_instance_that_was_let_go_is_still_committed(gateway):
    sealed(gateway, 1)
    committed(gateway, 1)
    gateway.holding.let_go.evict(houses.STUDY)
    gateway.holding.commitments.accept(PACS, "1.2.3", [reference(1)])

    [due] = round_(gateway)

    assert [each.failure_reason for each in due.references] == [None]


def test_nothing_that_a_commitment_waits_for_is_let_go_of(gateway):
    sealed(gateway, 1)
    gateway.holding.commitments.accept(PACS, "1.2.3", [reference(1), reference(2)])
    committed(gateway, 1)

    assert "is waited for" in gateway.holding.let_go.evict(houses.STUDY).stayed[0]


def test_an_eviction_that_was_cut_short_is_rebuilt_as_an_eviction(gateway, monkeypatch):
    """In whatever order the packs are read: the one that must go, and the event that says so."""
    for number in range(1, 7):
        study = f"{houses.STUDY}{number}"
        gateway.store(houses.data_set(number, study=study, series=f"{study}.2"), number)
    sealed(gateway)
    let_go = gateway.holding.let_go
    with gateway.holding.index.reader() as connection:
        rows = packs_module.packs_in(connection, PackState.SEALED)
    monkeypatch.setattr(let_go, "_remove", lambda _: None)
    for row in rows:
        let_go._evict(row, houses.STUDY)
        gateway.holding.events.retire()
    gateway.seal()

    report = gateway.holding.rebuilder().rebuild()

    assert report.equal
    with gateway.holding.index.reader() as connection:
        assert len(packs_module.packs_in(connection, PackState.EVICTED)) == len(rows)


def test_what_is_evicted_during_a_rebuild_is_not_called_unreadable(gateway):
    for number in (1, 2):
        study = f"{houses.STUDY}{number}"
        gateway.store(houses.data_set(number, study=study, series=f"{study}.2"), number)
        sealed(gateway)
        committed(gateway, number)
    rebuilder = gateway.again("dc1-n1-cli").holding.rebuilder()

    def evict_what_is_not_read_yet(done, total):
        if done < total:
            for number in (1, 2):
                assert gateway.holding.let_go.evict(f"{houses.STUDY}{number}").packs == 1
            gateway.holding.events.retire()

    report = rebuilder.rebuild(evict_what_is_not_read_yet)

    assert len(gateway.files("packs/*/p/*/*.tar")) == 0
    assert report.equal
    assert report.sound
