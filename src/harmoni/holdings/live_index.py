"""The live index database of a hospital, which a rebuild may replace under running processes.

A small file names the live database. Readers look at it before each use; writers look again after
they hold the write lock, so no row is ever written to a database that was replaced.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harmoni.backends.filesystem import Filesystem
from harmoni.index.database import Connection, Database
from harmoni.index.ingest import Terms
from harmoni.model.errors import InvalidInput, NotHeld, StorageFailed
from harmoni.model.identifiers import PackId
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import Layout
from harmoni.vault.pack_ids import PackIds


class LiveIndex:
    """The hospital's index as this process sees it now.

    Args:
        files: the store.
        layout: the hospital's names.
        keyring: holds the databases' keys.
        terms: what the hospital's index is told besides.
    """

    def __init__(self, files: Filesystem, layout: Layout, keyring: Keyring, terms: Terms) -> None:
        self.terms = terms
        self._files = files
        self._layout = layout
        self._keyring = keyring
        self._lock = threading.Lock()
        self._stamp = (0, 0)
        self._flushed = (0, 0)
        self._database: Database | None = None

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection for reading, of whatever database is live now."""
        with self.database().reader() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A write transaction on the live database; see `Database.write`."""
        while True:
            database = self._database
            if database is None or database.fenced:
                database = self.database()
            with database.write(durable=durable) as connection:
                # Looked at under its lock: whoever swaps holds that.
                if database is self.database():
                    yield connection
                    return

    def flush_if_changed(self) -> None:
        """Make every committed row durable, unless nothing was written since the last time."""
        database = self.database()
        log = f"{database.path.name}-wal"
        stamp = self._files.stamp(f"{self._layout.index}/{log}")
        if stamp != self._flushed:
            database.flush()
            self._flushed = self._files.stamp(f"{self._layout.index}/{log}")

    def database(self) -> Database:
        """The live database, opened again after a swap, or after it failed to write.

        Raises:
            StorageFailed: the index is lost; it can be rebuilt from the store.
        """
        try:
            return self._live()
        except NotHeld as error:
            raise StorageFailed(
                f"the index of {self._layout.hospital} is lost ({error}); "
                "run `harmoni vault rebuild`"
            ) from error

    def _live(self) -> Database:
        stamp = self._files.stamp(self._layout.current_index)
        with self._lock:
            database = self._database
            if database is None or stamp != self._stamp or database.fenced:
                database = self._open(after_failure=database is not None and database.fenced)
                self._database, self._stamp = database, stamp
        if not self._files.exists(f"{self._layout.index}/{database.path.name}"):
            # Whoever removed the file left us its inode, where rows would be lost.
            raise NotHeld(f"{database.path.name} is gone")
        return database

    def _open(self, *, after_failure: bool) -> Database:
        try:
            index_id = str(PackId(self._files.read(self._layout.current_index).decode().strip()))
        except (UnicodeDecodeError, InvalidInput) as error:
            raise NotHeld(f"{self._layout.current_index} names no index") from error
        name = self._layout.index_database(index_id)
        if not self._files.exists(name):
            raise NotHeld(f"{name} is gone")
        return Database.open(
            self._files.path(name),
            self._keyring.index_key(index_id),
            after_failure=after_failure,
        )


def create_index(
    files: Filesystem, layout: Layout, keyring: Keyring, pack_ids: PackIds
) -> tuple[str, Database]:
    """Make a new, empty index database that is not live yet.

    Returns:
        Its id and the database. The caller makes it live with `make_live`.
    """
    index_id = str(pack_ids.mint())
    key = keyring.create_index_key(index_id)
    return index_id, Database.create(files.path(layout.index_database(index_id)), key)


def make_live(files: Filesystem, layout: Layout, index_id: str) -> None:
    """Let everybody use another index database from now on, durably."""
    files.sync_directory(layout.index)
    files.replace(layout.current_index, f"{index_id}\n".encode())


def drop_replaced(files: Filesystem, layout: Layout) -> None:
    """Destroy every index database but the live one, and first its key.

    A rebuild leaves the one that it replaced, with everything that is erased later. Where nothing
    says which one is live, none goes.

    Args:
        files: the store.
        layout: the hospital's names; the caller holds its lock of rebuilds.
    """
    live = files.read(layout.current_index).decode("ascii", "replace").strip()
    if not (_is_of_index(f"{live}.") and files.exists(layout.index_database(live))):
        return
    for folder in (layout.index_keys, layout.index):
        gone = [
            name for name in files.names(folder) if _is_of_index(name) and not _is_of(name, live)
        ]
        for name in gone:
            with suppress(NotHeld):
                files.remove(f"{folder}/{name}")
        if gone:
            files.sync_directory(folder)


def _is_of(name: str, index_id: str) -> bool:
    return name.partition(".")[0] == index_id


def _is_of_index(name: str) -> bool:
    """Whether a file is a database, its log or lock, or a key: all are named by the index's id."""
    index_id, dot, _ = name.partition(".")
    try:
        PackId(index_id)
    except InvalidInput:
        return False
    return bool(dot)
