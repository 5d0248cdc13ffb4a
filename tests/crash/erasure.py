"""Scenario: two studies are erased while others are taken in, and an instance comes again."""

from contextlib import suppress

from crash import journal as j
from crash.look import check, opens
from crash.promised import Promised
from crash.work import Again, Work, files, study_uid
from harmoni.index import packs
from harmoni.index.packs import PackState
from harmoni.model.errors import NotHeld
from harmoni.model.identifiers import PackId
from house import House


def erase(work: Work) -> Again:
    """What an erasure destroys is gone for ever once it is acknowledged; nothing else ever goes."""
    worker, keeper = work.process("dc1-n1-w1"), work.process("dc1-n1-k1")
    operator = work.process("dc1-n1-cli")
    work.phase("before erasure")
    for number, study in ((1, 1), (2, 1), (3, 2), (4, 3)):
        work.store(worker, number, study)
    for study in (1, 2, 3):
        work.record(keeper, "hold", study_uid(study))
    keeper.holding.events.retire()
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    work.store(worker, 5, study=2)
    layout, going_on = operator.holding.layout, iter((6, 7))

    def meanwhile(name: str) -> None:
        # While keys leave their blocks; before that nobody can take anything in.
        if name.startswith(layout.writer_keys(worker.site.writer)):
            for number in going_on:
                work.store(worker, number, study=2)
                break

    for study, numbers in ((1, (1, 2)), (3, (4,))):
        work.phase(f"erase study {study}")
        ids = {each.location.pack_id for n in numbers for each in worker.versions(n)}
        work.journal.note(j.Erasing(study_uid(study), numbers, tuple(sorted(map(str, ids)))))
        files(operator).meanwhile = meanwhile
        operator.holding.eraser.erase(study_uid(study))
        files(operator).meanwhile = None
        work.journal.note(j.Destroyed(study_uid(study)))
        work.store(worker, 7 + study, study=2)
    work.phase("after erasure")
    work.store(worker, 2, study=1)
    operator.holding.events.retire()
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    return erase_again


def erase_again(house: House, promised: Promised) -> None:
    """Before the command runs again a study is there or is erased, never half; then it is."""
    for erasing in promised.erasing.values():
        states = {_state(house, pack_id) for pack_id in erasing.pack_ids}
        check(len(states) == 1, f"half erased: {states}")
        if states != {PackState.ERASED}:
            there = all(house.recall(house.versions(n)[0]) for n in erasing.numbers)
            check(erasing.study not in promised.destroyed, f"{erasing.study} is not erased")
            check(there, f"{erasing.study} is neither erased nor there")
            with suppress(NotHeld):
                house.holding.eraser.erase(erasing.study)
            house.holding.events.retire()
            _, failures = house.holding.sealer.finish_free()
            check(not failures, f"not finished after an erasure: {failures}")
        for pack_id in erasing.pack_ids:
            check(_state(house, pack_id) is PackState.ERASED, f"pack {pack_id} is not erased")
            check(not opens(house, pack_id), f"the key of erased pack {pack_id} is there")


def _state(house: House, pack_id: str) -> PackState | None:
    with house.holding.index.reader() as connection:
        row = packs.pack(connection, PackId(pack_id))
    return None if row is None else row.state
