"""The index as a log of commits: a copy of the database after each, and which were flushed.

The database opens its own files, so what a crash leaves of it is taken from SQLite's promise: with
`synchronous = NORMAL` some prefix of the commits survives, never shorter than the last flushed one.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2

from crash import journal as j
from harmoni.index.database import Connection, Database


def copy(database: Database, scratch: Path) -> bytes:
    """The database as one file, everything committed so far in it."""
    target = scratch / "copy.sqlite"
    for suffix in ("", "-wal"):
        source = Path(f"{database.path}{suffix}")
        if source.exists():
            shutil.copyfile(source, f"{target}{suffix}")
    connection = dbapi2.connect(str(target), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{database._key.hex()}'\"")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    content = target.read_bytes()
    target.unlink()
    return content


@contextmanager
def recorded(journal: j.Journal, root: Path, scratch: Path) -> Iterator[None]:
    """Note every commit of every database below a directory, for the length of a with block."""
    real: Any = Database.write

    @contextmanager
    def write(self: Database, *, durable: bool = False) -> Iterator[Connection]:
        with real(self, durable=durable) as connection:
            before = connection.total_changes  # type: ignore[attr-defined]
            yield connection
            changed = connection.total_changes != before  # type: ignore[attr-defined]
        if changed and self.path.is_relative_to(root):
            name = str(self.path.relative_to(root))
            journal.note(j.Commit(name, copy(self, scratch), durable))

    Database.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        Database.write = real  # type: ignore[method-assign]
