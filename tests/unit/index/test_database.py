import threading
from pathlib import Path

import pytest

from harmoni.index.database import Database
from harmoni.model.errors import ConfigurationError, OutOfResources, StorageFailed
from index_samples import KEY


def count(database: Database) -> int:
    with database.reader() as connection:
        [(number,)] = connection.execute("SELECT count FROM flush").fetchall()
    return number


def add(connection) -> None:
    connection.execute("UPDATE flush SET count = count + 1")


def test_what_was_committed_is_there_after_opening_again(tmp_path):
    path = tmp_path / "index.sqlite"
    created = Database.create(path, KEY)
    with created.write() as connection:
        connection.execute("INSERT INTO sop_class (uid) VALUES ('1.2')")
    created.close()
    opened = Database.open(path, KEY)
    with opened.reader() as connection:
        assert connection.execute("SELECT uid FROM sop_class").fetchall() == [("1.2",)]
    opened.close()


def test_an_exception_in_the_block_rolls_back_and_goes_on(database):
    before = count(database)

    def fail() -> None:
        with database.write() as connection:
            add(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count(database) == before
    with database.write(durable=True) as connection:
        add(connection)
    assert count(database) == before + 1


def test_a_reader_keeps_its_snapshot(database):
    with database.reader() as connection:
        [before] = connection.execute("SELECT count FROM flush").fetchall()
        database.flush()
        assert connection.execute("SELECT count FROM flush").fetchall() == [before]
    assert count(database) == before[0] + 1


def test_readers_beyond_the_pool_are_served_too(database):
    readers = [database.reader() for _ in range(10)]
    connections = [reader.__enter__() for reader in readers]
    assert len({id(connection) for connection in connections}) == 10
    for reader in readers:
        reader.__exit__(None, None, None)
    assert count(database) >= 1


def test_writers_of_threads_and_of_objects_take_turns(tmp_path):
    path = tmp_path / "index.sqlite"
    first = Database.create(path, KEY)
    second = Database.open(path, KEY)
    before = count(first)

    def write(database: Database) -> None:
        for _ in range(20):
            with database.write() as connection:
                # Read and write apart: an update would be lost if two were inside at once.
                [(number,)] = connection.execute("SELECT count FROM flush").fetchall()
                connection.execute("UPDATE flush SET count = ?", (number + 1,))

    threads = [threading.Thread(target=write, args=(one,)) for one in (first, second) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(second) == before + 80
    first.close()
    second.close()


def test_no_plaintext_reaches_the_disk(database):
    with database.write(durable=True) as connection:
        connection.execute("INSERT INTO sop_class (uid) VALUES ('PLANTED NAME')")
    files = list(Path(database.path.parent).iterdir())
    assert {file.name for file in files} >= {"index.sqlite", "index.sqlite-wal"}
    for file in files:
        content = file.read_bytes()
        assert b"PLANTED" not in content
        assert b"SQLite format" not in content


def test_another_key_is_refused_without_a_word_on_standard_error(tmp_path, capfd):
    Database.create(tmp_path / "index.sqlite", KEY).close()
    with pytest.raises(ConfigurationError, match="another key"):
        Database.open(tmp_path / "index.sqlite", bytes(32))
    assert capfd.readouterr().err == ""


def test_a_key_of_another_length_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="31 bytes"):
        Database.create(tmp_path / "index.sqlite", KEY[1:])


def test_creating_over_a_file_is_refused(tmp_path):
    Database.create(tmp_path / "index.sqlite", KEY).close()
    with pytest.raises(ConfigurationError, match="already"):
        Database.create(tmp_path / "index.sqlite", KEY)


def test_opening_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="create it"):
        Database.open(tmp_path / "index.sqlite", KEY)


def test_creating_where_nothing_can_be_written_is_out_of_resources(tmp_path):
    with pytest.raises(OutOfResources):
        Database.create(tmp_path / "nowhere" / "index.sqlite", KEY)


@pytest.mark.parametrize("page", [0, 1])
def test_a_flipped_bit_is_found(tmp_path, page):
    path = tmp_path / "index.sqlite"
    Database.create(path, KEY).close()
    content = bytearray(path.read_bytes())
    content[4096 * page + 100] ^= 1
    path.write_bytes(content)

    def read() -> None:
        database = Database.open(path, KEY)
        try:
            with database.reader() as connection:
                # Reads every page, those of SQL indexes too.
                connection.execute("PRAGMA integrity_check").fetchall()
        finally:
            database.close()

    with pytest.raises((StorageFailed, ConfigurationError)):
        read()


def test_files_are_for_their_owner_only(database):
    for suffix in ("", ".lock", "-wal"):
        assert Path(f"{database.path}{suffix}").stat().st_mode & 0o077 == 0
