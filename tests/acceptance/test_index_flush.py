"""A flush of the index is a flush of its write-ahead log, seen from outside by strace."""

import re
import subprocess
import sys

import pytest

CHILD = """
import os, sys
from pathlib import Path
from harmoni.index.database import Database

def mark(word):
    os.write(2, f"mark {word}".encode())

database = Database.create(Path(sys.argv[1]), bytes(32))
mark("plain")
with database.write() as connection:
    connection.execute("INSERT INTO sop_class (uid) VALUES ('1')")
mark("flush")
database.flush()
mark("durable")
with database.write(durable=True) as connection:
    connection.execute("INSERT INTO sop_class (uid) VALUES ('2')")
mark("again")
with database.write() as connection:
    connection.execute("INSERT INTO sop_class (uid) VALUES ('3')")
mark("end")
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """The calls between two marks: of writes and flushes, with the files' names."""
    folder = tmp_path_factory.mktemp("trace")
    trace = folder / "trace"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-s", "200", "-o", str(trace)),
            *("-e", "trace=write,pwrite64,fsync,fdatasync", sys.executable, "-c", CHILD),
            str(folder / "index.sqlite"),
        ],
        check=True,
        timeout=60,
    )
    found: dict[str, list[str]] = {"create": []}
    current = found["create"]
    for line in trace.read_text().splitlines():
        marked = re.search(r'"mark (\w+)"', line)
        if marked:
            current = found[marked[1]] = []
        else:
            current.append(line)
    return found


def flushed(lines: list[str]) -> list[str]:
    calls = (re.search(r"(?:fsync|fdatasync)\(\d+<([^>]+)>\) += 0", line) for line in lines)
    return [call[1].rsplit("/", 1)[1] for call in calls if call]


def test_a_plain_commit_writes_the_log_and_flushes_nothing(calls):
    assert any("index.sqlite-wal" in line for line in calls["plain"])
    assert flushed(calls["plain"]) == []
    assert flushed(calls["again"]) == []


@pytest.mark.parametrize("act", ["flush", "durable"])
def test_a_flush_comes_after_the_last_write_to_the_log(calls, act):
    assert flushed(calls[act])[-1:] == ["index.sqlite-wal"]
    assert re.search("(fsync|fdatasync).*index.sqlite-wal", calls[act][-1])


def test_creating_flushes_the_log_and_then_the_folder(calls):
    names = flushed(calls["create"])
    assert "index.sqlite-wal" in names
    assert re.search(r"fsync\(\d+<[^>]*/trace\d+>\) += 0", calls["create"][-1])
