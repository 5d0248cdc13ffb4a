"""What the audit trail writes of peers, and of strangers whose handshake was refused."""

import pytest

from harmoni.audit import spool
from harmoni.audit.event import Act, Outcome, Participant
from harmoni.audit.spool import Spool
from harmoni.backends.filesystem import Filesystem
from harmoni.dicom import identifier, uids
from harmoni.model.header import PATIENT_ID, STUDY_INSTANCE_UID, Element, Header
from harmoni.model.identifiers import WriterId
from harmoni.policy.access import Peer, Right
from harmoni.role.trail import MAX_REFUSALS, AuditDoor, Strangers, Trail
from harmoni.testing import FakeClock
from house import element

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


def header(study="1.2.3", patient=b"4711 "):
    return Header(
        patient=(Element(PATIENT_ID, "LO", patient),),
        study=(Element(STUDY_INSTANCE_UID, "UI", study.encode()),),
    )


def test_who_touched_a_study_is_on_record_before_its_first_instance_counts(audited):
    """A killed process leaves it: nothing was closed here, and nothing flushed."""
    trail = Trail(audited.door, Participant(hospital="hospital-a"))
    for _ in range(3):
        trail.stored(header(), "1.2.840.10008.5.1.4.1.1.2")
    trail.given("1.2.3", "1.2.840.10008.5.1.4.1.1.2", None)

    assert [
        (Act.BEGIN_TRANSFERRING, "C", ("1.2.3",), ("4711",)),
        (Act.BEGIN_TRANSFERRING, "R", ("1.2.3",), ()),
    ] == [(each.act, each.action, each.study_uids, each.patient_ids) for each in audited.events()]


def test_where_an_instance_was_moved_to_is_on_record(audited):
    trail = Trail(audited.door, Participant(hospital="hospital-a", calling_ae_title="PACS_A"))
    reading_room = Peer(
        ae_title="READER", rights=frozenset({Right.DESTINATION}), host="192.0.2.9", port=11112
    )
    trail.given("1.2.3", "1.2.840.10008.5.1.4.1.1.2", reading_room)
    trail.given("1.2.3", "1.2.840.10008.5.1.4.1.1.2", None)
    trail.close()

    assert [
        (each.act, each.other.called_ae_title, each.other.address) for each in audited.events()
    ] == [
        (Act.BEGIN_TRANSFERRING, "READER", "192.0.2.9"),
        (Act.BEGIN_TRANSFERRING, "", ""),
        (Act.INSTANCES_TRANSFERRED, "READER", "192.0.2.9"),
        (Act.INSTANCES_TRANSFERRED, "", ""),
    ]


def test_the_numbers_are_written_when_the_association_ends(audited):
    trail = Trail(audited.door, Participant(hospital="hospital-a"))
    for _ in range(3):
        trail.stored(header(), "1.2.840.10008.5.1.4.1.1.2")
    trail.close()
    trail.close()

    begun, done = audited.events()
    assert begun.act is Act.BEGIN_TRANSFERRING
    assert (done.act, dict(done.instances)) == (
        Act.INSTANCES_TRANSFERRED,
        {"1.2.840.10008.5.1.4.1.1.2": 3},
    )


def test_an_association_that_stays_open_is_written_once_a_minute(audited):
    trail = Trail(audited.door, Participant(hospital="hospital-a"))
    trail.stored(header(), "1.2.840.10008.5.1.4.1.1.2")
    trail.close_if_old()
    assert len(audited.events()) == 1

    audited.clock.advance(60)
    trail.close_if_old()
    trail.close_if_old()
    assert [each.act for each in audited.events()] == [
        Act.BEGIN_TRANSFERRING,
        Act.INSTANCES_TRANSFERRED,
    ]


def test_a_clock_that_is_set_back_holds_up_no_trail(audited):
    trail = Trail(audited.door, Participant(hospital="hospital-a"))
    trail.stored(header(), "1.2.840.10008.5.1.4.1.1.2")
    audited.clock.set_back(86_400)
    audited.clock.advance(60)

    trail.close_if_old()

    assert [each.act for each in audited.events()][1:] == [Act.INSTANCES_TRANSFERRED]


def test_a_query_is_audited_as_it_was_received_whatever_its_character_set(audited):
    """Greek in an identifier that declares no character set is what many devices send."""
    raw = element(0x0008_0052, b"CS", b"STUDY") + element(
        0x0010_0010, b"PN", "ΠΑΠΑΔ*".encode("iso8859_7")
    )
    query = identifier.parse_query(raw, uids.EXPLICIT_VR_LITTLE_ENDIAN, "STUDY")
    Trail(audited.door, Participant()).asked(query)

    assert [raw] == [each.query for each in audited.events()]
