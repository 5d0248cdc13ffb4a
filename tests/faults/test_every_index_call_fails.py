"""Every call below the index failing in turn, those that SQLite makes by itself included.

A hospital is made and has its day (tests/hospital_day.py) on a disk of our own, where the N-th call
on a file of its index fails, for every N, in every way. It must be told, go on in the evening, and,
after a power cut that takes what was not flushed, find everything in the morning. Of the flushes,
each one of the whole store fails. `HARMONI_INDEX_FAULTS_EVERY` says which of the other calls: every
1st takes twenty minutes.

Each day is a process of its own, so that the cut finds the database open.
"""

import os
import pickle
import traceback

import pytest

import house as houses
import volatile_disk
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings import record
from harmoni.holdings.holding import Holding
from harmoni.model.errors import AlreadyHeld, OutOfResources, StorageFailed
from harmoni.sealing import age
from harmoni.testing import FakeClock
from hospital_day import SMALL_BYTES, Story

# Each fault, and below which folder of the hospital's store it is met. Other calls of the store
# fail in test_every_call_fails.py; flushes fail here, since here the power is cut afterwards.
FAULTS = {"EIO": "/index", "ENOSPC": "/index", "half": "/index", "flush": ""}
EVERY = int(os.environ.get("HARMONI_INDEX_FAULTS_EVERY", "40"))
CUSTODY_KEY = bytes(range(32))
RECOVERY = age.generate_identity(random=bytes(range(32))).recipient()


def in_child(act):
    """What an act gives in a process that ends without closing anything."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = ("gives", act())
        except BaseException:  # noqa: BLE001 - the parent raises it
            told = ("raises", traceback.format_exc())
        os.write(writing, pickle.dumps(told))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert said, f"the process ended with {status}"
    outcome, told = pickle.loads(said)
    assert outcome == "gives", told
    return told


def hospital(root):
    """The one that is made; or, where making it failed, is made now or was there after all."""
    site = houses.make_site(root, FakeClock(), CUSTODY_KEY, "dc1-n1-w0")

    def make():
        return Holding.create(site, houses.HOSPITAL, RECOVERY)

    refused = []
    try:
        holding = make()
    except (OutOfResources, StorageFailed) as error:
        refused.append(error)
        try:
            holding = make()
        except AlreadyHeld:
            holding = Holding(site, houses.HOSPITAL)
    story = Story(houses.House(site, holding))
    story.refused = refused
    return story


def live(disk, root):
    """A day with a fault, and the evening; what was told, and which call failed how."""
    story = hospital(root)
    story.day()
    calls, failed = disk.count()
    disk.fail(0, "EIO")
    story.evening()
    return story.told, story.events, len(story.refused), calls, failed


def look(root, told, events):
    """The morning after the power cut."""
    site = houses.make_site(root, FakeClock(), CUSTODY_KEY, "dc1-n1-w1")
    story = Story(houses.House(site, Holding(site, houses.HOSPITAL)))
    story.told, story.events = told, events
    story.morning()


def run(disk, fault, fails_at):
    root = disk.path / f"{fault}-{fails_at}"
    Filesystem(disk.path).make_directory(root.name)
    disk.fail(fails_at, fault, f"/{root.name}{FAULTS[fault]}")
    told, events, refused, calls, failed = in_child(lambda: live(disk, root))
    disk.cut(fails_at, 0.0)
    try:
        in_child(lambda: look(root, told, events))
    except AssertionError as error:
        error.add_note(f"what failed: {failed}")
        raise
    return refused, calls, failed


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_of_the_index_fails_nothing_acknowledged_is_lost(
    fault, tmp_path, monkeypatch
):
    step = 1 if fault == "flush" else EVERY
    monkeypatch.setattr(record, "SMALL_BYTES", SMALL_BYTES)
    with volatile_disk.mounted(tmp_path) as disk:
        refused, calls, failed = run(disk, fault, 0)
        assert (refused, failed) == (0, "-")
        told = 0
        for fails_at in range(1, calls + 1, step):
            try:
                refused, _, failed = run(disk, fault, fails_at)
            except BaseException as error:
                error.add_note(f"{fault}: call {fails_at} of {calls}")
                raise
            told += bool(refused)
        assert told
        print(  # noqa: T201 - the measured figure
            f"{fault}: every {step}th of {calls} calls failed once; somebody was told {told} times"
        )
