from dataclasses import replace

import pytest

from harmoni.dicom import identifier, uids
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.identifier import Key, Query, QueryLevel, Single, Universal
from harmoni.dicom.status import Status
from harmoni.model import errors
from harmoni.net.driver import AssociationEnded
from harmoni.services import exchange, get, verification
from memory_archive import MemoryArchive
from served_archive import CT, EXPLICIT, IMPLICIT, JPEG, MR, contexts, instance, receiver, served

STUDY_UID = 0x0020_000D
FAILED_LIST = 0x0008_0058
STUDY = "1.2.3"
RETRIEVE = (uids.STUDY_ROOT_GET, [IMPLICIT])


@pytest.fixture
def archive():
    archive = MemoryArchive()
    for number in range(1, 4):
        archive.keep(instance(number, study=STUDY, size=30_000))
    archive.keep(instance(1, study="1.2.4"))
    return archive


def identify(study=STUDY):
    key = Key(STUDY_UID, "UI", Single(study) if study else Universal())
    asked = Query(root="STUDY", level=QueryLevel.STUDY, keys=(key,))
    return identifier.encode_query(asked, IMPLICIT)


def fetch(running, into, *, data=None, storage_contexts=((CT, [IMPLICIT]),), **options):
    classes = {abstract for abstract, _ in storage_contexts}
    channel = running.open(
        *contexts(RETRIEVE, *storage_contexts, (uids.VERIFICATION, [IMPLICIT])),
        roles=receiver(*classes),
    )
    result = get.get(
        channel,
        identify() if data is None else data,
        into,
        sop_class_uid=uids.STUDY_ROOT_GET,
        timeout_s=10,
        **options,
    )
    assert verification.echo(channel, timeout_s=10) == 0
    channel.release(5)
    return result


def counts(command):
    return (
        command.number_of_remaining_suboperations,
        command.number_of_completed_suboperations,
        command.number_of_failed_suboperations,
        command.number_of_warning_suboperations,
    )


def failed_uids(result):
    return identifier.parse_answer(result.failed_list, IMPLICIT)[FAILED_LIST].split("\\")


def test_what_comes_back_is_what_is_held(archive):
    into = MemoryArchive()
    with served(archive) as running:
        result = fetch(running, into)
    wanted = {uid: held for uid, held in archive.instances.items() if uid.startswith(STUDY + ".")}
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 3, 0, 0))
    assert result.failed_list == b""
    assert into.instances == wanted
    outcome = archive.outcomes[0]
    assert (outcome.completed, outcome.sent_bytes) == (
        3,
        sum(w.size_bytes for w in wanted.values()),
    )


def test_what_is_not_held_is_success_with_zero_counts(archive):
    with served(archive) as running:
        result = fetch(running, MemoryArchive(), data=identify("1.9.9"))
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 0, 0, 0))


def test_pending_responses_tell_the_counts(archive):
    pending = []
    with served(archive) as running:
        fetch(running, MemoryArchive(), on_pending=lambda command: pending.append(command) or True)
    assert [command.status for command in pending] == [Status.PENDING]
    assert counts(pending[0]) == (3, 0, 0, 0)


def test_each_instance_travels_in_the_syntax_in_which_it_is_held(archive):
    other = instance(9, study=STUDY, transfer_syntax_uid=JPEG)
    archive.keep(other)
    into = MemoryArchive()
    with served(archive) as running:
        result = fetch(running, into, storage_contexts=((CT, [IMPLICIT]), (CT, [JPEG])))
    assert result.final.status == Status.SUCCESS
    assert into.instances[other.sop_instance_uid] == other


def test_what_the_requester_did_not_accept_fails_and_is_named(archive):
    refused = instance(9, study=STUDY, transfer_syntax_uid=EXPLICIT)
    archive.keep(refused)
    into = MemoryArchive()
    with served(archive) as running:
        result = fetch(running, into, storage_contexts=((CT, [IMPLICIT]), (MR, [EXPLICIT])))
    assert (result.final.status, counts(result.final)) == (0xB000, (None, 3, 1, 0))
    assert failed_uids(result) == [refused.sop_instance_uid]
    assert refused.sop_instance_uid not in into.instances
    assert archive.outcomes[0].not_accepted == ((CT, EXPLICIT),)


def test_a_context_in_which_the_requester_does_not_receive_is_not_used(archive):
    with served(archive) as running:
        channel = running.open(*contexts(RETRIEVE, (CT, [IMPLICIT])))
        result = get.get(
            channel,
            identify(),
            MemoryArchive(),
            sop_class_uid=uids.STUDY_ROOT_GET,
            timeout_s=10,
        )
        channel.release(5)
    assert (result.final.status, counts(result.final)) == (0xA702, (None, 0, 3, 0))


def test_what_the_receiver_refuses_is_counted_as_failed(archive):
    into = MemoryArchive(refuse_begin=errors.OutOfResources("full"))
    with served(archive) as running:
        result = fetch(running, into)
    assert (result.final.status, counts(result.final)) == (0xA702, (None, 0, 3, 0))
    assert len(failed_uids(result)) == 3


def test_a_warning_of_the_receiver_is_counted_as_such(archive):
    with served(archive) as running:
        channel = running.open(*contexts(RETRIEVE, (CT, [IMPLICIT])), roles=receiver(CT))
        request = Command(
            field=CommandField.C_GET_RQ,
            has_data_set=True,
            message_id=1,
            affected_sop_class_uid=uids.STUDY_ROOT_GET,
            priority=0,
        )
        channel.send(channel.contexts[1], request, (identify(),))
        for message in iter(lambda: channel.receive(10), None):
            if message.command.field == CommandField.C_STORE_RQ:
                channel.discard_data_set()
                exchange.Operation(channel, message).respond(0xB007)
            elif message.command.status != Status.PENDING:
                break
        channel.release(5)
    assert (message.command.status, counts(message.command)) == (0xB000, (None, 0, 0, 3))


def test_an_instance_damaged_at_its_beginning_fails_alone(archive):
    uid = f"{STUDY}.1.2"
    archive.keep(replace(archive.instances[uid], damaged_at=0))
    into = MemoryArchive()
    with served(archive) as running:
        result = fetch(running, into)
    assert (result.final.status, counts(result.final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(result) == [uid]


def test_an_instance_found_damaged_at_its_end_is_never_whole_at_the_receiver(archive):
    """The association is aborted before the last fragment, whatever that costs the others."""
    uid = f"{STUDY}.1.2"
    held = instance(2, study=STUDY, size=1_000_000)
    archive.keep(replace(held, damaged_at=len(held.data) - 1))
    into = MemoryArchive()
    with served(archive) as running:
        channel = running.open(*contexts(RETRIEVE, (CT, [IMPLICIT])), roles=receiver(CT))
        with pytest.raises(AssociationEnded):
            get.get(channel, identify(), into, sop_class_uid=uids.STUDY_ROOT_GET, timeout_s=10)
        line = running.line("association ended", outcome="aborted")
    assert "Damaged in the middle of an instance" in line["why"]
    assert uid not in into.instances
    assert into.abandoned == 1


def test_a_cancel_ends_the_retrieval_with_what_remains(archive):
    for number in range(1, 500):
        archive.keep(instance(number, study=STUDY))
    with served(archive) as running:
        result = fetch(running, MemoryArchive(), on_pending=lambda _: False)
    remaining, completed, failed, _ = counts(result.final)
    assert result.final.status == Status.CANCEL
    assert remaining > 0
    assert (remaining + completed, failed) == (499, 0)


@pytest.mark.parametrize("study", [None, ""])
def test_a_retrieval_that_names_nothing_is_answered_a900(archive, study):
    with served(archive) as running:
        result = fetch(running, MemoryArchive(), data=identify(study))
    assert (result.final.status, counts(result.final)) == (0xA900, (None, None, None, None))


def test_another_request_during_a_retrieval_ends_in_abort(archive):
    with served(archive) as running:
        channel = running.open(
            *contexts(RETRIEVE, (CT, [IMPLICIT]), (uids.VERIFICATION, [IMPLICIT])),
            roles=receiver(CT),
        )

        class Chatty(MemoryArchive):
            def begin(self, **facts):
                command = Command(
                    field=CommandField.C_ECHO_RQ,
                    message_id=9,
                    affected_sop_class_uid=uids.VERIFICATION,
                )
                incoming = super().begin(**facts)
                channel.send(channel.contexts[5], command)
                return incoming

        with pytest.raises(AssociationEnded):
            get.get(channel, identify(), Chatty(), sop_class_uid=uids.STUDY_ROOT_GET, timeout_s=10)
        line = running.line("association ended", outcome="aborted")
    assert line["why"] == "we aborted: the peer sent C_ECHO_RQ during another operation"
