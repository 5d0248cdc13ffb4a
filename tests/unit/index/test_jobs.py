import pytest

from harmoni.index import ingest, jobs
from harmoni.index.ingest import Fact, Terms
from harmoni.index.jobs import JobState, Urgency
from index_samples import instance, pack_id

CENTRE = "centre"
TERMS = Terms(destination=CENTRE)
NOW = 1_700_000_000_000
LATER = NOW + 1_000_000


@pytest.fixture
def connection(database):
    with database.write() as connection:
        yield connection


def record(connection, *instances, **how):
    ingest.record(connection, instances, TERMS, **how)


def lease(connection, now_ms=NOW, until_ms=LATER, most=100, in_hand=()):
    return jobs.lease(
        connection, CENTRE, now_ms=now_ms, until_ms=until_ms, most=most, in_hand=in_hand
    )


def uids(taken):
    return [job.sop_instance_uid for job in taken]


def states(connection):
    depth = jobs.depth(connection).by_state
    return {state: count for state, count in depth.items() if count}


def commitment(instances, *, by=CENTRE, copies=1, places=("dc1",), sequence=0):
    return Fact(
        pack_id=pack_id(900),
        sequence=sequence,
        kind="commitment",
        at_ms=NOW,
        body={
            "by": by,
            "copies": copies,
            "places": list(places),
            "instances": [
                {
                    "sop_instance_uid": each.sop_instance_uid,
                    "sha256": each.identity.sha256.hex(),
                    "transfer_syntax": each.identity.transfer_syntax_uid,
                }
                for each in instances
            ],
            "transaction": "1.2",
        },
    )


def test_each_stored_copy_gets_one_job_with_its_row(connection):
    first, second = instance("1.2.3.4"), instance("1.2.3.5", sequence=1)
    record(connection, first, second)
    record(connection, first)

    assert states(connection) == {JobState.QUEUED: 2}


def test_an_archive_makes_no_jobs(connection):
    ingest.record(connection, [instance()])

    assert states(connection) == {}


def test_a_lease_takes_one_study_and_nobody_else_gets_it_meanwhile(connection):
    record(
        connection,
        instance("1.2.3.4"),
        instance("1.2.3.5", sequence=1),
        instance("1.2.9.1", study_uid="1.2.9", series_uid="1.2.9.9", pack=2),
    )

    assert uids(lease(connection)) == ["1.2.3.4", "1.2.3.5"]
    record(connection, instance("1.2.3.6", sequence=2))
    assert uids(lease(connection, in_hand=["1.2.3"])) == ["1.2.9.1"]
    assert lease(connection, in_hand=["1.2.3", "1.2.9"]) == []
    assert not jobs.is_due(connection, CENTRE, NOW, ["1.2.3", "1.2.9"])
    more = jobs.lease_more(connection, CENTRE, "1.2.3", now_ms=NOW, until_ms=LATER, most=100)
    assert uids(more) == ["1.2.3.6"]
    assert uids(lease(connection, now_ms=LATER)) == ["1.2.3.4", "1.2.3.5", "1.2.3.6"]


def test_what_a_peer_waits_for_goes_first(connection):
    record(
        connection,
        instance("1.2.3.4"),
        instance("1.2.9.1", study_uid="1.2.9", series_uid="1.2.9.9", pack=2),
    )
    jobs.hasten(connection, ["1.2.9.1"])

    assert uids(lease(connection)) == ["1.2.9.1"]


def test_leases_go_when_the_sender_starts_anew(connection):
    record(connection, instance())
    lease(connection)
    jobs.release_all(connection, CENTRE)

    assert len(lease(connection)) == 1


def test_an_attempt_that_failed_waits_for_its_time_and_counts(connection):
    record(connection, instance())
    [job] = lease(connection)
    jobs.again(connection, CENTRE, job, due_at_ms=NOW + 5000, reason="A700")

    assert lease(connection, now_ms=NOW + 4999) == []
    [job] = lease(connection, now_ms=NOW + 5000)
    assert job.tries == 1


def test_a_parked_job_waits_for_an_operator_and_says_why(connection):
    record(connection, instance())
    [job] = lease(connection)
    jobs.park(connection, CENTRE, job, "A900 the centre cannot read it")

    assert lease(connection, now_ms=LATER) == []
    [parked] = jobs.parked(connection, 10)
    assert parked.reason == "A900 the centre cannot read it"
    assert jobs.reasons(connection, "1.2.3.4") == [parked.reason]
    assert jobs.retry(connection, NOW) == 1
    assert len(lease(connection)) == 1


def ask(connection, now_ms):
    return jobs.to_ask(connection, CENTRE, now_ms=now_ms, most=100)


def test_a_study_is_asked_about_when_the_last_of_it_is_old_enough(connection):
    record(connection, instance("1.2.3.4"), instance("1.2.3.5", sequence=1))
    first, second = lease(connection)
    jobs.sent(connection, CENTRE, [first], NOW + 300)
    assert ask(connection, NOW + 300) == []  # the second is still to be sent
    jobs.sent(connection, CENTRE, [second], NOW + 400)

    assert ask(connection, NOW + 399) == []
    taken = ask(connection, NOW + 400)
    assert uids(taken) == ["1.2.3.4", "1.2.3.5"]
    assert taken[0].sha256 == instance().identity.sha256


def test_a_study_for_which_a_peer_waits_is_asked_about_at_once(connection):
    record(connection, instance())
    jobs.sent(connection, CENTRE, lease(connection), NOW + 300_000)
    assert ask(connection, NOW) == []
    jobs.hasten(connection, ["1.2.3.4"])

    assert len(ask(connection, NOW)) == 1


def test_what_is_sent_after_a_study_was_asked_about_does_not_wait_for_that_report(connection):
    record(connection, instance("1.2.3.4"), instance("1.2.3.5", sequence=1))
    first, second = lease(connection)
    jobs.sent(connection, CENTRE, [first], NOW)
    jobs.asked(connection, CENTRE, [first], again_at_ms=NOW + 900_000)
    jobs.sent(connection, CENTRE, [second], NOW + 300)

    assert ask(connection, NOW + 299) == []
    assert uids(ask(connection, NOW + 300)) == ["1.2.3.5"]


def test_more_than_one_request_holds_is_asked_about_at_once(connection):
    record(connection, instance("1.2.3.4"), instance("1.2.3.5", sequence=1))
    jobs.sent(connection, CENTRE, lease(connection), NOW)
    (first,) = jobs.to_ask(connection, CENTRE, now_ms=NOW, most=1)
    jobs.asked(connection, CENTRE, [first], again_at_ms=NOW + 900_000)

    (second,) = jobs.to_ask(connection, CENTRE, now_ms=NOW, most=1)
    assert second.sop_instance_uid != first.sop_instance_uid


def test_what_was_asked_is_asked_again_when_no_report_comes_and_not_before(connection):
    record(connection, instance())
    jobs.sent(connection, CENTRE, lease(connection), NOW)
    jobs.hasten(connection, ["1.2.3.4"])
    jobs.asked(connection, CENTRE, ask(connection, NOW), again_at_ms=NOW + 900)

    assert ask(connection, NOW + 899) == []
    assert len(ask(connection, NOW + 900)) == 1


def test_one_that_waits_for_a_later_try_does_not_hold_up_the_rest_of_its_study(connection):
    record(connection, instance("1.2.3.4"), instance("1.2.3.5", sequence=1))
    first, second = lease(connection)
    jobs.sent(connection, CENTRE, [first], NOW)
    jobs.again(connection, CENTRE, second, due_at_ms=LATER, reason="A700")

    assert uids(ask(connection, NOW)) == ["1.2.3.4"]


def test_a_commitment_ends_the_jobs_of_every_copy_of_that_version_and_of_no_other(connection):
    copy, again = instance(), instance(pack=2)
    other = instance(pack=3, content=b"other")
    record(connection, copy, again, other)
    ingest.record_facts(connection, [commitment([copy])], TERMS)

    [left] = lease(connection)
    assert left.sha256 == other.identity.sha256
    record(connection, instance(pack=4))  # came once more: it is safe already
    assert states(connection) == {JobState.QUEUED: 1}


def test_a_commitment_that_we_gave_a_peer_ends_no_job(connection):
    record(connection, instance())
    given = commitment([instance()])
    body = {name: value for name, value in given.body.items() if name != "by"}
    ingest.record_facts(
        connection,
        [Fact(pack_id=given.pack_id, sequence=0, kind="commitment", at_ms=NOW, body=body)],
        TERMS,
    )

    assert states(connection) == {JobState.QUEUED: 1}


def test_the_better_of_two_commitments_counts_in_any_order(new_database):
    facts = [
        commitment([instance()], copies=1, places=["dc1"], sequence=0),
        commitment([instance()], copies=2, places=["dc1", "dc2"], sequence=1),
    ]
    for ordered in (facts, facts[::-1]):
        database = new_database()
        with database.write() as connection:
            ingest.record_facts(connection, ordered, TERMS)
            rows = connection.execute("SELECT copies, places FROM safe").fetchall()
        database.close()
        assert [tuple(row) for row in rows] == [(2, "dc1,dc2")]


def test_what_has_neither_a_commitment_nor_a_job_asks_before_it_is_sent(connection):
    safe, lost = instance("1.2.3.4"), instance("1.2.3.5", sequence=1)
    ingest.record(connection, [safe, lost])
    ingest.record_facts(connection, [commitment([safe])], TERMS)

    jobs.reconcile(connection, CENTRE, jobs.unaccounted(connection, 1))
    assert states(connection) == {JobState.DOUBTFUL: 1}
    assert lease(connection, now_ms=LATER) == []
    assert uids(ask(connection, NOW)) == ["1.2.3.5"]
    assert jobs.unaccounted(connection, 1) == []


def test_jobs_are_taken_over_by_a_rebuilt_index_as_they_stand(database, new_database):
    parked, queued = instance("1.2.3.4"), instance("1.2.3.5", sequence=1)
    rebuilt = new_database()
    with database.write() as old, rebuilt.write() as new:
        record(old, parked, queued, instance("1.2.3.6", pack=7))
        jobs.park(old, CENTRE, lease(old)[0], "A900")
        ingest.record(new, [parked, queued])
        jobs.take_over(old, new)
        assert states(new) == {JobState.PARKED: 1, JobState.QUEUED: 1}
        assert jobs.reasons(new, "1.2.3.4") == ["A900"]
        assert uids(lease(new)) == ["1.2.3.5"]
    rebuilt.close()


def test_the_depth_says_since_when_the_oldest_waits(connection):
    assert jobs.depth(connection).oldest_ms is None
    record(connection, instance(received_at_ms=NOW - 5000), instance("1.2.3.5", sequence=1))

    assert jobs.depth(connection).oldest_ms == NOW - 5000


def test_urgency_orders_commitment_before_today_before_back_fill():
    assert Urgency.COMMITMENT < Urgency.TODAY < Urgency.BACKFILL


def test_the_same_bytes_in_another_transfer_syntax_are_another_version(connection):
    sent, relabelled = instance(), instance(pack=2, syntax="1.2.840.10008.1.2.4.70")
    record(connection, sent, relabelled)
    ingest.record_facts(connection, [commitment([sent])], TERMS)

    [left] = lease(connection)
    assert left.transfer_syntax_uid == "1.2.840.10008.1.2.4.70"
    record(connection, instance(pack=3, syntax="1.2.840.10008.1.2.4.70"))
    assert states(connection) == {JobState.QUEUED: 2}


def test_too_few_copies_end_no_job_and_enough_do(connection):
    terms = Terms(destination=CENTRE, safe_copies=2)
    ingest.record(connection, [instance()], terms)
    ingest.record_facts(connection, [commitment([instance()], copies=1)], terms)
    assert states(connection) == {JobState.QUEUED: 1}

    two = commitment([instance()], copies=2, places=["dc1", "dc2"], sequence=1)
    ingest.record_facts(connection, [two], terms)
    assert states(connection) == {}


def test_a_study_of_any_size_is_asked_about_to_its_end(connection):
    record(connection, *(instance(f"1.2.3.4.{n}", sequence=n) for n in range(5)))
    jobs.sent(connection, CENTRE, lease(connection), NOW)
    asked = []
    while due := jobs.to_ask(connection, CENTRE, now_ms=NOW, most=2):
        jobs.asked(connection, CENTRE, due, again_at_ms=LATER)
        asked += uids(due)

    assert sorted(asked) == [f"1.2.3.4.{n}" for n in range(5)]


@pytest.mark.parametrize(
    "act",
    [
        lambda c: jobs.hasten(c, ["1.2.3.4"]),
        lambda c: jobs.reasons(c, "1.2.3.4"),
        lambda c: jobs.open_in(c, pack_id(1)),
        lambda c: jobs.lease_more(c, CENTRE, "1.2.3", now_ms=NOW, until_ms=LATER, most=500),
        lambda c: jobs.to_ask(c, CENTRE, now_ms=NOW, most=500),
        lambda c: jobs.is_due(c, CENTRE, NOW),
    ],
)
def test_no_question_about_jobs_reads_them_all(connection, act):
    record(connection, instance())

    class Explaining:
        """Runs each statement, and first asks how the database would."""

        def execute(self, sql, parameters=()):
            if not sql.startswith("INSERT"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
                told = [str(row[3]) for row in plan]
                assert not [step for step in told if step.startswith("SCAN") and "job" in step], sql
                assert not [step for step in told if step.startswith("SCAN instance")], sql
            return connection.execute(sql, parameters)

        def executemany(self, sql, rows):
            for row in rows:
                self.execute(sql, row)

    act(Explaining())
