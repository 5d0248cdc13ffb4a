"""Enumerates crash states: cheap variants at every point of a run first, then seeded mixes.

A state is distinct by everything on its disk and by what is left of its live index.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from crash import journal as j
from crash import leftovers
from crash.disk import Disk, FileState, Unit

Content = Callable[[FileState, Random], bytes]
_CONTENTS: dict[str, Content] = {
    "kept": leftovers.kept,
    "dropped": leftovers.dropped,
    "zeroed": leftovers.zeroed,
    "torn": leftovers.torn,
    "mixed": leftovers.mixed,
    "all but one": leftovers.all_but_one,
}
_SYSTEMATIC = [
    (content, names, index)
    for content in ("kept", "dropped", "zeroed")
    for names in ("kept", "lost")
    for index in ("newest", "oldest")
]


@dataclass(frozen=True, slots=True)
class State:
    """One possible disk after a crash."""

    point: int
    """How many entries of the journal had happened."""
    how: str
    """How it was chosen, for a report."""
    folders: list[str]
    files: dict[str, bytes]
    database: tuple[str, bytes] | None
    key: bytes


@dataclass(slots=True)
class _Log:
    """One database's commits up to a point; the first one left is durable."""

    commits: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, place: int, commit: j.Commit) -> "_Log":
        before = [] if commit.durable else self.commits
        return _Log([*before, (place, commit.content)])


@dataclass(frozen=True, slots=True)
class _Point:
    """A moment at which power may fail."""

    place: int
    phase: str
    disk: Disk
    logs: dict[str, _Log]


class States:
    """The crash states of one run.

    Args:
        journal: what the run did.
        current_index: the name of the file that names the live database.
        seed: decides every choice by chance.
    """

    def __init__(self, journal: j.Journal, current_index: str, seed: int) -> None:
        self._current_index = current_index
        self._seed = seed
        self.points = list(_points(journal))
        self._seen: dict[bytes, int] = {}
        self._told = _told(journal)
        self.by_phase: Counter[str] = Counter()

    @property
    def distinct(self) -> int:
        """How many distinct states were given so far."""
        return len(self._seen)

    def some(self, wanted: int, *, rounds: int = 400) -> Iterator[State]:
        """So many distinct states, or as many as the rounds find.

        The same state at a later point is given again when more had been acknowledged there.
        """
        for number in range(rounds):
            # Latest first: there the most is acknowledged, so that an earlier one need not be
            # looked at again.
            for point in reversed(self.points):
                if self.distinct >= wanted:
                    return
                state = self._state(point, number)
                before = self._seen.get(state.key)
                if before is not None and before >= self._told[point.place]:
                    continue
                if before is None:
                    self.by_phase[point.phase] += 1
                self._seen[state.key] = self._told[point.place]
                yield state

    def _state(self, point: _Point, number: int) -> State:
        random = Random(f"{self._seed}/{point.place}/{number}")
        turn, by_chance = divmod(number, 2)
        if turn < len(_SYSTEMATIC) and not by_chance:
            # Neighbours differ, so that few rounds see every variant somewhere.
            content, names, index = _SYSTEMATIC[(turn + 5 * point.place) % len(_SYSTEMATIC)]
        else:
            content = random.choice([*_CONTENTS, "each"])
            names = random.choice(["kept", "lost", "all but one", "only one", "by chance"])
            index = random.choice(["newest", "oldest", "some"])
        folders, files = point.disk.tree(
            _names(names, len(point.disk.pending), random), _contents(content, random)
        )
        database = self._database(point, files, index, random)
        digest = blake2b(digest_size=16)
        for name in folders:
            digest.update(name.encode())
        for name, data in sorted(files.items()):
            digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
        if database is not None:
            digest.update(database[1])
        how = (
            f"point {point.place} ({point.phase}): content {content}, names {names}, index {index}"
        )
        return State(point.place, how, folders, files, database, digest.digest())

    def _database(
        self, point: _Point, files: dict[str, bytes], index: str, random: Random
    ) -> tuple[str, bytes] | None:
        live = files.get(self._current_index)
        if live is None:
            return None
        folder = self._current_index.rpartition("/")[0]
        name = f"{folder}/{live.decode(errors='replace').strip()}.sqlite"
        log = point.logs.get(name)
        if log is None:
            return None
        place = {"newest": -1, "oldest": 0}.get(index, random.randrange(len(log.commits)))
        return name, log.commits[place][1]


def _points(journal: j.Journal) -> Iterator[_Point]:
    """Every moment before an operation, what was acknowledged by then included, and the end."""
    disk, phase = Disk.at_baseline(journal), ""
    logs = {name: _Log([(-1, content)]) for name, content in journal.databases.items()}
    for place, entry in enumerate(journal.entries):
        match entry:
            case j.Phase(name):
                phase = name
            case j.Mark():
                pass
            case j.Commit(database):
                yield _Point(place, phase, disk, logs)
                logs = logs | {database: logs.get(database, _Log()).add(place, entry)}
            case _:
                yield _Point(place, phase, disk, logs)
                disk = disk.after(entry)
    yield _Point(len(journal.entries), phase, disk, logs)


def _told(journal: j.Journal) -> list[int]:
    """For each point, how much had been acknowledged."""
    told = [0]
    for entry in journal.entries:
        told.append(told[-1] + isinstance(entry, j.Mark))
    return told


def _names(how: str, count: int, random: Random) -> Callable[[int, Unit], int]:
    chosen = random.randrange(count) if count else 0
    likely = random.choice((0.2, 0.5, 0.8))

    def kept(place: int, unit: Unit) -> int:
        if how == "by chance":
            happened = random.random() < likely
        elif how in {"all but one", "only one"}:
            happened = (place == chosen) == (how == "only one")
        else:
            happened = how == "kept"
        changes = unit.changes
        if not happened:
            return 0
        halves = len(changes) == 2 and changes[0].folder != changes[1].folder
        return 1 if halves and how == "by chance" and random.random() < 0.3 else len(changes)

    return kept


def _contents(how: str, random: Random) -> Callable[[int, FileState], bytes]:
    def content(_inode: int, state: FileState) -> bytes:
        if not state.pending:
            return state.durable
        chosen = random.choice(list(_CONTENTS)) if how == "each" else how
        return _CONTENTS[chosen](state, random)

    return content
