"""The spool keeps what it flushed, and every change to it shows."""

import errno
import hashlib
import itertools
import os
import threading
from contextlib import nullcontext

import pytest

from harmoni.audit import event as audit_event
from harmoni.audit import spool
from harmoni.audit.event import Act, AuditEvent
from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import AlreadyHeld, Damaged, InvalidInput, OutOfResources, StorageFailed
from harmoni.model.identifiers import WriterId

KEY = bytes(range(32))
SALT = bytes(32)
WRITER = WriterId("dc1-node1-w0")


def event(number: int) -> AuditEvent:
    return AuditEvent(act=Act.QUERY, at_ms=number, patient_ids=(f"patient {number}",))


@pytest.fixture
def store(tmp_path):
    return Filesystem(tmp_path)


def create(store, started_ms=1):
    return spool.Spool.create(store, writer=WRITER, started_ms=started_ms, key=KEY, salt=SALT)


@pytest.fixture
def written(store):
    """A spool of five events: its name and the offsets at which its records begin and end."""
    edges = [40]
    with create(store) as opened:
        for number in range(5):
            opened.append(event(number))
            edges.append(store.size_bytes(opened.name))
    return opened.name, edges


def test_events_come_back_in_order(store, written):
    name, _ = written
    assert spool.names(store) == [name] == ["audit/dc1-node1-w0-1.spool"]
    assert [(entry.sequence, entry.event) for entry in spool.read(store, name, KEY)] == [
        (number, event(number)) for number in range(5)
    ]
    assert spool.verify(store, name, KEY) == spool.Findings(5, 0, ())


def test_the_frozen_format_is_written_to_the_byte(store, written):
    """Version 1 for ever: docs/reference/audit-spool.md."""
    name, _ = written
    frozen = "621dc4984e133dcf2a27051b12b4264cdd0366c01f65b7a805c6a15fb314f2f9"
    assert hashlib.sha256(store.read(name)).hexdigest() == frozen


def test_a_record_of_a_later_program_is_told_from_an_altered_one(store, monkeypatch):
    with create(store) as opened:
        opened.append(event(0))
        with monkeypatch.context() as later:
            later.setattr(audit_event, "VERSION", 2)
            opened.append(event(1))
        opened.append(event(2))
    findings = spool.verify(store, opened.name, KEY)

    assert findings.records == 2
    [problem] = findings.problems
    assert ": record 1 at byte " in problem
    assert "is authentic and not known here: an audit event has version 2" in problem


def test_no_patient_data_stands_in_clear(store, written):
    name, _ = written
    assert b"patient" not in store.read(name)


def test_two_starts_of_a_writer_never_share_a_file_or_a_key(store, written):
    name, _ = written
    with create(store, started_ms=2) as second:
        second.append(event(0))
    records = [store.read(file)[40:] for file in (name, second.name)]
    assert records[0][44:60] != records[1][44:60]
    with pytest.raises(AlreadyHeld):
        create(store)


def test_a_writers_spools_are_in_order_though_the_clock_was_set_back(store):
    starts = []
    for now_ms in (1_793_491_200_000, 1_793_487_600_000, 0, 4_102_444_800_000):
        started_ms = spool.next_start_ms(store, WRITER, now_ms)
        create(store, started_ms).close()
        starts.append(started_ms)

    assert starts == sorted(set(starts))
    assert starts[-1] == 4_102_444_800_000
    assert spool.next_start_ms(store, WriterId("dc1-node1-other"), 5) == 5


def test_every_flipped_byte_is_found(store, written):
    name, _ = written
    path = store.path(name)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
        findings = spool.verify(store, name, KEY)
        assert findings.problems or findings.torn_bytes, position
        assert findings.records < 5, position


def test_a_broken_length_hides_no_later_record(store, written):
    name, edges = written
    path = store.path(name)
    data = bytearray(path.read_bytes())
    data[edges[1]] ^= 0xFF
    path.write_bytes(data)
    findings = spool.verify(store, name, KEY)
    assert findings.records == 4
    assert "record 1 at byte" in findings.problems[0]


def test_a_removed_record_is_a_gap(store, written):
    name, edges = written
    path = store.path(name)
    whole = path.read_bytes()
    path.write_bytes(whole[: edges[1]] + whole[edges[2] :])
    findings = spool.verify(store, name, KEY)
    assert findings.problems == (f"{name}: record 2 stands where 1 is due",)
    reader = spool.read(store, name, KEY)
    assert next(reader).sequence == 0
    with pytest.raises(Damaged, match="record 2 stands where 1 is due"):
        next(reader)


def test_swapped_and_repeated_records_are_found(store, written):
    name, edges = written
    path = store.path(name)
    whole = path.read_bytes()
    records = [whole[a:b] for a, b in itertools.pairwise(edges)]
    for order in ([0, 2, 1, 3, 4], [0, 1, 1, 2, 3, 4], [1, 2, 3, 4]):
        path.write_bytes(whole[:40] + b"".join(records[number] for number in order))
        assert spool.verify(store, name, KEY).problems, order


def test_a_record_of_another_file_is_found(store, written):
    name, edges = written
    with create(store, started_ms=2) as second:
        for number in range(5):
            second.append(event(number))
    path = store.path(name)
    path.write_bytes(path.read_bytes()[: edges[4]] + store.read(second.name)[edges[4] :])
    assert spool.verify(store, name, KEY).problems == (
        f"{name}: record 4 at byte {edges[4]} was altered",
    )


def test_a_torn_tail_is_reported_and_costs_only_itself(store, written):
    name, edges = written
    path = store.path(name)
    whole = path.read_bytes()
    for end in range(edges[4] + 1, edges[5]):
        path.write_bytes(whole[:end])
        assert spool.verify(store, name, KEY) == spool.Findings(4, end - edges[4], ())
    assert [entry.sequence for entry in spool.read(store, name, KEY)] == [0, 1, 2, 3]


def test_a_tail_of_zeros_is_torn(store, written):
    name, edges = written
    path = store.path(name)
    path.write_bytes(path.read_bytes()[: edges[4]] + bytes(500))
    assert spool.verify(store, name, KEY) == spool.Findings(4, 500, ())


def test_another_key_opens_nothing(store, written):
    name, _ = written
    assert spool.verify(store, name, bytes(32)).records == 0
    with pytest.raises(Damaged):
        next(spool.read(store, name, bytes(32)))


def test_a_renamed_file_is_found(store, written):
    name, _ = written
    store.rename(name, "audit/dc1-node1-w1-1.spool")
    assert spool.verify(store, "audit/dc1-node1-w1-1.spool", KEY).records == 0


def test_threads_append_whole_records_without_gaps(store):
    with create(store) as opened:

        def append() -> None:
            for number in range(20):
                opened.append(event(number))
            opened.flush()

        threads = [threading.Thread(target=append) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert spool.verify(store, opened.name, KEY) == spool.Findings(80, 0, ())


@pytest.mark.parametrize(
    ("call", "closing"),
    [
        ("pwritev", nullcontext()),
        ("fdatasync", pytest.raises(StorageFailed, match="may be lost")),
    ],
)
def test_a_failed_write_or_flush_fences_the_spool(store, monkeypatch, call, closing):
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "input/output error")

    opened = create(store)
    opened.append(event(0))
    with monkeypatch.context() as failing:
        failing.setattr(os, call, fail)
        with pytest.raises(StorageFailed):  # noqa: PT012 - one of the two fails
            opened.append(event(1))
            opened.flush()
    assert opened.fenced
    with pytest.raises(StorageFailed, match="closed for good"):
        opened.append(event(2))
    with pytest.raises(StorageFailed, match="closed for good"):
        opened.flush()
    with closing:
        opened.close()


def test_a_spool_that_cannot_be_made_durable_leaves_no_file(store, monkeypatch):
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(os, "pwritev", fail)
        with pytest.raises(OutOfResources):
            create(store)
    assert spool.names(store) == []


def test_flush_reaches_the_disk_once_for_what_is_new(store, monkeypatch):
    calls = []
    real = os.fdatasync
    opened = create(store)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: calls.append(real(descriptor)))
    opened.append(event(0))
    opened.append(event(1))
    opened.flush()
    opened.flush()
    opened.close()
    assert len(calls) == 1


def test_an_event_beyond_the_limit_is_refused_and_leaves_no_gap(store, monkeypatch):
    monkeypatch.setattr(spool, "MAX_EVENT_BYTES", 1000)
    with create(store) as opened:
        with pytest.raises(InvalidInput):
            opened.append(AuditEvent(act=Act.QUERY, at_ms=0, reason="x" * 1000))
        assert opened.append(event(0)) == 0
    assert spool.verify(store, opened.name, KEY) == spool.Findings(1, 0, ())


def test_a_key_of_another_length_is_refused(store):
    with pytest.raises(InvalidInput, match="32"):
        spool.Spool.create(store, writer=WRITER, started_ms=1, key=b"short", salt=SALT)
