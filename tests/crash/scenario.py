"""The work whose crash states are looked at: real processes' objects on a recording file system.

Two workers and a keeper of one hospital, each with a holding of its own, act in turns; what runs
while a pack is moved runs through `RecordingFilesystem.meanwhile`.
"""

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
from crash.recording import Numbers, RecordingFilesystem, baseline
from harmoni.holdings import record, spill
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.holdings.holding import Holding
from harmoni.index import lookup
from harmoni.model.errors import HarmoniError
from harmoni.testing import FakeClock
from house import House

CENTRE = "centre"
# Small enough that every kind of instance has few sectors.
_SMALL_BYTES, _WRITE_BYTES, _GIANT_BYTES = 3000, 1024, 9000
GATEWAY: dict[str, Any] = {
    "destination": CENTRE,
    "policy": CommitmentPolicy(safe_copies=1, elsewhere=True),
}


@dataclass(slots=True)
class Run:
    """A run that was recorded, and what a new process needs to look at its disk."""

    journal: j.Journal
    custody_key: bytes
    terms: dict[str, Any]
    ended_s: float
    """How long the run took by its own clock."""
    lost_index: bool = False
    """Whether the index had been removed before the run began."""


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
        made = houses.make_house(root, **terms)
        self.custody_key = made.site.custody_key
        self.clock = FakeClock()
        database = made.holding.index.database()
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

    def ended(self) -> Run:
        return Run(self.journal, self.custody_key, self.terms, self.clock.monotonic_s() - 1000.0)


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


def receive_and_seal(work: Work) -> None:
    """Two workers, two packs each, interleaved; packs fenced and salvaged; all of it sealed."""
    first, second = work.process("dc1-n1-w1"), work.process("dc1-n1-w2")
    keeper = work.process("dc1-n1-k1")
    work.phase("receive")
    work.store(first, 1, study=1)
    work.store(second, 2, study=2)
    work.store(first, 3, study=1)
    work.store(first, 4, study=3)
    work.store(second, 5, study=4)
    work.store(second, 6, study=2)
    work.phase("events")
    work.record(keeper, "hold", "1.2.3")
    work.record(keeper, "hold", "1.2.4")
    work.phase("large")
    work.store(first, 7, study=1, pixels=5000)
    work.store(second, 8, study=2, pixels=10_000)
    work.phase("seal")
    packs = first.holding.recorder.packs
    packs.retire_all()
    going_on = iter([9, 10])

    def meanwhile(new: str) -> None:
        if "/p/" in new:
            for number in going_on:
                work.store(second, number, study=4)
                break

    files(keeper).meanwhile = meanwhile
    work.finish(keeper)
    files(keeper).meanwhile = None
    work.phase("fence")
    work.store(first, 11, study=5)
    work.refused(first, 12, 5, "sync")
    work.store(first, 13, study=5)
    work.refused(second, 14, 4, "write")
    work.store(second, 14, study=4)
    work.phase("salvage")
    first.holding.recorder.packs.retire_all()
    second.holding.recorder.packs.retire_all()
    work.finish(keeper)
    keeper.holding.events.retire()
    work.finish(keeper)


def rebuild(work: Work) -> None:
    """The index rebuilt beside the live one, rows taken in after the swap; lost, and rebuilt."""
    worker, keeper = work.process("dc1-n1-w1"), work.process("dc1-n1-k1")
    work.phase("before rebuild")
    work.store(worker, 1, study=1)
    work.store(worker, 6, study=3)
    work.record(keeper, "hold", "1.2.3")
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    work.store(worker, 2, study=1)
    work.phase("rebuild")
    operator = work.process("dc1-n1-cli")
    arriving = work.begin(worker, 7, study=2, pixels=12_000)
    assert operator.holding.rebuilder().rebuild().equal
    work.store(worker, 3, study=1)
    work.complete(arriving)
    work.store(worker, 4, study=2, pixels=5000)
    work.phase("rebuild of a lost index")
    files(operator).remove(operator.holding.layout.current_index)
    files(operator).sync_directory(operator.holding.layout.index)
    assert work.process("dc1-n1-cli").holding.rebuilder().rebuild().equal is None
    work.store(worker, 5, study=2)
    work.phase("after rebuild")
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)


def let_go(work: Work) -> None:
    """A gateway that evicts what the centre has committed, and takes in more."""
    worker, keeper = work.process("dc1-n1-w1"), work.process("dc1-n1-k1")
    work.phase("before eviction")
    for number, study in ((1, 1), (2, 1), (3, 2)):
        work.store(worker, number, study=study)
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    assert list(keeper.holding.conflicts.compare(60)) == []
    work.phase("commitment")
    for study, numbers in ((1, (1, 2)), (2, (3,))):
        work.record(keeper, "commitment", study_uid(study), **_report(keeper, numbers))
    work.phase("evict")
    for study in (1, 2):
        assert keeper.holding.let_go.evict(study_uid(study)).packs == 1
        work.store(worker, 3 + study, study=3, pixels=5000 * study)
    work.store(worker, 6, study=1)
    work.phase("after eviction")
    keeper.holding.events.retire()
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)


def _report(house: House, numbers: tuple[int, ...]) -> dict[str, Any]:
    with house.holding.index.reader() as connection:
        held = [each for n in numbers for each in lookup.versions(connection, houses.uid(n))]
    return {
        "by": CENTRE,
        "copies": 1,
        "places": ["dc1"],
        "transaction": "1.2",
        "instances": [
            {
                "sop_instance_uid": each.sop_instance_uid,
                "sha256": each.identity.sha256.hex(),
                "transfer_syntax": each.identity.transfer_syntax_uid,
            }
            for each in held
        ],
    }


SCENARIOS: dict[str, tuple[Callable[[Work], None], dict[str, Any]]] = {
    "receive and seal": (receive_and_seal, {}),
    "rebuild": (rebuild, {}),
    "let go": (let_go, GATEWAY),
}


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """The same salts, ids and keys at every run, and large instances that are small."""
    numbers = iter(range(seed << 32, (seed + 1) << 32))

    def urandom(size: int) -> bytes:
        import hashlib

        return hashlib.shake_256(next(numbers).to_bytes(16, "big")).digest(size)

    with (
        patch.object(os, "urandom", urandom),
        patch.object(record, "SMALL_BYTES", _SMALL_BYTES),
        patch.object(spill, "_WRITE_BYTES", _WRITE_BYTES),
        patch.object(spill, "GIANT_BYTES", _GIANT_BYTES),
    ):
        yield


def play(name: str, root: Path, seed: int) -> Run:
    """Run a scenario below an empty directory, recorded."""
    act, terms = SCENARIOS[name]
    store = root / "data"
    store.mkdir(parents=True)
    with deterministic(seed):
        work = Work(store, terms)
        with index_log.recorded(work.journal, store, root):
            act(work)
        return work.ended()
