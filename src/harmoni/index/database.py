"""One hospital's index database: an SQLite file under SQLCipher, and who may touch it when.

The owner module of sqlcipher3 and of SQLAlchemy's engine. Two kinds of commit are offered, because
the index is a view of the store: a plain one is ordered but not flushed (WAL, synchronous NORMAL),
a durable one is flushed (synchronous FULL). A FULL commit flushes the whole write-ahead log, so it
makes every earlier commit of every process durable too; `flush` is nothing else.

Writers queue: a mutex within the process, an exclusive `flock` on `<path>.lock` between processes.
SQLite's own busy handler only guards against a stranger who ignores both.
"""

import fcntl
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, Self

import sqlalchemy
from sqlcipher3 import dbapi2

# Rows are tuples of None, int, str and bytes. The driver ships no types, so that to mypy a row is
# as untyped as what stands in a database file.
from sqlcipher3.dbapi2 import Row as Row  # noqa: PLC0414 - exported

from harmoni.backends.filesystem import translated
from harmoni.index import migrations
from harmoni.model.errors import (
    Busy,
    ConfigurationError,
    HarmoniError,
    OutOfResources,
    StorageFailed,
)

KEY_BYTES: Final = 32

# What a reader may keep ready; beyond it connections are closed when they come back.
_POOLED_READERS: Final = 4
# 16 MiB: decrypting and authenticating a page costs about 10 µs, so hot pages stay decrypted.
_PAGE_CACHE_KIB: Final = 16_384
_BUSY_TIMEOUT_S: Final = 10.0
_CACHED_STATEMENTS: Final = 256


class Cursor(Protocol):
    """The part of a DB-API cursor (PEP 249) that the index uses."""

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""

    def fetchone(self) -> Row | None:
        """The next row, or None."""

    def fetchall(self) -> list[Row]:
        """Every row that is left."""

    def close(self) -> None:
        """Let the statement go; needed where not every row is read."""

    def __iter__(self) -> Iterator[Row]: ...


class Connection(Protocol):
    """The part of a DB-API connection (PEP 249) that the index uses.

    What `Database.reader` and `Database.write` hand out is valid inside their block only.
    """

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Cursor:
        """Run one statement; it stays prepared in the driver's cache."""

    def executemany(self, sql: str, rows: Iterable[Sequence[object]], /) -> Cursor:
        """Run one statement for each of `rows`."""


class Database:
    """The database file of one hospital, shared by the threads of this process.

    Args:
        path: the file. Beside it lie `<path>-wal` and `<path>-shm` while it is open, and
            `<path>.lock` always.
        key: 32 random bytes, used as they are (a passphrase would cost 100 ms and more per
            connection).

    Use `create` or `open`, and `close` at the end. Not to be carried over a fork.
    """

    _lock_fd = -1

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"the key of {path} has {len(key)} bytes instead of {KEY_BYTES}: "
                "take it from the hospital's index key file"
            )
        self.path = path
        self._key = key
        self._readers: queue.LifoQueue[dbapi2.Connection] = queue.LifoQueue(_POOLED_READERS)
        self._mutex = threading.Lock()
        self.fenced = False
        """Whether a write failed: this object refuses to write, the database may be opened anew."""
        with translated("open", f"{path}.lock"):
            self._lock_fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._writer = self._connect()
        except BaseException:
            self._close_lock()
            raise

    @classmethod
    def create(cls, path: Path, key: bytes) -> Self:
        """Make a new, empty database of the present schema, durable when this returns.

        Raises:
            ConfigurationError: there is a file already, or the key has not 32 bytes.
            OutOfResources: the file cannot be written.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise ConfigurationError(
                f"there is an index database at {path} already: open it, or choose another id"
            ) from None
        except OSError as error:
            raise OutOfResources(f"cannot create the index database {path}: {error}") from error
        database = cls(path, key)
        with database._changing_schema() as connection:
            migrations.create(connection)
        database._settle()
        return database

    @classmethod
    def open(cls, path: Path, key: bytes, *, after_failure: bool = False) -> Self:
        """Open a database, migrating an older schema first.

        Args:
            path: the file.
            key: its key.
            after_failure: it was fenced before; then its log is used up or it is not opened.

        Raises:
            Busy: the log is read by somebody for more than 10 s, after a failure.
            ConfigurationError: there is no file, the key is another one, or the schema is newer
                than this program.
            StorageFailed: the file is not a sound database, or its disk does not read.
        """
        with translated("look at", str(path)):
            there = path.is_file()
        if not there:
            raise ConfigurationError(
                f"there is no index database at {path}: create it, or rebuild the index"
            )
        database = cls(path, key)
        try:
            with database.reader() as connection:
                found = _revision(connection)
            if found != migrations.REVISION:
                with database._changing_schema() as migrating:
                    migrations.migrate(migrating)
            database._use_up_log(wait=after_failure)
            database._settle()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close every connection; readers and writers must have ended."""
        while True:
            try:
                self._readers.get_nowait().close()
            except queue.Empty:
                break
        self._writer.close()
        self._close_lock()

    def __del__(self) -> None:
        # A database that was replaced goes when its last reader does; so must its lock's file.
        self._close_lock()

    def _close_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection that sees one snapshot, all through the block.

        Hold it briefly: the write-ahead log cannot be reused while an old snapshot is read.

        Raises:
            Busy, StorageFailed, OutOfResources: as `write`.
        """
        with _translated(self.path):
            try:
                connection = self._readers.get_nowait()
            except queue.Empty:
                connection = self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.rollback()
            except BaseException:
                connection.close()
                raise
            try:
                self._readers.put_nowait(connection)
            except queue.Full:
                connection.close()

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """The writer's connection, in a transaction that commits when the block ends normally.

        Args:
            durable: flush at the commit, which makes earlier commits durable as well.

        An exception from the block rolls back and goes on to the caller. Not reentrant.

        Raises:
            Busy: a stranger holds the database locked for more than 10 s.
            StorageFailed: the file is not a sound database, or its disk does not read.
            OutOfResources: the disk is full or failed. After a failed write or flush this object
                refuses to write, for nobody knows what is on the disk: open the database anew.
        """
        with self._mutex, _locked(self._lock_fd), _translated(self.path):
            if self.fenced:
                raise OutOfResources(
                    f"{self.path} failed to write before: look at its disk, then restart the role"
                )
            try:
                # Outside a transaction only: inside one the pragma has no effect.
                if durable:
                    self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except dbapi2.OperationalError as error:
                self.fenced = "I/O error" in str(error)
                raise
            finally:
                if self._writer.in_transaction:
                    self._writer.rollback()
                if durable:
                    self._writer.execute("PRAGMA synchronous = NORMAL")

    def flush(self) -> None:
        """Make every commit so far, of any process, durable.

        Raises:
            Busy, StorageFailed, OutOfResources: as `write`; then nothing may be taken for durable.
        """
        with self.write(durable=True) as connection:
            # SQLite flushes at a commit that wrote something, so there must be something to write.
            connection.execute("UPDATE flush SET count = count + 1")

    def _use_up_log(self, *, wait: bool) -> None:
        """Bring what the log holds into the database, and begin it anew.

        A flush of the log may have failed, now or in a process before. No later flush settles what
        that one was to flush, and where a log has a hole, what follows is not read after a crash.
        Who has an old snapshot keeps the log in use: then this waits, or leaves it as it is.
        """
        with self._mutex, _locked(self._lock_fd), _translated(self.path):
            if not wait:
                self._writer.execute("PRAGMA busy_timeout = 0").fetchone()
            try:
                row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                timeout_ms = int(_BUSY_TIMEOUT_S * 1000)
                self._writer.execute(f"PRAGMA busy_timeout = {timeout_ms}").fetchone()
        if wait and row[0]:
            raise Busy(f"the log of {self.path} is being read after it failed: try again")

    def _settle(self) -> None:
        """Make the files' names durable: SQLite never flushes the folder for a log it found."""
        self.flush()
        with translated("flush the folder", str(self.path.parent)):
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _connect(self) -> dbapi2.Connection:
        with _translated(self.path):
            connection = dbapi2.connect(
                str(self.path),
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
            )
            try:
                # Errors are raised; the library's own lines would go to standard error.
                connection.execute("PRAGMA cipher_log_level = NONE")
                connection.execute(f"PRAGMA key = \"x'{self._key.hex()}'\"")
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA temp_store = MEMORY")
                connection.execute(f"PRAGMA cache_size = -{_PAGE_CACHE_KIB}")
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def _changing_schema(self) -> Iterator[sqlalchemy.Connection]:
        """A transaction for schema work; everything else goes to the driver directly."""
        engine = sqlalchemy.create_engine(
            "sqlite://", module=dbapi2, creator=self._connect, poolclass=sqlalchemy.NullPool
        )
        with (
            self._mutex,
            _locked(self._lock_fd),
            _translated(self.path),
            engine.begin() as changing,
        ):
            # The driver does not begin by itself, and half a schema must never be committed.
            changing.exec_driver_sql("BEGIN IMMEDIATE")
            yield changing


def _revision(connection: Connection) -> str | None:
    """The schema revision that the database has, None for a file that never became one."""
    known = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    ).fetchone()
    if known is None or known[0] == 0:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


@contextmanager
def _locked(lock_fd: int) -> Iterator[None]:
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock_fd, fcntl.LOCK_UN)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise the driver's errors as ours."""
    try:
        yield
    except dbapi2.Error as error:
        raise _ours(path, error) from error
    except sqlalchemy.exc.DBAPIError as error:  # wraps the driver's where the schema is changed
        if not isinstance(error.orig, dbapi2.Error):
            raise
        raise _ours(path, error.orig) from error


def _ours(path: Path, error: dbapi2.Error) -> HarmoniError:
    text = str(error)
    if "not a database" in text or "hmac check failed" in text:
        return ConfigurationError(
            f"{path} does not open with this key ({text}): it belongs to another key, or its first "
            "page is damaged; rebuild the index"
        )
    if "locked" in text:
        return Busy(f"{path} is locked by a program that does not queue for it ({text}): end it")
    if "malformed" in text:
        # SQLite says so of a page that its disk fails to read as well, so it may pass; and nothing
        # that a peer sends or asks for is damaged by it.
        return StorageFailed(
            f"{path} is damaged, or its disk does not read ({text}): look at the disk, "
            "then rebuild the index from the store"
        )
    if isinstance(error, dbapi2.OperationalError):
        return OutOfResources(f"{path} cannot be used now ({text}): look at its disk")
    # A constraint or a statement that does not fit the schema is a mistake of ours.
    return HarmoniError(f"{path} refuses a statement ({text}): report this")
