"""The work whose crash states are looked at.

Workers, a keeper and an operator of one hospital, each with a holding of its own, act in turns;
what runs while a pack is moved runs through `RecordingFilesystem.meanwhile`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import house as houses
from crash import index_log
from crash.damage import scrub_and_repair
from crash.erasure import erase
from crash.rotation import rotate
from crash.work import Again, Run, Work, deterministic, files, study_uid
from harmoni.holdings.commit import CommitmentPolicy
from harmoni.index import lookup
from harmoni.vault.layout import PACK_SUFFIX
from house import House

CENTRE = "centre"
GATEWAY: dict[str, Any] = {
    "destination": CENTRE,
    "policy": CommitmentPolicy(safe_copies=1, elsewhere=True),
}


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
        if "/p/" in new and new.endswith(PACK_SUFFIX):
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


Act = Callable[[Work], Again | None]
"""A piece of work; gives what an operator does again when it was cut short."""

SCENARIOS: dict[str, tuple[Act, dict[str, Any]]] = {
    "receive and seal": (receive_and_seal, {}),
    "rebuild": (rebuild, {}),
    "let go": (let_go, GATEWAY),
    "scrub and repair": (scrub_and_repair, {}),
    "rotate keys": (rotate, {}),
    "erase": (erase, {}),
}


def play(name: str, root: Path, seed: int) -> Run:
    """Run a scenario below an empty directory, recorded."""
    act, terms = SCENARIOS[name]
    store = root / "data"
    store.mkdir(parents=True)
    with deterministic(seed):
        work = Work(store, terms)
        with index_log.recorded(work.journal, store, root):
            again = act(work)
        return work.ended(again)
