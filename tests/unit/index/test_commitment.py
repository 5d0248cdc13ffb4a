from dataclasses import replace

import pytest

from harmoni.dicom.commitment_data import Reference
from harmoni.index import commitment, ingest
from harmoni.index.commitment import Transaction
from harmoni.model.errors import AlreadyHeld, NotHeld
from index_samples import CT, instance

REFERENCES = tuple(
    Reference(sop_class_uid=CT, sop_instance_uid=uid) for uid in ("1.2.3.4", "1.2.3.5")
)
REQUEST = Transaction(
    requester="PACS",
    transaction_uid="1.9",
    accepted_at_ms=1,
    grace_until_ms=2,
    references=REFERENCES,
)


def unresolved(connection):
    return [
        commitment.transaction(connection, *key) for key in commitment.unresolved_since(connection)
    ]


def test_a_transaction_goes_from_request_to_answered_report(database):
    with database.write(durable=True) as connection:
        commitment.accept(connection, REQUEST)
        assert unresolved(connection) == [REQUEST]
        assert commitment.pending(connection, "PACS") == []
        outcome = replace(
            REQUEST, references=(REFERENCES[0], replace(REFERENCES[1], failure_reason=0x0112))
        )
        commitment.resolve(connection, outcome, at_ms=5)
        assert unresolved(connection) == []
        assert commitment.requesters(connection) == ["PACS"]
        assert commitment.pending(connection, "OTHER") == []
        [report] = commitment.pending(connection, "PACS")
        assert report == replace(outcome, resolved_at_ms=5)
        commitment.answered(connection, report.requester, report.transaction_uid, at_ms=7)
        assert commitment.pending(connection, "PACS") == []
        assert commitment.requesters(connection) == []


def test_the_same_request_again_is_no_change_even_after_its_end(database):
    with database.write(durable=True) as connection:
        commitment.accept(connection, REQUEST)
        again = replace(REQUEST, references=REFERENCES[::-1], accepted_at_ms=9)
        commitment.accept(connection, again)
        commitment.resolve(connection, REQUEST, at_ms=5)
        commitment.accept(connection, again)
        assert commitment.pending(connection, "PACS") == [replace(REQUEST, resolved_at_ms=5)]


def test_other_content_under_the_same_uid_is_refused(database):
    with database.write(durable=True) as connection:
        commitment.accept(connection, REQUEST)
        with pytest.raises(AlreadyHeld, match="new Transaction UID"):
            commitment.accept(connection, replace(REQUEST, references=REFERENCES[:1]))


def test_two_requesters_may_use_the_same_uid(database):
    with database.write(durable=True) as connection:
        commitment.accept(connection, REQUEST)
        commitment.accept(
            connection, replace(REQUEST, requester="OTHER", references=REFERENCES[:1])
        )
        assert len(unresolved(connection)) == 2


def test_what_is_final_stays(database):
    with database.write(durable=True) as connection:
        commitment.accept(connection, REQUEST)
        commitment.resolve(connection, REQUEST, at_ms=5)
        failed = tuple(replace(one, failure_reason=0x0110) for one in REFERENCES)
        commitment.resolve(connection, replace(REQUEST, references=failed), at_ms=6)
        assert commitment.pending(connection, "PACS") == [replace(REQUEST, resolved_at_ms=5)]


def test_an_unknown_transaction_is_neither_resolved_nor_answered(database):
    with database.write(durable=True) as connection:
        with pytest.raises(NotHeld):
            commitment.resolve(connection, REQUEST, at_ms=1)
        with pytest.raises(NotHeld):
            commitment.answered(connection, REQUEST.requester, REQUEST.transaction_uid, at_ms=1)


def test_a_reference_means_every_version_or_the_one_with_its_hash(database):
    first, second = instance(), instance(content=b"other", pack=2)
    by_hash = replace(REFERENCES[0], sha256=second.identity.sha256)
    with database.write() as connection:
        ingest.record(connection, [first, second])
        found = commitment.copies(connection, replace(REQUEST, references=(*REFERENCES, by_hash)))
    assert [(reference, [held.location for held in copies]) for reference, copies in found] == [
        (REFERENCES[0], [first.location, second.location]),
        (REFERENCES[1], []),
        (by_hash, [second.location]),
    ]


def test_a_new_database_takes_over_every_transaction_as_it_stands(database, new_database):
    waiting = replace(REQUEST, transaction_uid="1.10", accepted_at_ms=2)
    by_hash = replace(REFERENCES[0], sha256=bytes(range(32)), failure_reason=0x0112)
    failed = replace(REQUEST, transaction_uid="1.11", references=(by_hash, REFERENCES[1]))
    asked = replace(failed, references=(replace(by_hash, failure_reason=None), REFERENCES[1]))
    with database.write(durable=True) as connection:
        for transaction in (REQUEST, waiting, asked):
            commitment.accept(connection, transaction)
        commitment.resolve(connection, REQUEST, at_ms=5)
        commitment.answered(connection, REQUEST.requester, REQUEST.transaction_uid, at_ms=6)
        commitment.resolve(connection, failed, at_ms=7)
    rebuilt = new_database()
    with database.reader() as source, rebuilt.write(durable=True) as target:
        commitment.take_over(source, target)
    with rebuilt.write(durable=True) as connection:
        assert unresolved(connection) == [waiting]
        assert commitment.pending(connection, "PACS") == [replace(failed, resolved_at_ms=7)]
        # Had the answered one been lost, its repetition would be a request anew.
        commitment.accept(connection, REQUEST)
        assert unresolved(connection) == [waiting]
    rebuilt.close()
