"""The harness finds what it is there for: faults in the order of durability, planted one by one.

A fault is in the product while a scenario is played, and gone when its states are recovered.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from crash.harness import explore
from crash.recording import RecordingFile, RecordingFilesystem
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings import live_index
from harmoni.holdings.let_go import LetGo
from harmoni.holdings.seal import Sealer
from harmoni.index.database import Database
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import NEW_SUFFIX, Layout
from harmoni.vault.writer import PackWriter

SEED = 1
BOUND = 500
"""So many states at most; a fault that takes more has slipped through."""

Plant = Callable[[pytest.MonkeyPatch], None]


def packs_are_never_flushed(plant):
    real = RecordingFile.sync

    def sync(self):
        # A flush that is to fail still does.
        if not self.name.endswith(NEW_SUFFIX) or self._files.fails_next("sync", self.name):
            real(self)

    plant.setattr(RecordingFile, "sync", sync)


def a_row_is_committed_and_acknowledged_before_its_pack_is_flushed(plant):
    """The flush comes with the next instance."""
    real, late = PackWriter.sync, {}

    def sync(self):
        if late.setdefault(self.pack_id, True):
            late[self.pack_id] = False
        else:
            real(self)
            late[self.pack_id] = True

    plant.setattr(PackWriter, "sync", sync)


def a_new_pack_s_name_is_never_flushed(plant):
    def sync(self):
        self._file.sync()

    plant.setattr(PackWriter, "sync", sync)


def a_key_block_is_published_without_a_flush(plant):
    real = RecordingFile.sync
    plant.setattr(RecordingFile, "sync", lambda self: None if "/." in self.name else real(self))


def a_key_block_s_folder_is_not_flushed(plant):
    real = RecordingFilesystem.sync_directory
    plant.setattr(
        RecordingFilesystem,
        "sync_directory",
        lambda self, name: None if name.startswith("keys/") else real(self, name),
    )


def a_key_block_is_published_after_its_first_use(plant):
    """It waits in memory until the pack has been flushed once."""
    real, waiting = Filesystem.publish, []

    def publish(self, name, data):
        if name.startswith("keys/") and "/dc1-n1-" in name:
            waiting.append((self, name, data))
        else:
            real(self, name, data)

    real_stamp, real_sync = Filesystem.stamp, PackWriter.sync

    def stamp(self, name):
        return (0, 0) if any(name == other for _, other, _ in waiting) else real_stamp(self, name)

    def sync(self):
        real_sync(self)
        if self._sequence > 1:
            for files, name, data in waiting:
                real(files, name, data)
            waiting.clear()

    plant.setattr(Filesystem, "publish", publish)
    plant.setattr(Filesystem, "stamp", stamp)
    plant.setattr(PackWriter, "sync", sync)
    plant.setattr(Keyring, "_kept_block", lambda _self, opened: opened)


def a_pack_is_moved_before_its_rows_are_flushed(plant):
    real = live_index.LiveIndex.write

    @contextmanager
    def write(self, *, durable=False):
        with real(self) as connection:
            yield connection

    plant.setattr(live_index.LiveIndex, "write", write)


def a_tail_is_not_flushed(plant):
    real_tail, real_sync, sealing = Sealer._write_tail, RecordingFile.sync, []

    def write_tail(self, *args):
        sealing.append(True)
        try:
            return real_tail(self, *args)
        finally:
            sealing.clear()

    plant.setattr(Sealer, "_write_tail", write_tail)
    plant.setattr(RecordingFile, "sync", lambda self: None if sealing else real_sync(self))


def a_log_record_is_not_flushed(plant):
    real_sync, real_folder = RecordingFile.sync, RecordingFilesystem.sync_directory
    plant.setattr(
        RecordingFile,
        "sync",
        lambda self: None if self.name.startswith("log/") else real_sync(self),
    )
    plant.setattr(
        RecordingFilesystem,
        "sync_directory",
        lambda self, name: None if name.startswith("log/") else real_folder(self, name),
    )


def a_moved_pack_s_new_folder_is_not_flushed(plant):
    real = RecordingFilesystem.sync_directory
    plant.setattr(
        RecordingFilesystem,
        "sync_directory",
        lambda self, name: None if "/p/" in name else real(self, name),
    )


def a_pack_loses_its_old_name_before_the_new_one_is_durable(plant):
    real = RecordingFilesystem.link

    def link(self, old, new):
        real(self, old, new)
        if "/p/" in new:
            self.remove(old)
            self.sync_directory(Layout(old.split("/")[1]).open_packs)

    plant.setattr(RecordingFilesystem, "link", link)


def an_evicted_pack_is_removed_before_its_event_is_durable(plant):
    real = LetGo._evict

    def evict(self, row, study):
        kept = self._events.append

        def remove_first(*args, **kwargs):
            self._remove(row.pack_id)
            return kept(*args, **kwargs)

        self._events.append = remove_first
        try:
            return real(self, row, study)
        finally:
            self._events.append = kept

    plant.setattr(LetGo, "_evict", evict)


def a_rebuilt_index_is_made_live_without_a_flush(plant):
    flush = Database.flush
    plant.setattr(Database, "_settle", flush)
    plant.setattr(Database, "flush", lambda _self: None)


def a_fenced_pack_is_removed_before_its_copy_is_flushed(plant):
    real = Sealer._save

    def save(self, file, pack_id):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(PackWriter, "sync", lambda _self: None)
            return real(self, file, pack_id)

    plant.setattr(Sealer, "_save", save)


PLANTED: list[tuple[Plant, str]] = [
    (packs_are_never_flushed, "receive and seal"),
    (a_row_is_committed_and_acknowledged_before_its_pack_is_flushed, "receive and seal"),
    (a_new_pack_s_name_is_never_flushed, "receive and seal"),
    (a_key_block_is_published_without_a_flush, "receive and seal"),
    (a_key_block_s_folder_is_not_flushed, "receive and seal"),
    (a_key_block_is_published_after_its_first_use, "receive and seal"),
    (a_pack_is_moved_before_its_rows_are_flushed, "receive and seal"),
    (a_tail_is_not_flushed, "receive and seal"),
    (a_log_record_is_not_flushed, "receive and seal"),
    (a_moved_pack_s_new_folder_is_not_flushed, "receive and seal"),
    (a_pack_loses_its_old_name_before_the_new_one_is_durable, "receive and seal"),
    (a_fenced_pack_is_removed_before_its_copy_is_flushed, "receive and seal"),
    (an_evicted_pack_is_removed_before_its_event_is_durable, "let go"),
    (a_rebuilt_index_is_made_live_without_a_flush, "rebuild"),
]


@pytest.mark.parametrize(
    ("plant", "scenario"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED]
)
def test_a_planted_fault_is_found(plant, scenario, capsys):
    explored = explore(scenario, BOUND, seed=SEED, planted=plant)
    with capsys.disabled():
        sys.stdout.write(f"\nfound in {explored.states} states: {explored.violations}\n")

    assert explored.violations, f"not found in {explored.states} states"


def test_a_correct_order_is_not_reported():
    explored = explore("receive and seal", 100, seed=SEED)

    assert explored.violations == []
