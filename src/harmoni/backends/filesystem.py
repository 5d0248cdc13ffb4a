"""A local file system that knows what is durable and what is not.

Rules. Names are paths relative to one root, made by us and never by a peer. Nothing is overwritten
except through `replace`. A file's bytes are durable after `File.sync`; its name is durable after
`sync_directory` of its folder. Every method is one act that a test can record, fail or lose, which
is why the store's code calls no other I/O. Errors of the operating system become errors of ours.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from harmoni.model.errors import (
    AlreadyHeld,
    Busy,
    ConfigurationError,
    Damaged,
    HarmoniError,
    NotHeld,
    OutOfResources,
    StorageFailed,
)

Buffer = bytes | bytearray | memoryview

_EXHAUSTED: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
    }
)
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MOST_BUFFERS: Final = 1024  # IOV_MAX on Linux
_BESIDE_RANDOM_BYTES: Final = 8
TEMPORARY_SUFFIX: Final = ".tmp"
"""Of a file that is still being published, or that a crash kept from it; its name begins with a
dot and goes on with the name it was to get."""
_TEMPORARY: Final = re.compile(rf"\..+\.[0-9a-f]{{{2 * _BESIDE_RANDOM_BYTES}}}{TEMPORARY_SUFFIX}")
_COPY_BYTES: Final = 1 << 30  # one copy_file_range call; the kernel caps near 2 GiB


@contextmanager
def translated(act: str, name: str) -> Iterator[None]:
    """Turn an OSError into an error of ours that says what was tried and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.errno in _EXHAUSTED:
            raise OutOfResources(
                f"cannot {act} {name}: {reason}; free space or raise the limit, then try again"
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise NotHeld(f"cannot {act} {name}: it does not exist") from error
        if error.errno == errno.EEXIST:
            raise AlreadyHeld(f"cannot {act} {name}: it exists and is never overwritten") from error
        if error.errno in _FORBIDDEN:
            raise StorageFailed(
                f"cannot {act} {name}: {reason}; let the user of this process write there, and "
                "mount the file system for writing"
            ) from error
        raise StorageFailed(
            f"cannot {act} {name}: {reason}; check the disk before trusting it again"
        ) from error


def make_root(path: Path) -> "Filesystem":
    """Make a directory that somebody named, with its parents, unless it is there.

    Raises:
        ConfigurationError: it cannot be made there.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the directory {path}: {os.strerror(error.errno or 0)}; choose another"
        ) from error
    return Filesystem(path)


class File:
    """An open file of the store. Offsets are explicit; there is no file position."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def is_removed(self) -> bool:
        """Whether the file has no name any more; its space is free when nobody has it open."""
        with translated("look at", self.name):
            return os.fstat(self._descriptor).st_nlink == 0

    def fileno(self) -> int:
        """The descriptor, for system calls between two files."""
        return self._descriptor

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        """Write all the buffers one after another from `offset` on; nothing is durable yet.

        Returns:
            The number of bytes written, always the sum of the buffers' lengths.

        Raises:
            OutOfResources: no space; a part may have been written.
            StorageFailed: any other failure; a part may have been written.
        """
        views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        written = 0
        with translated("write", self.name):
            while views:
                count = os.pwritev(self._descriptor, views[:_MOST_BUFFERS], offset + written)
                if count == 0:
                    raise OSError(errno.EIO, "write returned 0")
                written += count
                while views and count >= len(views[0]):
                    count -= len(views.pop(0))
                if count:
                    views[0] = views[0][count:]
        return written

    def copy_from(self, source: "File", *, size_bytes: int, offset: int) -> None:
        """Copy the first `size_bytes` of another file here, without passing through memory."""
        copied = 0
        with translated("copy into", self.name):
            while copied < size_bytes:
                count = os.copy_file_range(
                    source.fileno(),
                    self._descriptor,
                    min(size_bytes - copied, _COPY_BYTES),
                    copied,
                    offset + copied,
                )
                if count == 0:
                    raise OSError(errno.EIO, "the source ended early")
                copied += count

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read exactly so many bytes.

        Raises:
            Damaged: the file ends before that.
        """
        data = bytearray(size_bytes)
        with memoryview(data) as memory:
            self.read_into(memory, offset)
        return bytes(data)

    def read_into(self, memory: memoryview, offset: int) -> None:
        """Fill memory that the caller holds: new memory for every read costs more than the read.

        Raises:
            Damaged: the file ends before that.
        """
        taken = 0
        with translated("read", self.name):
            while taken < len(memory):
                count = os.preadv(self._descriptor, [memory[taken:]], offset + taken)
                if count == 0:
                    raise Damaged(
                        f"{self.name} ends at {offset + taken}, wanted {offset + len(memory)}"
                    )
                taken += count

    def size_bytes(self) -> int:
        """The file's length now."""
        with translated("measure", self.name):
            return os.fstat(self._descriptor).st_size

    def truncate(self, size_bytes: int) -> None:
        """Cut the file; used only on a torn tail that nobody was told about."""
        with translated("truncate", self.name):
            os.ftruncate(self._descriptor, size_bytes)

    def sync(self) -> None:
        """Make every byte written so far durable (fdatasync).

        Raises:
            StorageFailed: it failed; never try again on this file, fence it.
        """
        with translated("flush", self.name):
            os.fdatasync(self._descriptor)

    def forget_cache(self) -> None:
        """Ask the kernel to drop the file's clean pages, so that a re-read meets the disk."""
        with translated("drop the cache of", self.name):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def lock(self, *, wait: bool = False) -> bool:
        """Take the file's exclusive lock if it is free; it ends with the process or `close`.

        Args:
            wait: wait until it is free; only where nobody holds it for long.
        """
        with translated("lock", self.name):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return False
        return True

    def make_read_only(self) -> None:
        """Take the write permission away: a sealed pack never changes."""
        with translated("protect", self.name):
            os.fchmod(self._descriptor, 0o400)

    def close(self) -> None:
        """Close; the lock goes with it. Closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Filesystem:
    """The files below one root directory.

    Args:
        root: an existing directory; everything happens below it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._root_text = str(root)
        self._settled: set[str] = set()

    def path(self, name: str) -> Path:
        """The real path of a name, for libraries that open files themselves (the index)."""
        return self._root / name

    def _at(self, name: str) -> str:
        """The same as text: joining paths costs more than most calls of the kernel."""
        return f"{self._root_text}/{name}"

    def create(self, name: str) -> File:
        """Create a file that must not exist. Its name is durable after `sync_directory`.

        Raises:
            AlreadyHeld: the name exists.
        """
        with translated("create", name):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return self._opened(os.open(self._at(name), flags, 0o600), name)

    def open(self, name: str, *, writable: bool = False) -> File:
        """Open an existing file.

        Raises:
            NotHeld: there is no such file.
        """
        with translated("open", name):
            flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
            # Somebody's pipe under one of our names must not hold us up; means nothing to a file.
            flags |= os.O_NONBLOCK
            return self._opened(os.open(self._at(name), flags), name)

    def read(self, name: str) -> bytes:
        """A whole small file."""
        with self.open(name) as file:
            return file.read(0, file.size_bytes())

    @contextmanager
    def lock_file(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Hold a lock between processes for the length of a with block.

        Args:
            name: the file to lock; it is made when it is missing.
            wait: wait until it is free; only where nobody holds it for long.

        Raises:
            Busy: somebody else holds it; it ends with its process.
        """
        with translated("lock", name):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            file = self._opened(os.open(self._at(name), flags, 0o600), name)
        with file:
            if not file.lock(wait=wait):
                raise Busy(f"{name} is locked by another process; wait until it has ended")
            yield

    def publish(self, name: str, data: Buffer) -> None:
        """Create a small file whole and durable, or not at all; never overwrite.

        Written under a name of its own, flushed, then linked: whoever sees the name sees all of it.

        Raises:
            AlreadyHeld: the name exists; what it names is untouched.
        """
        with self._written_beside(name, data) as beside:
            self.link(beside, name)
            self.remove(beside)
        self.sync_directory(os.path.dirname(name))

    def replace(self, name: str, data: Buffer) -> None:
        """Put a small file in the place of another in one durable step."""
        with self._written_beside(name, data) as beside:
            self.rename(beside, name)
        self.sync_directory(os.path.dirname(name))

    def drop_abandoned(self, folder: str) -> list[str]:
        """Remove what a crash kept from being published in a folder, and name it.

        Safe at any time: a file that is being published is locked by whoever does, and the lock
        dies with its process. Not made durable: what comes back after a crash goes the next time.
        """
        dropped = []
        for last in self.names(folder):
            name = f"{folder}/{last}" if folder else last
            if _TEMPORARY.fullmatch(last):
                with suppress(NotHeld), self.open(name, writable=True) as file:
                    if file.lock():
                        self.remove(name)
                        dropped.append(name)
        return dropped

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, never over another; durable after `sync_directory`.

        Raises:
            AlreadyHeld: the new name exists.
        """
        with translated("publish", new):
            os.link(self._at(old), self._at(new))

    def rename(self, old: str, new: str) -> None:
        """Rename; durable after `sync_directory` of both folders."""
        with translated("rename", old):
            os.rename(self._at(old), self._at(new))

    def remove(self, name: str) -> None:
        """Remove a file; durable after `sync_directory` of its folder."""
        with translated("remove", name):
            os.unlink(self._at(name))

    def make_directory(self, name: str) -> None:
        """Make a folder and its parents, each durable before this returns.

        Also one that is there: whoever made it may not have come to flush it, or failed to.
        """
        made = ""
        for part in name.split("/"):
            parent, made = made, f"{made}/{part}" if made else part
            if self._make_one(made) or made not in self._settled:
                self._settled.discard(made)
                self.sync_directory(parent)
                self._settled.add(made)

    def sync_directory(self, name: str) -> None:
        """Make the names in a folder durable."""
        with translated("flush the folder", name or "."):
            descriptor = os.open(self._at(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; empty when there is no such folder."""
        with translated("list", folder):
            try:
                return sorted(os.listdir(self._at(folder)))
            except FileNotFoundError:
                return []

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there now."""
        with translated("look for", name):
            try:
                os.lstat(self._at(name))
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def stamp(self, name: str) -> tuple[int, int]:
        """What changes whenever a file is put in the place of another: inode and change time."""
        with translated("stat", name):
            state = os.stat(self._at(name))
            return state.st_ino, state.st_ctime_ns

    def device(self, name: str) -> int:
        """The file system of a file or folder: the same number for what lies on the same one."""
        with translated("stat", name):
            return os.stat(self._at(name)).st_dev

    def size_bytes(self, name: str) -> int:
        """The length of a file."""
        with translated("measure", name):
            return os.stat(self._at(name)).st_size

    def is_writable(self) -> bool:
        """Whether this process may make files in the root: rights, and how it is mounted."""
        return os.access(self._root, os.W_OK | os.X_OK)

    def free_bytes(self, folder: str = "") -> int:
        """Space that an unprivileged writer can still take on the file system of a folder."""
        with translated("measure", folder or "."):
            state = os.statvfs(self._at(folder))
            return state.f_bavail * state.f_frsize

    def used_bytes(self, folder: str = "") -> int:
        """What is used of the file system of a folder, by whomever."""
        with translated("measure", folder or "."):
            state = os.statvfs(self._at(folder))
            return (state.f_blocks - state.f_bfree) * state.f_frsize

    def _opened(self, descriptor: int, name: str) -> File:
        """The object for a file that was just opened; a recorder makes another kind."""
        return File(descriptor, name)

    def _make_one(self, name: str) -> bool:
        """Make one folder, not durable yet; False when it is there already."""
        with translated("make the folder", name):
            try:
                os.mkdir(self._at(name), 0o700)
            except FileExistsError:
                return False
        return True

    @contextmanager
    def _written_beside(self, name: str, data: Buffer) -> Iterator[str]:
        """A durable file beside the one of that name, ours for the length of a with block.

        The block gives it its name; what fails leaves nothing.
        """
        with self._create_beside(name) as file:
            try:
                file.write([data], 0)
                file.sync()
                yield file.name
            except HarmoniError:
                with suppress(NotHeld):
                    self.remove(file.name)
                raise

    def _create_beside(self, name: str) -> File:
        """A new file beside the one of that name, locked: nobody takes it for abandoned."""
        while True:
            file = self.create(_beside(name))
            file.lock(wait=True)
            if not file.is_removed():
                return file
            # It was taken for abandoned before it was locked.
            file.close()


def _beside(name: str) -> str:
    """A name in the same folder that nobody uses, nor did before.

    Random, since numbers of processes come again, in a container even with every start: what one
    that was killed left behind must not look like a name that is taken.
    """
    folder, _, last = name.rpartition("/")
    temporary = f".{last}.{os.urandom(_BESIDE_RANDOM_BYTES).hex()}{TEMPORARY_SUFFIX}"
    return f"{folder}/{temporary}" if folder else temporary
