"""What must hold after every crash, once recovery has run: docs/reference/crash-testing.md."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import house as houses
from crash import journal as j
from crash.scenario import Run
from crash.states import State
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.holding import Holding
from harmoni.index import equality, lookup, packs, safe
from harmoni.index.packs import PackState
from harmoni.model.errors import HarmoniError, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.testing import FakeClock
from harmoni.vault import reader
from harmoni.vault.layout import Layout
from house import House

_REBUILT_SHARE = 16
"""One of so many states is rebuilt as well, one of twice as many with the index lost."""
_WRITER = "dc1-n1-w9"


class Violated(AssertionError):
    """An invariant does not hold; the harness has found a fault."""


@dataclass(frozen=True, slots=True)
class Promised:
    """What was acknowledged when power failed."""

    stored: dict[int, bytes]
    events: set[str]
    sealed: dict[str, bytes]

    @classmethod
    def by(cls, journal: j.Journal, point: int) -> "Promised":
        done = journal.entries[:point]
        return cls(
            {each.number: each.data for each in done if isinstance(each, j.Stored)},
            {each.mark for each in done if isinstance(each, j.Recorded)},
            {each.pack_id: each.sha256 for each in done if isinstance(each, j.Sealed)},
        )


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
        share = int.from_bytes(state.key[:4], "big") % (2 * _REBUILT_SHARE)
        try:
            if share == 1:
                self._lose_index()
            house = self.process()
            logged = {str(record.pack_id): record for record in house.holding.log.readable()}
            self.recover(house, may_rebuild=share == 1 or self._may_be_lost(state))
            self._look(house, promised)
            for pack_id, record in logged.items():
                _check(house.holding.log.find(record.pack_id) == record, "log changed")
                self._is_unchanged(house, pack_id, record.sha256)
            if share in {2, 2 + _REBUILT_SHARE}:
                self._rebuild(house, promised, lost=share == 2)
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

    def recover(self, house: House, *, may_rebuild: bool) -> None:
        """What a keeper does after start; an operator before it where the index is lost."""
        holding = house.holding
        try:
            holding.index.database()
        except StorageFailed as error:
            _check(may_rebuild, f"the index is lost: {error}")
            report = holding.rebuilder().rebuild()
            _check(
                not report.damaged, f"rebuilt with {report.damaged} damaged: {report.unreadable}"
            )
        for attempt in range(3):
            finished, failures = holding.sealer.finish_free()
            _check(not failures or attempt < 2, f"not finished: {failures}")
            for each in finished:
                _check(not each.damaged, f"damaged after a crash: {each.damaged}")
            if not failures:
                break
        holding.let_go.complete()
        looked = holding.presence.check()
        _check(not looked.missing, f"missing: {looked.missing}")
        _check(holding.sealer.finish_free() == ([], {}), "a second recovery finds more to do")
        left = house.site.files.names(holding.layout.open_packs)
        _check(left == [], f"left behind: {left}")

    def _look(self, house: House, promised: Promised) -> None:
        holding = house.holding
        with holding.index.reader() as connection:
            rows = [
                (row, lookup.members(connection, row.pack_id))
                for state in PackState
                for row in packs.packs_in(connection, state)
            ]
            marks = {
                mark
                for (mark,) in connection.execute(
                    "SELECT json_extract(body, '$.mark') FROM fact"
                ).fetchall()
            }
            held = {
                number: lookup.versions(connection, houses.uid(number))
                for number in promised.stored
            }
            committed = {
                number
                for number, versions in held.items()
                if any(
                    safe.find(connection, each.sop_instance_uid, each.identity) is not None
                    for each in versions
                )
            }
        # I2: every row resolves to a member that verifies, or to a copy that was let go.
        recalled: set[str] = set()
        for row, members in rows:
            _check(
                row.state in {PackState.SEALED, PackState.EVICTED},
                f"pack {row.pack_id} is {row.state}",
            )
            if row.state is PackState.EVICTED:
                continue
            assert row.sealed is not None
            self._is_unchanged(house, str(row.pack_id), row.sealed.sha256)
            for member in members:
                _check(not member.damaged, f"flagged as damaged: {member.location}")
                data = b"".join(holding.recall(member))
                expected = self._data.get(member.sop_instance_uid)
                _check(data == expected or expected is None, f"another content: {member.location}")
                recalled.add(member.sop_instance_uid)
        # I1: what was acknowledged is given back, or was let go and is committed elsewhere.
        for number in promised.stored:
            gone = any(each.pack_state is PackState.EVICTED for each in held[number])
            _check(
                houses.uid(number) in recalled or (gone and number in committed),
                f"acknowledged instance {number} is lost",
            )
        lost = promised.events - marks
        _check(not lost, f"acknowledged events are lost: {sorted(lost)}")
        # I3: sealed packs never change, and no key seals two of them.
        for pack_id, sha256 in promised.sealed.items():
            self._is_unchanged(house, pack_id, sha256)
        keys = []
        for path in house.files("packs/*/p/*/*.tar"):
            with house.site.files.open(str(path.relative_to(house.root))) as file:
                keys.append(reader.read_readme(file).key_id)
        _check(len(keys) == len(set(keys)), "a key seals two packs")
        for _ in holding.log.records():
            pass

    def _is_unchanged(self, house: House, pack_id: str, sha256: bytes) -> None:
        """A sealed pack is what was sealed, or was let go."""
        path = house.site.files.path(house.holding.layout.sealed_pack(PackId(pack_id)))
        if path.exists():
            found = hashlib.sha256(path.read_bytes()).digest()
            _check(found == sha256, f"sealed pack {pack_id} changed")
            return
        with house.holding.index.reader() as connection:
            row = packs.pack(connection, PackId(pack_id))
        evicted = row is not None and row.state is PackState.EVICTED
        _check(evicted, f"sealed pack {pack_id} is gone")

    def _rebuild(self, house: House, promised: Promised, *, lost: bool) -> None:
        """A rebuild says what recovery left, with the old index or without it."""
        with house.holding.index.reader() as connection:
            before = equality.digest(connection)
        if lost:
            self._lose_index()
        fresh = self.process()
        report = fresh.holding.rebuilder().rebuild()
        _check(report.sound and report.equal is (None if lost else True), f"the rebuild: {report}")
        self.recover(fresh, may_rebuild=False)
        self._look(fresh, promised)
        with fresh.holding.index.reader() as connection:
            _check(before == equality.digest(connection), "the rebuilt index says otherwise")


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Violated(otherwise)
