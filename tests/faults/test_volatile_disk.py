"""The disk of the power cut tests loses what it should, and nothing else.

Whoever uses it is a process of its own, killed when the disk has fallen silent.
"""

import subprocess
import sys

import pytest

import volatile_disk

WRITER = """
import os, sqlite3, sys
os.chdir(sys.argv[1])
def write(name, data, flush):
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, data, 0)
    if flush:
        os.fdatasync(descriptor)
    return descriptor
def flush_folder(name):
    os.fsync(os.open(name, os.O_RDONLY | os.O_DIRECTORY))
{acts}
print("done", flush=True)
os.read(0, 1)
"""


@pytest.fixture
def disk(tmp_path):
    with volatile_disk.mounted(tmp_path) as mounted:
        yield mounted


def lose_power_after(disk, acts, kept=0.0):
    """Let a process act on the disk, then cut the power."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER.format(acts=acts), str(disk.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"done\n"
        process.kill()
        disk.abort()
    disk.cut("seed", kept)


def test_what_was_flushed_with_its_name_is_there_and_nothing_else(disk):
    acts = """
write("flushed", b"one", True)
write("later", b"two", False)
flush_folder(".")
write("flushed", b"tw", False)
write("nameless", b"three", True)
"""
    lose_power_after(disk, acts)
    assert {path.name: path.read_bytes() for path in disk.path.iterdir()} == {
        "flushed": b"one",
        "later": b"",
    }


def test_what_was_not_flushed_may_be_there_in_part(disk):
    lose_power_after(disk, "write('half', b'x' * 64 * 512, False); flush_folder('.')", 0.5)
    left = (disk.path / "half").read_bytes()
    assert left.strip(b"x\0") == b""
    assert b"x" * 512 in left or left == b""


def test_a_move_is_undone_unless_its_folders_were_flushed(disk):
    acts = """
os.mkdir("open"); os.mkdir("sealed"); flush_folder(".")
write("open/pack", b"data", True); flush_folder("open")
os.rename("open/pack", "sealed/pack")
"""
    lose_power_after(disk, acts)
    assert [path.read_bytes() for path in disk.path.glob("*/*")] == [b"data"]
    assert (disk.path / "open/pack").exists()


def test_a_flush_that_failed_is_settled_by_no_later_one(disk):
    acts = """
first = write("file", b"before", True); flush_folder(".")

os.pwrite(first, b"after!", 0)
try:
    os.fdatasync(first)
except OSError as error:
    assert error.errno == 5
else:
    raise AssertionError("the flush did not fail")
os.fdatasync(first)
"""
    disk.fail(3, "flush")  # of the file, of the folder, of the file
    lose_power_after(disk, acts)
    assert (disk.path / "file").read_bytes() == b"before"


@pytest.mark.parametrize(("synchronous", "left"), [("FULL", 1), ("NORMAL", 0)])
def test_sqlite_keeps_its_promise_for_a_write_ahead_log(disk, synchronous, left):
    """Taken at its word elsewhere: at FULL a commit is durable, at NORMAL it may be lost."""
    acts = f"""
connection = sqlite3.connect("db", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE t (x)")
flush_folder(".")
connection.execute("PRAGMA synchronous = {synchronous}")
connection.execute("INSERT INTO t VALUES (1)")
"""
    lose_power_after(disk, acts)
    reader = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
    found = subprocess.run(
        [sys.executable, "-c", reader, str(disk.path / "db"), "SELECT count(*) FROM t"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"({left},)\n"
