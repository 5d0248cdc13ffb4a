"""The store's files for real, with every operation noted in a journal once it has happened."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crash import journal as j
from harmoni.backends.filesystem import Buffer, File, Filesystem
from harmoni.model.errors import OutOfResources, StorageFailed

_DATABASE = ".sqlite"


class Numbers:
    """Gives each file a number of its own; the system's come again when a file is gone."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._next = 0

    def fresh(self, inode: int) -> int:
        self._next += 1
        self._of[inode] = self._next
        return self._next

    def of(self, inode: int) -> int:
        return self._of.get(inode) or self.fresh(inode)


class RecordingFile(File):
    """A file that notes what is done to it."""

    _files: "RecordingFilesystem"
    _number: int

    def of(self, files: "RecordingFilesystem", number: int) -> "RecordingFile":
        self._files, self._number = files, number
        return self

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        if self._files.fails("write", self.name):
            # Half of it got there before the disk was full.
            whole = b"".join(bytes(buffer) for buffer in buffers)
            half = whole[: len(whole) // 2]
            super().write([half], offset)
            self._files.journal.note(j.Write(self._number, offset, half))
            raise OutOfResources("planted: no space")
        written = super().write(buffers, offset)
        if written:
            data = b"".join(bytes(buffer) for buffer in buffers)
            self._files.journal.note(j.Write(self._number, offset, data))
        return written

    def copy_from(self, source: File, *, size_bytes: int, offset: int) -> None:
        super().copy_from(source, size_bytes=size_bytes, offset=offset)
        data = source.read(0, size_bytes)
        self._files.journal.note(j.Write(self._number, offset, data))

    def truncate(self, size_bytes: int) -> None:
        changes = self.size_bytes() != size_bytes
        super().truncate(size_bytes)
        if changes:
            self._files.journal.note(j.Truncate(self._number, size_bytes))

    def sync(self) -> None:
        if self._files.fails("sync", self.name):
            self._files.journal.note(j.Sync(self._number, failed=True))
            raise StorageFailed("planted: the flush failed")
        super().sync()
        self._files.journal.note(j.Sync(self._number))

    def make_read_only(self) -> None:
        super().make_read_only()
        self._files.journal.note(j.Chmod(self._number))


class RecordingFilesystem(Filesystem):
    """The files below a root, with a journal.

    Args:
        root: an existing directory.
        journal: where operations are noted.
        numbers: shared by all who record into one journal.
    """

    def __init__(self, root: Path, journal: j.Journal, numbers: Numbers) -> None:
        super().__init__(root)
        self.journal = journal
        self._numbers = numbers
        self._failure: tuple[str, str] | None = None
        self.meanwhile: Callable[[str], None] | None = None
        """What others do just before a name changes or becomes durable; given that name."""

    def fail_next(self, act: str, suffix: str) -> None:
        """Let the next write or sync of a file whose name ends so fail."""
        self._failure = (act, suffix)

    def fails_next(self, act: str, name: str) -> bool:
        """Whether this act on that file is the one that is to fail."""
        return (
            self._failure is not None
            and self._failure[0] == act
            and name.endswith(self._failure[1])
        )

    def fails(self, act: str, name: str) -> bool:
        """As `fails_next`; from then on nothing is to fail any more."""
        found = self.fails_next(act, name)
        if found:
            self._failure = None
        return found

    def create(self, name: str) -> File:
        file = super().create(name)
        number = self._numbers.fresh(os.fstat(file.fileno()).st_ino)
        assert isinstance(file, RecordingFile)
        self.journal.note(j.Create(number, name))
        return file.of(self, number)

    def link(self, old: str, new: str) -> None:
        self._others_act(new)
        super().link(old, new)
        self.journal.note(j.Link(old, new))

    def rename(self, old: str, new: str) -> None:
        self._others_act(new)
        super().rename(old, new)
        self.journal.note(j.Rename(old, new))

    def remove(self, name: str) -> None:
        super().remove(name)
        self.journal.note(j.Unlink(name))

    def sync_directory(self, name: str) -> None:
        self._others_act(name)
        super().sync_directory(name)
        self.journal.note(j.SyncDirectory(name))

    @contextmanager
    def lock_file(self, name: str, *, wait: bool = False) -> Iterator[None]:
        # Made at its first use and never written: whether it is there means nothing.
        with super().lock_file(name, wait=wait):
            yield

    def _others_act(self, name: str) -> None:
        if self.meanwhile is not None:
            self.meanwhile(name)

    def _make_one(self, name: str) -> bool:
        made = super()._make_one(name)
        if made:
            self.journal.note(j.MakeDirectory(name))
        return made

    def _opened(self, descriptor: int, name: str) -> File:
        number = self._numbers.of(os.fstat(descriptor).st_ino)
        return RecordingFile(descriptor, name).of(self, number)


def baseline(root: Path, numbers: Numbers) -> j.Journal:
    """An empty journal over what lies below a directory now, taken to be wholly durable."""
    journal = j.Journal(databases={})
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            journal.folders.append(name)
        elif _DATABASE not in path.name:
            journal.files[name] = (numbers.fresh(path.stat().st_ino), path.read_bytes())
    return journal
