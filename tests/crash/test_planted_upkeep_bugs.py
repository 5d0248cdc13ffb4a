"""The harness finds faults in what an operator and a keeper do: repair, scrub, rotation, erasure.

As in `test_planted_bugs`, each is in the product while a scenario is played and gone when its
states are recovered; a fault of recovery itself stays.
"""

import sys
from contextlib import contextmanager

import pytest

from crash.harness import explore
from crash.recording import RecordingFile, RecordingFilesystem
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.erase import Eraser
from harmoni.holdings.holding import Holding
from harmoni.holdings.live_index import LiveIndex
from harmoni.holdings.record import Incoming
from harmoni.holdings.repair import Repairer
from harmoni.holdings.scrub import Scrubber
from harmoni.vault.keyring import Keyring
from harmoni.vault.layout import REPAIR_SUFFIX, REPLACED_SUFFIX
from harmoni.vault.rotation import Rotation
from harmoni.vault.writer import PackWriter

SEED = 1
BOUND = 400
"""So many states at most; a fault that takes more has slipped through."""


def within(plant, owner, name):
    """A list that is not empty while a method runs."""
    real, running = getattr(owner, name), []

    def method(self, *args, **kwargs):
        running.append(True)
        try:
            return real(self, *args, **kwargs)
        finally:
            running.clear()

    plant.setattr(owner, name, method)
    return running


def no_folder_is_flushed_within(plant, owner, name):
    running, real = within(plant, owner, name), RecordingFilesystem.sync_directory
    plant.setattr(
        RecordingFilesystem,
        "sync_directory",
        lambda self, folder: None if running else real(self, folder),
    )


def published_without_a_flush(plant, suffix):
    """A name that ends so is published like the others, and neither bytes nor name are flushed."""
    real, skipping = Filesystem.publish, []

    def publish(self, name, data):
        skipping.extend([True] * name.endswith(suffix))
        try:
            real(self, name, data)
        finally:
            skipping.clear()

    plant.setattr(Filesystem, "publish", publish)
    for owner, act in ((RecordingFile, "sync"), (RecordingFilesystem, "sync_directory")):
        flush = getattr(owner, act)
        plant.setattr(owner, act, lambda *args, flush=flush: None if skipping else flush(*args))


def a_repaired_pack_is_renamed_before_its_copy_is_flushed(plant):
    real = RecordingFile.sync
    plant.setattr(
        RecordingFile, "sync", lambda self: None if REPAIR_SUFFIX in self.name else real(self)
    )


def a_repaired_pack_s_folder_is_not_flushed(plant):
    no_folder_is_flushed_within(plant, Repairer, "_put_in_place")


def damage_is_noted_without_a_flush(plant):
    running, real = within(plant, Scrubber, "verify"), LiveIndex.write

    @contextmanager
    def write(self, *, durable=False):
        with real(self, durable=durable and not running) as connection:
            yield connection

    plant.setattr(LiveIndex, "write", write)


def the_index_is_not_flushed_by_the_keeper(plant):
    plant.setattr(LiveIndex, "flush_if_changed", lambda _self: None)


def an_old_epoch_key_goes_before_the_blocks_under_the_new_one_are_durable(plant):
    no_folder_is_flushed_within(plant, Rotation, "_wrap")


def an_old_epoch_key_is_replaced_before_it_is_kept(plant):
    published_without_a_flush(plant, REPLACED_SUFFIX)


def an_heir_takes_over_before_what_is_encrypted_to_it_is_durable(plant):
    no_folder_is_flushed_within(plant, Rotation, "_encrypt_to")


def keys_are_encrypted_to_an_heir_that_is_not_durable(plant):
    published_without_a_flush(plant, ".next")


def a_key_is_destroyed_without_a_flush(plant):
    no_folder_is_flushed_within(plant, Keyring, "erase")


def keys_are_destroyed_before_the_tombstone_is_durable(plant):
    running = within(plant, Eraser, "erase")
    real_sync, real_write = PackWriter.sync, LiveIndex.write
    plant.setattr(PackWriter, "sync", lambda self: None if running else real_sync(self))
    plant.setattr(
        LiveIndex,
        "write",
        lambda self, *, durable=False: real_write(self, durable=durable and not running),
    )


def what_was_never_published_stays(plant):
    plant.setattr(Holding, "drop_abandoned", lambda _self: [])


def what_is_held_is_taken_in_again(plant):
    plant.setattr(Incoming, "_held_already", lambda *_: False)


PLANTED = [
    (a_repaired_pack_is_renamed_before_its_copy_is_flushed, "scrub and repair"),
    (a_repaired_pack_s_folder_is_not_flushed, "scrub and repair"),
    (damage_is_noted_without_a_flush, "scrub and repair"),
    (the_index_is_not_flushed_by_the_keeper, "scrub and repair"),
    (an_old_epoch_key_goes_before_the_blocks_under_the_new_one_are_durable, "rotate keys"),
    (an_old_epoch_key_is_replaced_before_it_is_kept, "rotate keys"),
    (an_heir_takes_over_before_what_is_encrypted_to_it_is_durable, "rotate keys"),
    (keys_are_encrypted_to_an_heir_that_is_not_durable, "rotate keys"),
    (a_key_is_destroyed_without_a_flush, "erase"),
    (keys_are_destroyed_before_the_tombstone_is_durable, "erase"),
]
STAYING = [
    (what_was_never_published_stays, "rotate keys"),
    (what_is_held_is_taken_in_again, "receive and seal"),
]


@pytest.mark.parametrize(
    ("plant", "scenario"), [*PLANTED, *STAYING], ids=lambda each: getattr(each, "__name__", "in")
)
def test_a_planted_fault_is_found(plant, scenario, capsys):
    stays = (plant, scenario) in STAYING
    explored = explore(scenario, BOUND, seed=SEED, planted=plant, stays=stays)
    with capsys.disabled():
        sys.stdout.write(f"\nfound in {explored.states} states: {explored.violations}\n")

    assert explored.violations, f"not found in {explored.states} states"
