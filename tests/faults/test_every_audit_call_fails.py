"""Every system call of the audit door failing in turn: nobody is told what is not on record.

A worker's shift: a stranger, queries, instances, the flush of every second, the end. The N-th call
fails, for every N, in every way. Then the power fails: what was not flushed is cut off, names that
were not flushed are gone. What was told durable must be in a spool that verifies.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from failing_calls import FAULTS, Faulty
from harmoni.audit import spool
from harmoni.audit.event import Act, AuditEvent, Outcome, Participant
from harmoni.audit.spool import Spool
from harmoni.backends import filesystem
from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import HarmoniError, OutOfResources, StorageFailed
from harmoni.model.identifiers import WriterId
from harmoni.role.trail import AuditDoor
from harmoni.testing import FakeClock

KEY = bytes(range(32))
THREADS = 6
EVENTS = 100


class Flushing(Faulty):
    """Knows besides how long each file was when it was flushed, and which names were."""

    def __init__(self, fault):
        super().__init__(fault)
        self.flushed = {}
        self.named = set()

    def _counted(self, name, real):
        call = super()._counted(name, real)

        def noting(*args, **kwargs):
            result = call(*args, **kwargs)
            if name == "fdatasync":
                state = os.fstat(args[0])
                self.flushed[state.st_ino] = state.st_size
            elif name == "fsync":
                folder = Path(f"/proc/self/fd/{args[0]}").readlink()
                self.named |= set(folder.iterdir())
            return result

        return noting

    def cut_power(self, folder):
        """Leave of the spools what was flushed; they only grow, so that is their beginning."""
        for path in folder.iterdir():
            if path in self.named:
                os.truncate(path, self.flushed.get(path.stat().st_ino, 0))
            else:
                path.unlink()


class Shift:
    """A worker's audit door, what was asked of it, and what it told."""

    def __init__(self, folder, clock):
        self._files = Filesystem(folder)
        self._clock = clock
        self._number = 0
        self._pending = set()
        self.durable = set()
        self.refused = 0

    def open_spool(self):
        self._clock.advance(0.001)
        return Spool.create(
            self._files,
            writer=WriterId("dc1-n1-w0"),
            started_ms=self._clock.now_ms(),
            key=KEY,
            salt=os.urandom(spool.SALT_BYTES),
        )

    @contextmanager
    def told(self):
        """A refusal is one of the two errors that callers expect, and is counted."""
        try:
            yield
        except (OutOfResources, StorageFailed):
            self.refused += 1
        except HarmoniError as error:  # a peer would get the wrong status
            pytest.fail(f"{type(error).__name__}: {error}")

    def event(self):
        self._number += 1
        return AuditEvent(
            act=Act.QUERY,
            at_ms=self._clock.now_ms(),
            who=Participant(address="192.0.2.7"),
            outcome=Outcome.SUCCESS,
            reason=str(self._number),
        )

    def write(self, door, count=1):
        events = [self.event() for _ in range(count)]
        with self.told():
            door.write(events)
            self.durable |= {event.reason for event in events}

    def append(self, door):
        event = self.event()
        with self.told():
            door.append([event])
            self._pending.add(event.reason)

    def flush(self, door):
        """Those who appended are answered for here: by success, or by an error in the log."""
        pending, self._pending = self._pending, set()
        with self.told():
            door.flush()
            self.durable |= pending

    def work(self):
        with self.told(), AuditDoor(self.open_spool, self._clock) as door:
            self.write(door)
            for _ in range(3):
                self.append(door)
                self.append(door)
                self.write(door, count=2)
                self.append(door)
                self.flush(door)
            self.append(door)
            self.append(door)
            pending, self._pending = self._pending, set()
        if not self.refused:  # the end of the block flushed them
            self.durable |= pending


def kept(folder):
    """The events in every spool by number; nothing in a spool is wrong."""
    files = Filesystem(folder)
    found = []
    for name in spool.names(files):
        assert spool.verify(files, name, KEY).problems == ()
        found += [entry.event.reason for entry in spool.read(files, name, KEY)]
    assert len(found) == len(set(found))
    return set(found)


def run(folder, monkeypatch, fault, fails_at):
    """A shift with one fault, one without, and a power failure."""
    faulty = Flushing(fault)
    shift = Shift(folder, FakeClock())
    with monkeypatch.context() as patched:
        patched.setattr(filesystem, "os", faulty)
        faulty.fails_at = fails_at
        shift.work()
        faulty.fails_at = 0
        refused = shift.refused
        shift.work()
        assert shift.refused == refused, "the fault is gone, yet something was refused"
    everything = kept(folder)
    assert shift.durable <= everything
    faulty.cut_power(folder / spool.FOLDER)
    assert shift.durable <= kept(folder)
    return faulty, shift


@pytest.mark.parametrize("fault", list(FAULTS))
def test_whichever_call_of_the_audit_door_fails_nothing_told_durable_is_lost(
    fault, tmp_path_factory, monkeypatch
):
    quiet, calm = run(tmp_path_factory.mktemp("quiet"), monkeypatch, fault, 0)
    assert not quiet.failed
    assert not calm.refused
    met = set()
    for fails_at in range(1, quiet.calls // 2 + 1):
        try:
            faulty, shift = run(tmp_path_factory.mktemp("run"), monkeypatch, fault, fails_at)
        except BaseException as error:
            error.add_note(f"{fault}: call {fails_at} of the shift")
            raise
        met.add(faulty.failed)
        assert shift.refused, f"{faulty.failed}, call {fails_at}: nobody was told"
    assert met >= {"fdatasync", "fsync", "mkdir", "open", "pwritev"}


def test_what_many_threads_were_told_durable_is_kept_though_flushes_fail(tmp_path, monkeypatch):
    """One thread's failed flush must not leave another's event to the flush of the next spool."""
    faulty = Flushing("failing disk")
    faulty.fails_at = 10
    shift = Shift(tmp_path, FakeClock())
    again = threading.Lock()

    def writer(number):
        for count in range(EVENTS):
            event = AuditEvent(act=Act.QUERY, at_ms=1, reason=f"{number}.{count}")
            with shift.told():
                door.write([event])
                shift.durable.add(event.reason)
            with again:  # the next fault is never far
                if faulty.fails_at < faulty.calls:
                    faulty.fails_at = faulty.calls + 5

    with monkeypatch.context() as patched:
        patched.setattr(filesystem, "os", faulty)
        with (
            shift.told(),
            AuditDoor(shift.open_spool, FakeClock()) as door,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            list(threads.map(writer, range(THREADS)))
        faulty.fails_at = 0
    assert shift.refused
    assert shift.durable
    faulty.cut_power(tmp_path / spool.FOLDER)
    assert shift.durable <= kept(tmp_path)
