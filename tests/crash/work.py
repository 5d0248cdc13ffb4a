"""What a scenario works with: real processes' objects on a recording file system."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import house as houses
from crash import index_log
from crash import journal as j
from crash.promised import Promised
from crash.recording import Numbers, RecordingFilesystem, baseline
from harmoni.holdings import record, spill
from harmoni.holdings.holding import Holding
from harmoni.model.errors import HarmoniError
from harmoni.sealing import age, keys
from harmoni.testing import FakeClock
from house import House

# Small enough that every kind of instance has few sectors.
_SMALL_BYTES, _WRITE_BYTES, _GIANT_BYTES = 3000, 1024, 9000
# A key block of few keys is a block: one whose other keys were erased.
_ROWS = 16


@dataclass(slots=True)
class Run:
    """A run that was recorded, and what a new process needs to look at its disk."""

    journal: j.Journal
    custody_key: bytes
    terms: dict[str, Any]
    ended_s: float
    """How long the run took by its own clock."""
    again: "Again | None" = None
    lost_index: bool = False
    """Whether the index had been removed before the run began."""


Again = Callable[[House, Promised], None]
"""What an operator does after a crash: the command that was cut short, once more."""


@dataclass(frozen=True, slots=True)
class Arriving:
    """An instance of which half is there."""

    number: int
    data: bytes
    incoming: record.Incoming


class Work:
    """A hospital that is recorded from now on."""

    def __init__(self, root: Path, terms: dict[str, Any]) -> None:
        self.root = root
        self.terms = terms
        self.custody_key = os.urandom(32)
        self.recovery = age.generate_identity(random=os.urandom(32))
        self.clock = FakeClock()
        site = houses.make_site(root, FakeClock(), self.custody_key, "dc1-n1-w0", **terms)
        made = Holding.create(site, houses.HOSPITAL, self.recovery.recipient())
        database = made.index.database()
        self.numbers = Numbers()
        self.journal = baseline(root, self.numbers)
        self.journal.databases = {
            str(database.path.relative_to(root)): index_log.copy(database, root.parent)
        }

    def process(self, writer: str) -> House:
        """Another process of this site, recorded as well."""
        site = houses.make_site(
            self.root,
            self.clock,
            self.custody_key,
            writer,
            files=RecordingFilesystem(self.root, self.journal, self.numbers),
            **self.terms,
        )
        return House(site, Holding(site, houses.HOSPITAL))

    def phase(self, name: str) -> None:
        self.journal.note(j.Phase(name))

    def store(self, house: House, number: int, study: int = 1, pixels: int = 200) -> None:
        """Take one instance in and note that it was acknowledged."""
        data = data_set(number, study, pixels)
        house.store(data, number, step=1500)
        self.journal.note(j.Stored(number, data))
        self.clock.advance(0.01)

    def begin(self, house: House, number: int, study: int, pixels: int) -> "Arriving":
        """Take half of an instance in; it is acknowledged by `complete`."""
        data = data_set(number, study, pixels)
        incoming = house.begin(number)
        houses.pour(incoming, data[: len(data) // 2], 1500)
        return Arriving(number, data, incoming)

    def complete(self, arriving: "Arriving") -> None:
        """Take the other half in."""
        data = arriving.data
        houses.pour(arriving.incoming, data[len(data) // 2 :], 1500)
        arriving.incoming.finish()
        self.journal.note(j.Stored(arriving.number, data))

    def record(self, house: House, kind: str, mark: str, **body: Any) -> None:
        house.holding.events.record(kind, {"mark": mark, **body}, subject=mark)
        self.journal.note(j.Recorded(kind, mark))

    def finish(self, house: House) -> None:
        """What the keeper does each second; finished packs are noted."""
        finished, failures = house.holding.sealer.finish_free()
        assert failures == {}, failures
        for each in finished:
            if each.sealed is not None:
                self.journal.note(j.Sealed(str(each.pack_id), each.sealed.sha256))

    def refused(self, house: House, number: int, study: int, act: str) -> None:
        """An instance whose write or flush fails: nobody is told that it is stored."""
        files(house).fail_next(act, ".new")  # the name it was made under
        try:
            house.store(data_set(number, study, 200), number)
        except HarmoniError:
            return
        raise AssertionError("a failed write was acknowledged")

    def flush(self, house: House) -> None:
        """What the keeper does first each second."""
        house.holding.index.flush_if_changed()
        self.journal.note(j.Flushed())

    def ended(self, again: Again | None) -> Run:
        return Run(
            self.journal,
            self.custody_key,
            self.terms,
            self.clock.monotonic_s() - 1000.0,
            again=again,
        )


def files(house: House) -> RecordingFilesystem:
    found = house.site.files
    assert isinstance(found, RecordingFilesystem)
    return found


def study_uid(study: int) -> str:
    return f"{houses.STUDY}.{study}"


def data_set(number: int, study: int, pixels: int) -> bytes:
    return houses.data_set(
        number,
        study=study_uid(study),
        series=f"{study_uid(study)}.1",
        pixels=bytes((number * 7 + place) % 251 for place in range(pixels)),
    )


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """The same salts, ids and keys at every run, and large instances that are small."""
    numbers = iter(range(seed << 32, (seed + 1) << 32))

    def urandom(size: int) -> bytes:
        return hashlib.shake_256(next(numbers).to_bytes(16, "big")).digest(size)

    with (
        patch.object(os, "urandom", urandom),
        patch.object(record, "SMALL_BYTES", _SMALL_BYTES),
        patch.object(spill, "_WRITE_BYTES", _WRITE_BYTES),
        patch.object(spill, "GIANT_BYTES", _GIANT_BYTES),
        patch.object(keys, "ROWS", _ROWS),
        patch.object(keys, "BLOCK_RANDOM_BYTES", keys.BLOCK_RANDOM_BYTES // keys.ROWS * _ROWS),
    ):
        yield
