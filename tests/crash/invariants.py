"""What must hold after every crash, once recovery has run: docs/reference/crash-testing.md."""

import shutil
from pathlib import Path
from random import Random

import house as houses
from crash import journal as j
from crash import look
from crash.look import Violated, check
from crash.promised import Promised
from crash.states import State
from crash.work import Run
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.holding import Holding
from harmoni.index import equality
from harmoni.model.errors import HarmoniError, StorageFailed
from harmoni.testing import FakeClock
from harmoni.vault.layout import Layout
from house import House

_REBUILT_SHARE = 16
"""One of so many states is rebuilt as well, one of twice as many with the index lost."""
_SENT_AGAIN = 2
"""So many acknowledged instances are sent again."""
_WRITER = "dc1-n1-w9"


class Examiner:
    """Puts states on a disk, recovers, and looks.

    Args:
        run: where the states come from.
        root: a directory that may be filled and emptied.
    """

    def __init__(self, run: Run, root: Path) -> None:
        self._run = run
        self._root = root
        self._data = {
            houses.uid(entry.number): entry.data
            for entry in run.journal.entries
            if isinstance(entry, j.Stored)
        }

    def examine(self, state: State) -> None:
        """Recover from one state.

        Raises:
            Violated: an invariant does not hold.
        """
        promised = Promised.by(self._run.journal, state.point)
        self.put(state)
        chance = Random(state.key)
        share = chance.randrange(2 * _REBUILT_SHARE)
        try:
            if share == 1:
                self._lose_index()
            house = self.process()
            logged = {str(record.pack_id): record for record in house.holding.log.readable()}
            if share != 1:
                look.what_was_told_holds(house, promised)
            self.recover(house, promised, may_rebuild=share == 1 or self._may_be_lost(state))
            if self._run.again is not None:
                house = self.process()
            look.all_is_kept(house, promised, self._data)
            for pack_id, record in logged.items():
                check(house.holding.log.find(record.pack_id) == record, "log changed")
                look.is_unchanged(house, pack_id, record.sha256)
            if share in {2, 2 + _REBUILT_SHARE}:
                house = self._rebuild(house, promised, lost=share == 2)
            again = chance.sample(sorted(promised.stored), min(_SENT_AGAIN, len(promised.stored)))
            look.answers_again(house, promised, again)
        except Violated as violation:
            raise Violated(f"{violation}; {state.how}") from violation
        except HarmoniError as error:
            raise Violated(f"{type(error).__name__} {error}; {state.how}") from error
        finally:
            self.clear()

    def put(self, state: State) -> None:
        """Make the disk of a state."""
        self._root.mkdir()
        for folder in state.folders:
            (self._root / folder).mkdir()
        for name, data in state.files.items():
            (self._root / name).write_bytes(data)
        if state.database is not None:
            (self._root / state.database[0]).write_bytes(state.database[1])

    def clear(self) -> None:
        """Empty the directory again."""
        shutil.rmtree(self._root)

    def process(self, files: Filesystem | None = None) -> House:
        """A process that starts an hour after the run ended."""
        clock = FakeClock()
        clock.advance(self._run.ended_s + 3600)
        changes = self._run.terms | ({} if files is None else {"files": files})
        site = houses.make_site(self._root, clock, self._run.custody_key, _WRITER, **changes)
        return House(site, Holding(site, houses.HOSPITAL))

    def _lose_index(self) -> None:
        folder = self._root / "index" / str(houses.HOSPITAL)
        for path in folder.glob("*.sqlite*"):
            path.unlink()

    def _may_be_lost(self, state: State) -> bool:
        """Whether the run itself had removed the index."""
        return self._run.lost_index or any(
            isinstance(entry, j.Unlink) and entry.name == Layout(houses.HOSPITAL).current_index
            for entry in self._run.journal.entries[: state.point]
        )

    def recover(self, house: House, promised: Promised, *, may_rebuild: bool) -> None:
        """What a keeper does after start, and the operator whose command was cut short.

        And before them, where the index is lost, the operator who has it rebuilt.
        """
        self._keep(house, promised, may_rebuild=may_rebuild)
        if self._run.again is not None:
            look.is_readable(house, promised, self._data)
            self._run.again(house, promised)

    def _keep(self, house: House, promised: Promised, *, may_rebuild: bool) -> None:
        holding, is_harmed = house.holding, bool(promised.harmed)
        try:
            holding.index.database()
        except StorageFailed as error:
            check(may_rebuild, f"the index is lost: {error}")
            report = holding.rebuilder().rebuild()
            check(
                is_harmed or not report.damaged,
                f"rebuilt with {report.damaged} damaged: {report.unreadable}",
            )
        for attempt in range(3):
            finished, failures = holding.sealer.finish_free()
            check(not failures or attempt < 2, f"not finished: {failures}")
            for each in finished:
                check(not each.damaged, f"damaged after a crash: {each.damaged}")
            if not failures:
                break
        holding.eraser.reapply()
        holding.let_go.complete()
        looked = holding.presence.check()
        check(is_harmed or not looked.missing, f"missing: {looked.missing}")
        check(holding.sealer.finish_free() == ([], {}), "a second recovery finds more to do")
        left = house.site.files.names(holding.layout.open_packs)
        holding.drop_abandoned()
        left += house.files("**/.*")
        check(left == [], f"left behind: {left}")

    def _rebuild(self, house: House, promised: Promised, *, lost: bool) -> House:
        """A rebuild says what recovery left, with the old index or without it."""
        with house.holding.index.reader() as connection:
            before = equality.digest(connection)
        if lost:
            self._lose_index()
        fresh = self.process()
        report = fresh.holding.rebuilder().rebuild()
        check(report.sound and report.equal is (None if lost else True), f"the rebuild: {report}")
        self._keep(fresh, promised, may_rebuild=False)
        look.all_is_kept(fresh, promised, self._data)
        with fresh.holding.index.reader() as connection:
            check(before == equality.digest(connection), "the rebuilt index says otherwise")
        return fresh
