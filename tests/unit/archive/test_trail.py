"""What the audit trail writes of peers whose handshake was refused."""

import pytest

from harmoni.archive.trail import MAX_REFUSALS, AuditDoor, Strangers
from harmoni.audit import spool
from harmoni.audit.event import Act, Outcome
from harmoni.audit.spool import Spool
from harmoni.backends.filesystem import Filesystem
from harmoni.model.identifiers import WriterId
from harmoni.testing import FakeClock

KEY = bytes(32)
ADDRESS = "192.0.2.7"
EXPIRED = "TLS: certificate has expired"


class Audited:
    """Strangers before a door whose spool can be read."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.files = Filesystem(folder)
        self.door = AuditDoor(self.open, self.clock)
        self.strangers = Strangers(self.door)

    def open(self):
        return Spool.create(
            self.files,
            writer=WriterId("dc1-node1-w0"),
            started_ms=self.clock.now_ms(),
            key=KEY,
            salt=bytes(32),
        )

    def events(self):
        return [
            entry.event
            for name in spool.names(self.files)
            for entry in spool.read(self.files, name, KEY)
        ]


@pytest.fixture
def audited(tmp_path):
    audited = Audited(tmp_path)
    with audited.door:
        yield audited


def test_a_refusal_says_where_from_and_why(audited):
    audited.strangers.refused(ADDRESS, EXPIRED)
    (event,) = audited.events()
    assert (event.act, event.outcome) == (Act.NODE_AUTHENTICATION, Outcome.SERIOUS_FAILURE)
    assert (event.who.address, event.reason) == (ADDRESS, EXPIRED)


def test_the_same_refusal_is_written_once_a_minute(audited):
    for _ in range(3):
        audited.strangers.refused(ADDRESS, EXPIRED)
    audited.strangers.refused(ADDRESS, "TLS: unsupported protocol")
    audited.strangers.refused("192.0.2.8", EXPIRED)
    assert len(audited.events()) == 3
    audited.clock.advance(60)
    audited.strangers.refused(ADDRESS, EXPIRED)
    assert len(audited.events()) == 4


def test_many_strangers_write_only_so_much_in_a_minute(audited):
    for number in range(MAX_REFUSALS + 5):
        audited.strangers.refused(f"2001:db8::{number:x}", EXPIRED)
    assert len(audited.events()) == MAX_REFUSALS
