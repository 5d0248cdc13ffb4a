"""Scenario: a disk harms sealed packs; a scrub tells of it, a whole copy from elsewhere repairs."""

import shutil
from functools import partial
from pathlib import Path

import house as houses
from crash import journal as j
from crash.look import check
from crash.promised import Promised
from crash.work import Again, Work, files
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.repair import Source, copy_below
from harmoni.holdings.scrub import Scrubber
from harmoni.index import lookup
from harmoni.index.packs import PackState
from harmoni.index.scrubbing import Due
from harmoni.vault.layout import Layout
from house import House

_LABEL = "dc2"
_HARM_OFFSET, _HARM_BYTES = 300, 600
_PIXELS = 1500
EVERY_PACK = Due(scrubbed_before_ms=1 << 60, sealed_before_ms=1 << 60)


def scrub_and_repair(work: Work) -> Again:
    """One pack damaged and one gone; noted, healed by a re-send, repaired while more comes in."""
    worker, keeper = work.process("dc1-n1-w1"), work.process("dc1-n1-k1")
    work.phase("before damage")
    for number, study in ((1, 1), (2, 1), (3, 2), (4, 3)):
        work.store(worker, number, study, pixels=_PIXELS)
    work.record(keeper, "hold", "1.2.3")
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    place = work.root.parent / "elsewhere"
    shutil.copytree(work.root / "packs", place / "packs")
    work.phase("flush")
    work.store(worker, 5, study=4)
    work.flush(keeper)
    work.store(worker, 6, study=4)
    work.phase("damage")
    _corrupt(work, worker, 1)
    _lose(work, worker, 3)
    work.phase("scrub")
    for pack_id in keeper.holding.presence.check().missing:
        work.journal.note(j.Told(str(pack_id), PackState.MISSING, (houses.uid(3),)))
    _scrub(work, keeper.holding.scrubber)
    work.store(worker, 1, study=1, pixels=_PIXELS)
    work.phase("repair")
    operator = work.process("dc1-n1-cli")
    going_on = iter((7, 8, 9, 10))

    def meanwhile(_name: str) -> None:
        for number in going_on:
            work.store(worker, number, study=4)
            break

    files(operator).meanwhile = meanwhile
    for each in operator.holding.repairer.run(_copies(place), _LABEL):
        check(each.repaired, f"not repaired: {each.why}")
        work.journal.note(j.Repaired(str(each.pack_id)))
    work.phase("after repair")
    operator.holding.events.retire()
    work.flush(keeper)
    worker.holding.recorder.packs.retire_all()
    work.finish(keeper)
    _scrub(work, keeper.holding.scrubber)
    return partial(repair_again, place)


def repair_again(place: Path, house: House, _promised: Promised) -> None:
    """Scrub and repair: whatever a crash has left of either, and then nothing is wrong any more."""
    holding = house.holding
    list(holding.scrubber.run(EVERY_PACK))
    for each in holding.repairer.run(_copies(place), _LABEL):
        check(each.repaired, f"not repaired: {each.why}")
    holding.events.retire()
    _, failures = holding.sealer.finish_free()
    check(not failures, f"not finished after a repair: {failures}")
    found = [each for each in holding.scrubber.run(EVERY_PACK) if not each.sound]
    check(not found, f"still found after a repair: {found}")
    left = house.files("packs/**/*.repair")
    check(not left, f"left behind by a repair: {left}")


def _copies(place: Path) -> Source:
    return copy_below(Filesystem(place), Layout(houses.HOSPITAL))


def _scrub(work: Work, scrubber: Scrubber) -> None:
    for verdict in scrubber.run(EVERY_PACK):
        if not verdict.sound:
            work.journal.note(j.Told(str(verdict.pack_id), verdict.state, verdict.instances))


def _corrupt(work: Work, house: House, number: int) -> None:
    """A disk gives other bytes for a part of one instance, now and for ever."""
    [held] = house.versions(number)
    name = house.holding.layout.sealed_pack(held.location.pack_id)
    work.journal.note(j.Harmed(str(held.location.pack_id), (number,)))
    house.site.files.path(name).chmod(0o600)
    with files(house).open(name, writable=True) as file:
        file.write([bytes(_HARM_BYTES)], held.location.offset + _HARM_OFFSET)
        file.sync()


def _lose(work: Work, house: House, number: int) -> None:
    """A pack is gone, with all that is in it."""
    [held] = house.versions(number)
    with house.holding.index.reader() as connection:
        members = lookup.members(connection, held.location.pack_id)
    assert len(members) == 1
    name = house.holding.layout.sealed_pack(held.location.pack_id)
    work.journal.note(j.Harmed(str(held.location.pack_id), (number,)))
    files(house).remove(name)
    files(house).sync_directory(name.rpartition("/")[0])
