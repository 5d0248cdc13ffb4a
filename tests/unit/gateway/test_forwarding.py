"""What the house stores is sent on, committed and settled; what goes wrong is told apart."""

from contextlib import contextmanager

import pytest

import house as houses
from harmoni import config
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom.commitment_data import CommitmentReport, Reference
from harmoni.fleet import ca
from harmoni.gateway import operate, standing
from harmoni.gateway.backlog import Backlog
from harmoni.gateway.centre import Centre
from harmoni.index import jobs, lookup
from harmoni.model.errors import (
    ConfigurationError,
    HarmoniError,
    OutOfResources,
    Unreachable,
)
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.metrics import Metrics


def at_the_archive(archive, number):
    with archive.holding.index.reader() as connection:
        return lookup.versions(connection, houses.uid(number))


def allow(archive, *rights):
    """Let the hospital's gateway do only so much at the archive."""
    folder = archive.config.archive.hospitals
    [entry] = config.load_hospitals(folder).values()
    changed = entry.model_copy(update={"rights": rights})
    Filesystem(folder).replace(f"{entry.id}.toml", config.render(changed).encode())
    archive.site.reload()


def facts(gateway):
    with gateway.holding.index.reader() as connection:
        return [tuple(row) for row in connection.execute("SELECT kind, body FROM fact")]


def test_a_study_is_sent_as_it_is_held_and_waits_for_its_commitment(gateway, archive):
    gateway.store(1, 2, 3)

    assert gateway.forwarder.round()

    assert gateway.states() == {"sent": 3}
    [arrived] = at_the_archive(archive, 1)
    assert arrived.identity == gateway.versions(1)[0].identity
    assert not gateway.forwarder.round()


@pytest.mark.parametrize("state", ["queued", "sent"])
def test_no_job_waits_for_a_time_that_was_told_while_the_clock_was_ahead(gateway, archive, state):
    year_s = 366 * 86_400
    gateway.clock.set_ahead(year_s)
    gateway.store(1)
    channel = gateway.centre.open(standing._CONTEXTS)
    if state == "sent":
        gateway.forwarder.round()
    assert gateway.states() == {state: 1}
    gateway.clock.set_back(year_s)

    Backlog(gateway.house, Metrics()).look()

    gateway.forwarder.round()
    gateway.clock.advance(gateway.house.config.gateway.commit_after_s)
    gateway.standing.turn(channel)
    assert gateway.states() == {"asked": 1}
    channel.release(5)


def test_the_commitment_of_the_centre_ends_the_jobs_and_is_an_event(gateway, archive):
    gateway.store(1, 2)
    gateway.deliver(archive)

    assert gateway.states() == {}
    [(kind, body)] = facts(gateway)
    assert kind == "commitment"
    assert '"by": "centre"' in body
    assert '"places": ["dc1"]' in body


def test_nothing_is_asked_before_a_study_was_quiet_or_a_peer_asks(gateway, archive):
    gateway.store(1)
    gateway.forwarder.round()
    channel = gateway.centre.open(standing._CONTEXTS)

    gateway.standing.turn(channel)
    assert gateway.states() == {"sent": 1}
    reference = Reference(sop_class_uid=houses.CT, sop_instance_uid=houses.uid(1))
    gateway.holding.commitments.accept("PACS_A", "1.2.3", [reference])
    gateway.holding.commitments.resolve_all()
    gateway.standing.turn(channel)

    assert gateway.states() == {"asked": 1}
    channel.release(5)


def test_a_centre_that_is_away_settles_nothing_and_counts_no_try(gateway):
    gateway.store(1)

    with pytest.raises(Unreachable):
        gateway.forwarder.round()

    assert gateway.states() == {"queued": 1}
    with gateway.holding.index.reader() as connection:
        assert connection.execute("SELECT tries, lease_until_ms FROM job").fetchall() == [(0, 0)]


def test_what_the_centre_does_not_accept_is_parked_with_its_reason(gateway, archive):
    allow(archive, "echo", "commit")
    gateway.store(1)

    gateway.forwarder.round()

    assert gateway.states() == {"parked": 1}
    with gateway.holding.index.reader() as connection:
        [(reason,)] = connection.execute("SELECT reason FROM job").fetchall()
    assert reason == "the centre accepts no presentation context for it (HZ-2008 NotAccepted)"


def test_a_copy_of_ours_that_cannot_be_read_is_parked_and_holds_up_no_other(gateway, archive):
    gateway.store(1, 2)
    gateway.seal()
    [held] = gateway.versions(1)
    [path] = gateway.house.files.path("packs").glob("*/p/*/*.tar")
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(held.location.offset + 200)
        file.write(b"\xff" * 16)

    gateway.forwarder.round()
    gateway.forwarder.round()

    assert gateway.states() == {"parked": 1, "sent": 1}
    assert at_the_archive(archive, 1) == []
    assert len(at_the_archive(archive, 2)) == 1


def test_what_the_centre_lost_is_sent_again(gateway, archive):
    gateway.store(1)
    gateway.forwarder.round()
    [held] = gateway.versions(1)

    gateway.standing.keep(CommitmentReport(transaction_uid="1.2", failed=(failed(held, 0x0112),)))

    assert gateway.states() == {"queued": 1}
    gateway.clock.advance(1)
    assert gateway.forwarder.round()
    assert gateway.states() == {"sent": 1}


def test_what_the_centre_will_never_commit_to_is_parked(gateway, archive):
    gateway.store(1)
    gateway.forwarder.round()
    [held] = gateway.versions(1)

    gateway.standing.keep(CommitmentReport(transaction_uid="1.2", failed=(failed(held, 0x0119),)))

    assert gateway.states() == {"parked": 1}


def failed(held, reason):
    return Reference(
        sop_class_uid=held.sop_class_uid,
        sop_instance_uid=held.sop_instance_uid,
        sha256=held.identity.sha256,
        version_syntax_uid=held.identity.transfer_syntax_uid,
        failure_reason=reason,
    )


@pytest.mark.parametrize("sha256", [None, bytes(32)])
def test_a_commitment_to_another_version_or_to_none_ends_nothing(gateway, archive, sha256):
    gateway.store(1)
    gateway.forwarder.round()
    report = CommitmentReport(
        transaction_uid="1.2",
        committed=(
            Reference(
                sop_class_uid=houses.CT,
                sop_instance_uid=houses.uid(1),
                sha256=sha256,
                copies=1,
                sites=("dc1",),
            ),
        ),
    )

    gateway.standing.keep(report)

    assert gateway.states() == {"sent": 1}
    assert facts(gateway) == []


def test_a_second_version_of_an_instance_is_sent_and_committed_for_itself(gateway, archive):
    gateway.store(1)
    gateway.store(1, data=houses.data_set(1, pixels=b"\x11\x22" * 500))
    gateway.deliver(archive)

    assert gateway.states() == {}
    assert len(at_the_archive(archive, 1)) == 2
    gateway.seal()
    assert "more than one version" in gateway.holding.let_go.evict(houses.STUDY).stayed[0]


def test_doubtful_instances_that_the_centre_has_are_not_sent_again(gateway, archive):
    gateway.store(1, 2)
    gateway.forwarder.round()
    with gateway.holding.index.write() as connection:
        connection.execute("DELETE FROM job")
    with gateway.holding.index.write() as connection:
        jobs.reconcile(connection, "centre", jobs.unaccounted(connection, 1))
    assert gateway.states() == {"doubtful": 2}

    gateway.commit(archive)

    assert gateway.states() == {}


def test_the_association_that_stands_is_up_until_it_ends(gateway, archive):
    gateway.standing._went_up()
    assert gateway.standing._line.is_up
    gateway.standing.end()
    gateway.standing._down(Unreachable("gone"))
    assert not gateway.standing._line.is_up


def test_a_hospital_that_is_suspended_parks_nothing(gateway, archive):
    folder = archive.config.archive.hospitals
    [entry] = config.load_hospitals(folder).values()
    changed = entry.model_copy(update={"suspended": True})
    Filesystem(folder).replace(f"{entry.id}.toml", config.render(changed).encode())
    archive.site.reload()
    gateway.store(1)

    with pytest.raises(HarmoniError, match="1/1/3"):
        gateway.forwarder.round()

    assert gateway.states() == {"queued": 1}


def test_image_after_image_of_a_study_goes_on_one_association(gateway, archive, monkeypatch):
    opened = []
    opens = gateway.centre.open
    monkeypatch.setattr(
        gateway.centre, "open", lambda *args, **how: opened.append(1) or opens(*args, **how)
    )
    monkeypatch.setattr(gateway.forwarder, "_linger_s", 2.0)
    stored = iter((2, 3))

    def wait(_):  # while the forwarder waits, the modality stores the next one
        gateway.clock.advance(1.0)
        if (number := next(stored, None)) is not None:
            gateway.store(number)

    monkeypatch.setattr(gateway.forwarder._ended, "wait", wait)
    gateway.store(1)

    gateway.forwarder.round()

    assert gateway.states() == {"sent": 3}
    assert len(opened) == 1


def test_nobody_is_waited_for_while_another_study_is_due(gateway, archive, monkeypatch):
    monkeypatch.setattr(gateway.forwarder, "_linger_s", 2.0)
    other = f"{houses.STUDY}9"
    gateway.store(1)
    gateway.store(2, data=houses.data_set(2, study=other, series=f"{other}.1"))
    monkeypatch.setattr(gateway.forwarder._ended, "wait", lambda _: gateway.clock.advance(1.0))

    gateway.forwarder.round()
    assert gateway.states() == {"sent": 1, "queued": 1}
    gateway.forwarder.round()
    assert gateway.states() == {"sent": 2}


def test_nothing_is_sent_with_the_certificate_of_another_hospital(gateway, archive, tmp_path):
    """Else this house's patients would be in that hospital's archive, and its own let go of."""
    folder = archive.config.archive.data.parent.parent / "ca"
    authority = ca.Authority((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
    issued = ca.issue(
        authority,
        owner=HospitalId("hospital-b"),
        common_name="gateway",
        now_ms=gateway.clock.now_ms(),
    )
    files = Filesystem(tmp_path)
    files.replace("gateway.crt", issued.cert_pem)
    files.replace("gateway.key", issued.key_pem)
    section = gateway.house.config.tls.model_copy(
        update={"certificate": tmp_path / "gateway.crt", "key": tmp_path / "gateway.key"}
    )
    other = gateway.house.config.model_copy(update={"tls": section})
    gateway.forwarder._centre = Centre(other)
    gateway.store(1)

    with pytest.raises(ConfigurationError, match=r"names .*hospital-b, .* nothing is sent"):
        gateway.forwarder.round()
    assert gateway.states() == {"queued": 1}


def test_an_operator_sees_since_when_the_centre_is_away_and_why(gateway, archive):
    assert "not tried yet" in operate.status(gateway.house).centre
    gateway.standing._went_up()
    assert operate.status(gateway.house).centre.startswith("up since ")
    gateway.standing._ended.set()  # no pause
    gateway.standing._down(Unreachable("Connection refused"))
    since = gateway.house.centre_state().since_ms
    gateway.clock.advance(60)
    gateway.standing._down(Unreachable("No route to host"))

    status = operate.status(gateway.house)
    assert status.centre.startswith("the centre is away: No route to host (since ")
    assert status.centre in status.problems
    assert operate.queue(gateway.house).centre == status.centre
    assert gateway.house.centre_state().since_ms == since


def test_what_is_sent_anew_although_it_is_safe_is_asked_about_and_goes_if_it_is_lost(
    gateway, archive
):
    gateway.store(1)
    gateway.deliver(archive)
    gateway.seal()
    gateway.holding.let_go.evict(houses.STUDY)
    with archive.holding.index.write() as connection:  # the centre has lost it
        connection.execute("DELETE FROM instance")

    gateway.store(1)
    assert gateway.states() == {"doubtful": 1}
    gateway.seal()
    assert gateway.holding.let_go.evict(houses.STUDY).packs == 0
    gateway.commit(archive)
    gateway.clock.advance(1)
    assert gateway.states() == {"queued": 1}
    gateway.deliver(archive)

    assert gateway.states() == {}
    assert len(at_the_archive(archive, 1)) == 1


def test_a_lease_that_could_not_be_written_leaves_the_study_for_the_next_try(
    gateway, archive, monkeypatch
):
    gateway.store(1)
    index = gateway.holding.index
    write = index.write

    @contextmanager
    def failing(**how):
        with write(**how) as connection:
            yield connection
        raise OutOfResources("the disk is full")

    monkeypatch.setattr(index, "write", failing)
    with pytest.raises(OutOfResources):
        gateway.forwarder.round()
    monkeypatch.undo()
    gateway.clock.advance(601)

    assert gateway.forwarder.round()
    assert gateway.states() == {"sent": 1}
