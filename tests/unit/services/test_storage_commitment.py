import pytest

from harmoni.dicom import uids
from harmoni.dicom.commitment_data import Reference
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.status import Status
from harmoni.model.errors import InvalidInput
from harmoni.net.driver import AssociationEnded
from harmoni.services import storage_commitment
from harmoni.services.storage_commitment import request_commitment
from memory_archive import MemoryArchive
from served_archive import CT, IMPLICIT, contexts, instance, served

HELD = instance(1)
KNOWN = Reference(sop_class_uid=CT, sop_instance_uid=HELD.sop_instance_uid)
UNKNOWN = Reference(sop_class_uid=CT, sop_instance_uid="1.9.9")
COMMITMENT = contexts((uids.STORAGE_COMMITMENT_PUSH, [IMPLICIT]))


def receive_report(channel, *, timeout_s):
    """The report that comes, or None."""
    kept = []
    came = storage_commitment.receive_report(channel, timeout_s=timeout_s, keep=kept.append)
    return kept.pop() if came else None


@pytest.fixture
def archive():
    archive = MemoryArchive()
    archive.keep(HELD)
    return archive


@pytest.fixture
def running(archive):
    with served(archive) as running:
        yield running


@pytest.fixture
def channel(running):
    channel = running.open(*COMMITMENT)
    yield channel
    channel.release(5)


def wait_until(archive, condition):
    with archive.changed:
        assert archive.changed.wait_for(condition, 10)


def test_a_request_is_answered_when_it_is_kept_and_its_report_follows(archive, channel):
    answer = request_commitment(channel, "2.25.1", [KNOWN], timeout_s=10)
    assert (answer.status, answer.action_type_id) == (Status.SUCCESS, 1)
    assert answer.affected_sop_instance_uid == uids.STORAGE_COMMITMENT_PUSH_INSTANCE
    assert archive.transactions == {"2.25.1": (KNOWN,)}
    report = receive_report(channel, timeout_s=10)
    assert (report.transaction_uid, report.committed, report.failed) == ("2.25.1", (KNOWN,), ())
    assert report.retrieve_ae_title == "HARMONI"
    wait_until(archive, lambda: archive.answered_reports)
    assert receive_report(channel, timeout_s=0.1) is None


def test_a_report_names_what_failed_with_its_reason(archive, channel):
    request_commitment(channel, "2.25.1", [KNOWN, UNKNOWN], timeout_s=10)
    report = receive_report(channel, timeout_s=10)
    assert report.committed == (KNOWN,)
    assert [(f.sop_instance_uid, f.failure_reason) for f in report.failed] == [("1.9.9", 0x0112)]


@pytest.mark.parametrize(("references", "event_type"), [([KNOWN], 1), ([KNOWN, UNKNOWN], 2)])
def test_the_event_type_says_whether_there_are_failures(channel, references, event_type):
    request_commitment(channel, "2.25.1", references, timeout_s=10)
    message = channel.receive(10)
    assert (message.command.field, message.command.event_type_id) == (
        CommandField.N_EVENT_REPORT_RQ,
        event_type,
    )
    channel.discard_data_set()


def test_the_same_transaction_again_is_success_and_with_other_content_0131(archive, channel):
    assert request_commitment(channel, "2.25.1", [KNOWN], timeout_s=10).status == Status.SUCCESS
    receive_report(channel, timeout_s=10)
    assert request_commitment(channel, "2.25.1", [KNOWN], timeout_s=10).status == Status.SUCCESS
    assert request_commitment(channel, "2.25.1", [UNKNOWN], timeout_s=10).status == 0x0131


def test_a_report_that_was_not_answered_comes_again_on_the_next_association(archive, running):
    first = running.open(*COMMITMENT)
    request_commitment(first, "2.25.1", [KNOWN], timeout_s=10)
    first.receive(10)
    first.abort()
    second = running.open(*COMMITMENT)
    assert receive_report(second, timeout_s=10).transaction_uid == "2.25.1"
    wait_until(archive, lambda: archive.answered_reports)
    second.release(5)


def test_a_refused_report_is_not_repeated_on_the_same_association(archive, running):
    channel = running.open(*COMMITMENT)
    request_commitment(channel, "2.25.1", [KNOWN], timeout_s=10)
    message = channel.receive(10)
    channel.discard_data_set()
    refusal = Command(
        field=CommandField.N_EVENT_REPORT_RSP,
        message_id_responded_to=message.command.message_id,
        status=0x0110,
    )
    channel.send(message.context, refusal)
    assert channel.receive(0.1) is None
    assert not archive.answered_reports
    channel.release(5)
    second = running.open(*COMMITMENT)
    assert receive_report(second, timeout_s=10).transaction_uid == "2.25.1"
    second.release(5)


def test_reports_follow_each_other_and_requests_may_come_between(archive, channel):
    for number in range(3):
        archive.request(f"2.25.{number}", [KNOWN])
    reports = [receive_report(channel, timeout_s=10).transaction_uid for _ in range(3)]
    assert reports == ["2.25.0", "2.25.1", "2.25.2"]
    assert request_commitment(channel, "2.25.9", [KNOWN], timeout_s=10).status == Status.SUCCESS


def test_a_response_to_another_report_ends_in_abort(archive, channel):
    request_commitment(channel, "2.25.1", [KNOWN], timeout_s=10)
    message = channel.receive(10)
    channel.discard_data_set()
    wrong = Command(field=CommandField.N_EVENT_REPORT_RSP, message_id_responded_to=999, status=0)
    channel.send(message.context, wrong)
    with pytest.raises(AssociationEnded):
        channel.receive(10)
    assert not archive.answered_reports


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"requested_sop_class_uid": CT}, 0x0118),
        ({"requested_sop_instance_uid": "1.2.3"}, 0x0112),
        ({"action_type_id": 2}, 0x0123),
        ({}, 0x0115),
    ],
)
def test_a_request_that_breaks_the_rules_has_its_status(archive, channel, changes, status):
    command = Command(
        **{
            "field": CommandField.N_ACTION_RQ,
            "has_data_set": True,
            "message_id": 1,
            "requested_sop_class_uid": uids.STORAGE_COMMITMENT_PUSH,
            "requested_sop_instance_uid": uids.STORAGE_COMMITMENT_PUSH_INSTANCE,
            "action_type_id": 1,
            **changes,
        }
    )
    channel.send(channel.contexts[1], command, (b"no data set at all",))
    assert channel.receive(10).command.status == status
    assert not archive.transactions


def test_a_peer_without_a_context_for_the_service_gets_no_reports(archive, running):
    archive.request("2.25.1", [KNOWN])
    channel = running.open(*contexts((uids.VERIFICATION, [IMPLICIT])))
    assert channel.receive(0.1) is None
    channel.release(5)
    assert not archive.answered_reports


def test_an_unreadable_report_is_answered_0115(archive):
    command = Command(
        field=CommandField.N_EVENT_REPORT_RQ,
        has_data_set=True,
        message_id=5,
        affected_sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
        affected_sop_instance_uid=uids.STORAGE_COMMITMENT_PUSH_INSTANCE,
        event_type_id=1,
    )
    statuses = []

    def serve(channel):
        channel.send(channel.contexts[1], command, (b"nonsense",))
        statuses.append(channel.receive(10).command.status)

    with served(archive, serve=serve) as running:
        channel = running.open(*COMMITMENT)
        with pytest.raises(InvalidInput):
            receive_report(channel, timeout_s=10)
        with pytest.raises(AssociationEnded, match="released"):
            channel.receive(10)
    assert statuses == [0x0115]
