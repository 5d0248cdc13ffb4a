"""Small files are published whole or not at all, and what a crash leaves of one on its way goes."""

import signal
import subprocess
import sys

import pytest

from harmoni.backends.filesystem import File, Filesystem

ABANDONED = "d/.a.0123456789abcdef.tmp"
ACTS = pytest.mark.parametrize("act", ["publish", "replace"])
KILLED = """
import os, pathlib, signal, sys
from harmoni.backends.filesystem import Filesystem
os.link = os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
getattr(Filesystem(pathlib.Path(sys.argv[1])), sys.argv[2])("d/a", b"data")
"""


@pytest.fixture
def store(tmp_path):
    store = Filesystem(tmp_path)
    store.make_directory("d")
    return store


class Watched(Filesystem):
    """Somebody else removes what is abandoned after each act of whoever publishes.

    Between making the first file and locking it, too; from then on not, or it would never end.
    """

    def __init__(self, root):
        super().__init__(root)
        self.made = 0
        self.dropped = []

    def create(self, name):
        self.made += 1
        made = super().create(name)
        return self.after(made) if self.made == 1 else made

    def link(self, old, new):
        return self.after(super().link(old, new))

    def rename(self, old, new):
        return self.after(super().rename(old, new))

    def _opened(self, descriptor, name):
        file = WatchedFile(descriptor, name)
        file.files = self
        return file

    def after(self, done):
        self.dropped += Filesystem(self.path("")).drop_abandoned("d")
        return done


class WatchedFile(File):
    def lock(self, *, wait=False):
        return self.files.after(super().lock(wait=wait))

    def write(self, buffers, offset):
        return self.files.after(super().write(buffers, offset))

    def sync(self):
        return self.files.after(super().sync())


@ACTS
def test_what_a_crash_kept_from_being_published_goes_and_nothing_else(store, act):
    getattr(store, act)("d/a", b"data")
    others = {".a.tmp", ".a.0123456789abcdef", "a.0123456789abcdef.tmp"}
    for name in others:
        store.create(f"d/{name}")
    with store.create(ABANDONED) as file:
        file.lock()
        assert store.drop_abandoned("d") == []  # whoever holds the lock lives

    assert store.drop_abandoned("d") == [ABANDONED]
    assert set(store.names("d")) == {"a", *others}
    assert store.drop_abandoned("d") == store.drop_abandoned("nowhere") == []


@ACTS
def test_what_is_being_published_is_taken_for_abandoned_at_no_step_that_matters(tmp_path, act):
    store = Watched(tmp_path)
    store.make_directory("d")
    getattr(store, act)("d/a", b"data")

    assert store.read("d/a") == b"data"
    assert store.names("d") == ["a"]
    # Before it was locked it was removed, and another one made.
    assert store.made == 2
    assert len(store.dropped) == 1


@ACTS
def test_who_is_killed_while_publishing_leaves_what_goes_the_next_time(store, tmp_path, act):
    command = [sys.executable, "-c", KILLED, str(tmp_path), act]
    killed = subprocess.run(command, check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert len(store.names("d")) == len(store.drop_abandoned("d")) == 1
    assert store.names("d") == []
