"""What may be on the disk after a crash: what was flushed for certain, of the rest any part.

Of a file, each 512-byte sector that was written and not flushed is there, is as it was before, or
is zero, and one may be torn; the length may have followed or not. Of a folder, each change of a
name that was not flushed happened or did not. A move between two folders may be half done while
neither is flushed: both names are there. Flushing one of the two makes that half durable, and only
that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from crash import journal as j

SECTOR_BYTES = 512
FOLDER = 0
"""What a name stands for when it is a folder's; files are numbered from 1."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file: its durable content, and what was done to it since."""

    durable: bytes = b""
    pending: tuple[j.Write | j.Truncate, ...] = ()
    doubtful: bool = False
    """A flush of it failed: no later one settles anything."""

    def changed(self, op: j.Write | j.Truncate) -> "FileState":
        return replace(self, pending=(*self.pending, op))

    def flushed(self, *, failed: bool) -> "FileState":
        if failed or self.doubtful:
            return replace(self, doubtful=True)
        return FileState(applied(self.durable, self.pending))

    def newest(self) -> bytes:
        return applied(self.durable, self.pending)


@dataclass(frozen=True, slots=True)
class Change:
    """A name that comes to stand for something, or for nothing (None)."""

    folder: str
    name: str
    target: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Changes of names that one operation made; the first of two may happen alone."""

    changes: tuple[Change, ...]


@dataclass(slots=True)
class Disk:
    """The disk at one moment; `applied` gives the next one and leaves this as it is."""

    files: dict[int, FileState] = field(default_factory=dict)
    durable: dict[str, dict[str, int]] = field(default_factory=lambda: {"": {}})
    pending: tuple[Unit, ...] = ()
    current: dict[str, int] = field(default_factory=dict)
    """Every file's full name as a process sees it now."""

    @classmethod
    def at_baseline(cls, journal: j.Journal) -> "Disk":
        disk = cls()
        for folder in journal.folders:
            parent, name = parts(folder)
            disk.durable[parent][name] = FOLDER
            disk.durable[folder] = {}
        for path, (inode, content) in journal.files.items():
            parent, name = parts(path)
            disk.durable[parent][name] = inode
            disk.files[inode] = FileState(content)
            disk.current[path] = inode
        return disk

    def after(self, op: j.DiskOp) -> "Disk":
        """The disk after one more operation."""
        disk = Disk(dict(self.files), dict(self.durable), self.pending, dict(self.current))
        match op:
            case j.Create(inode, name):
                disk.files[inode] = FileState()
                disk._name({name: inode})
            case j.Write(inode) | j.Truncate(inode):
                disk.files[inode] = self.files[inode].changed(op)
            case j.Sync(inode, failed):
                disk.files[inode] = self.files[inode].flushed(failed=failed)
            case j.Link(old, new):
                disk._name({new: self.current[old]})
            case j.Rename(old, new):
                disk._name({new: self.current[old], old: None})
            case j.Unlink(name):
                disk._name({name: None})
            case j.MakeDirectory(name):
                parent, last = parts(name)
                disk.durable[name] = {}
                disk.pending += (Unit((Change(parent, last, FOLDER),)),)
            case j.SyncDirectory(name):
                disk._flush_folder(name)
            case j.Chmod():
                pass
        return disk

    def _name(self, names: Mapping[str, int | None]) -> None:
        self.pending += (Unit(tuple(Change(*parts(path), to) for path, to in names.items())),)
        for path, target in names.items():
            if target is None:
                self.current.pop(path, None)
            else:
                self.current[path] = target

    def _flush_folder(self, folder: str) -> None:
        entries, left = dict(self.durable[folder]), []
        for unit in self.pending:
            for change in unit.changes:
                if change.folder == folder:
                    put(entries, change)
            rest = tuple(change for change in unit.changes if change.folder != folder)
            if rest:
                left.append(Unit(rest))
        self.durable[folder] = entries
        self.pending = tuple(left)

    def tree(
        self, kept: Callable[[int, Unit], int], content: Callable[[int, FileState], bytes]
    ) -> tuple[list[str], dict[str, bytes]]:
        """One possible state.

        Args:
            kept: how many changes of a pending unit, by its place, happened.
            content: what is left of a file.

        Returns:
            The folders, parents first, and the files by name.
        """
        entries = {folder: dict(names) for folder, names in self.durable.items()}
        for place, unit in enumerate(self.pending):
            for change in unit.changes[: kept(place, unit)]:
                put(entries[change.folder], change)
        folders: list[str] = []
        files: dict[str, bytes] = {}
        contents: dict[int, bytes] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for name, target in sorted(entries[folder].items()):
                path = f"{folder}/{name}" if folder else name
                if target == FOLDER:
                    folders.append(path)
                    waiting.append(path)
                    continue
                if target not in contents:
                    contents[target] = content(target, self.files[target])
                files[path] = contents[target]
        return folders, files


def parts(path: str) -> tuple[str, str]:
    """A full name as folder and last name."""
    folder, _, name = path.rpartition("/")
    return folder, name


def put(entries: dict[str, int], change: Change) -> None:
    """Let one change of a name happen."""
    if change.target is None:
        entries.pop(change.name, None)
    else:
        entries[change.name] = change.target


def applied(content: bytes, ops: tuple[j.Write | j.Truncate, ...]) -> bytes:
    """A file's content after some operations."""
    data = bytearray(content)
    for op in ops:
        if isinstance(op, j.Truncate):
            del data[op.size_bytes :]
            data.extend(bytes(op.size_bytes - len(data)))
        else:
            data.extend(bytes(max(0, op.offset - len(data))))
            data[op.offset : op.offset + len(op.data)] = op.data
    return bytes(data)


def dirty(state: FileState) -> list[int]:
    """The sectors that were written and not flushed, lowest first."""
    sectors: set[int] = set()
    for op in state.pending:
        if isinstance(op, j.Write) and op.data:
            first, last = op.offset, op.offset + len(op.data) - 1
            sectors.update(range(first // SECTOR_BYTES, last // SECTOR_BYTES + 1))
    return sorted(sectors)
