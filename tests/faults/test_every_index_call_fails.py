"""Every call below the index failing in turn, those that SQLite makes by itself included.

A hospital is made and has its day (tests/hospital_day.py) on a disk of our own, where the N-th call
on a file of its index fails, for every N, in every way. It must be told, go on in the evening, and,
after a power cut that takes what was not flushed, find everything in the morning. Of the flushes,
each one of the whole store fails. Likewise an index of the first schema that is migrated and used.
`HARMONI_INDEX_FAULTS_EVERY` says which calls of a day fail, of flushes and of a migration more of
them: every 1st takes half an hour.
"""

import os

import pytest

import house as houses
import volatile_disk
from harmoni.holdings import record
from harmoni.holdings.holding import Holding
from harmoni.index import migrations
from harmoni.index.database import Database
from harmoni.model.errors import AlreadyHeld, OutOfResources, StorageFailed
from harmoni.sealing import age
from harmoni.testing import FakeClock
from hospital_day import SMALL_BYTES, Story
from index_samples import KEY
from lives import each_call_fails

# Each fault, and below which folder of the hospital's store it is met. Other calls of the store
# fail in test_every_call_fails.py; flushes fail here, since here the power is cut afterwards.
FAULTS = {"EIO": "/index", "ENOSPC": "/index", "half": "/index", "flush": ""}
EVERY = int(os.environ.get("HARMONI_INDEX_FAULTS_EVERY", "40"))
CUSTODY_KEY = bytes(range(32))
RECOVERY = age.generate_identity(random=bytes(range(32))).recipient()
pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def disk(tmp_path):
    with volatile_disk.mounted(tmp_path) as mounted:
        yield mounted


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


def a_day(root):
    """The day with a fault, and the evening."""
    story = hospital(root)
    story.day()
    yield len(story.refused)
    story.evening()
    return story.told, story.events


def the_morning(root, told):
    """In another process, after the power cut."""
    site = houses.make_site(root, FakeClock(), CUSTODY_KEY, "dc1-n1-w1")
    story = Story(houses.House(site, Holding(site, houses.HOSPITAL)))
    story.told, story.events = told
    story.morning()


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_of_the_index_fails_nothing_acknowledged_is_lost(fault, disk, monkeypatch):
    monkeypatch.setattr(record, "SMALL_BYTES", SMALL_BYTES)
    every = max(1, EVERY // 20) if fault == "flush" else EVERY
    each_call_fails(disk, fault, a_day, the_morning, below=FAULTS[fault], every=every)


def write(connection, uid):
    connection.execute(
        "INSERT OR IGNORE INTO commitment (requester, transaction_uid, accepted_at_ms)"
        " VALUES ('GW', ?, 1)",
        (uid,),
    )


def first_schema(root):
    """An index as the first version left it, durable, with a row."""
    path = root / "index.sqlite"
    path.touch()
    database = Database(path, KEY)
    with database._changing_schema() as connection:
        migrations.migrate(connection, "0001")
    with database.write() as connection:
        write(connection, "old")
    database._settle()
    database.close()


def a_migration(root):
    """Opened by the present version, and used; tried again without the fault."""
    told, refused = {"old"}, 0

    def use():
        database = Database.open(root / "index.sqlite", KEY)
        for uid in ("1", "2", "3"):
            with database.write() as connection:
                write(connection, uid)
            database.flush()
            told.add(uid)

    try:
        use()
    except (OutOfResources, StorageFailed):
        refused = 1
    yield refused
    use()
    return told


def a_later_start(root, told):
    """Every row whose flush was reported is there, and the schema is the present one."""
    database = Database.open(root / "index.sqlite", KEY)
    with database.reader() as connection:
        rows = connection.execute("SELECT transaction_uid FROM commitment").fetchall()
        assert {uid for (uid,) in rows} >= told
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert revision == migrations.REVISION


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_of_a_migration_fails_the_index_keeps_its_rows(fault, disk):
    every = 1 if fault == "flush" else max(1, EVERY // 4)
    each_call_fails(disk, fault, a_migration, a_later_start, prepare=first_schema, every=every)
