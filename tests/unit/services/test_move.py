from dataclasses import replace

import pytest

from harmoni.dicom import identifier, uids
from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.identifier import Key, Query, QueryLevel, Single
from harmoni.dicom.status import Status
from harmoni.model import errors
from harmoni.net.driver import AssociationEnded
from harmoni.policy.access import Peer, Right
from harmoni.services import exchange, move, verification
from harmoni.testing import FakeClock
from memory_archive import CHUNK_BYTES, MemoryArchive, Stored
from served_archive import CT, IMPLICIT, JPEG, contexts, instance, served

STUDY_UID = 0x0020_000D
FAILED_LIST = 0x0008_0058
STUDY = "1.2.3"
RETRIEVE = (uids.STUDY_ROOT_MOVE, [IMPLICIT])
PACS = Peer(ae_title="PACS", rights=frozenset({Right.DESTINATION}), host="127.0.0.1", port=1)


class Destinations:
    """Opens associations to a running server, and remembers what was proposed."""

    def __init__(self, running):
        self.running = running
        self.proposed = []

    def __call__(self, destination, proposed):
        assert destination == PACS
        self.proposed.append(proposed)
        return self.running.open(*proposed)


@pytest.fixture
def archive():
    archive = MemoryArchive(destinations={"PACS": PACS})
    for number in range(1, 4):
        archive.keep(instance(number, study=STUDY, size=30_000))
    archive.keep(instance(1, study="1.2.4"))
    return archive


@pytest.fixture
def pacs():
    return MemoryArchive()


def identify(study=STUDY):
    key = Key(STUDY_UID, "UI", Single(study))
    asked = Query(root="STUDY", level=QueryLevel.STUDY, keys=(key,))
    return identifier.encode_query(asked, IMPLICIT)


def order(archive, pacs, *, destination="PACS", data=None, serve=None, clock=None, **options):
    with served(pacs, serve=serve) as third, served(archive, clock=clock) as running:
        if archive.connect_to is None:
            archive.connect_to = Destinations(third)
        channel = running.open(*contexts(RETRIEVE, (uids.VERIFICATION, [IMPLICIT])))
        result = move.move(
            channel,
            identify() if data is None else data,
            sop_class_uid=uids.STUDY_ROOT_MOVE,
            destination=destination,
            message_id=77,
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


def test_what_arrives_at_the_destination_is_what_is_held(archive, pacs):
    jpeg = instance(9, study=STUDY, transfer_syntax_uid=JPEG)
    archive.keep(jpeg)
    result = order(archive, pacs)
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 4, 0, 0))
    assert pacs.instances == {
        uid: held for uid, held in archive.instances.items() if uid.startswith(STUDY + ".")
    }
    (proposed,) = archive.connect_to.proposed
    assert [(c.id, c.abstract_syntax, c.transfer_syntaxes) for c in proposed] == [
        (1, CT, (IMPLICIT,)),
        (3, CT, (JPEG,)),
    ]


def test_sub_operations_name_the_requester_and_its_message(archive, pacs):
    seen = []

    def serve(channel):
        while True:
            message = channel.receive(10)
            channel.discard_data_set()
            seen.append(message.command)
            exchange.Operation(channel, message).respond(0)

    order(archive, pacs, serve=serve)
    assert [command.move_originator_ae_title for command in seen] == ["TEST"] * 3
    assert [command.move_originator_message_id for command in seen] == [77] * 3
    assert [command.message_id for command in seen] == [1, 2, 3]


def test_an_unknown_destination_is_answered_a801(archive, pacs):
    result = order(archive, pacs, destination="ELSEWHERE")
    assert (result.final.status, counts(result.final)) == (0xA801, (None, None, None, None))
    assert not pacs.instances


def test_what_is_not_held_is_success_without_any_connection(archive, pacs):
    result = order(archive, pacs, data=identify("1.9.9"))
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 0, 0, 0))
    assert archive.connect_to.proposed == []


def test_a_destination_that_cannot_be_reached_is_answered_a702_with_all_failed(archive, pacs):
    def unreachable(destination, proposed):
        raise errors.Unreachable("switched off")

    archive.connect_to = unreachable
    result = order(archive, pacs)
    assert (result.final.status, counts(result.final)) == (0xA702, (None, 0, 3, 0))
    assert result.final.error_comment == "destination unreachable"
    assert failed_uids(result) == [f"{STUDY}.1.{number}" for number in (1, 2, 3)]


def test_a_destination_that_goes_away_fails_what_it_has_not_answered(archive, pacs):
    def serve(channel):
        message = channel.receive(10)
        channel.discard_data_set()
        exchange.Operation(channel, message).respond(0)
        channel.receive(10)
        channel.abort()

    result = order(archive, pacs, serve=serve)
    assert (result.final.status, counts(result.final)) == (0xB000, (None, 1, 2, 0))


def test_a_context_that_the_destination_refuses_fails_its_instances(archive, pacs):
    private = "1.2.840.113619.5.2"
    with served(pacs, rights=frozenset({Right.ECHO})) as third:
        archive.connect_to = Destinations(third)
        archive.keep(instance(9, study=STUDY, transfer_syntax_uid=private))
        result = order(archive, pacs)
    assert (result.final.status, counts(result.final)) == (0xA702, (None, 0, 4, 0))
    assert archive.outcomes[0].not_accepted == ((CT, IMPLICIT), (CT, private))


@pytest.mark.parametrize("at", [0, 900_000])
def test_a_damaged_instance_fails_alone_and_never_arrives_whole(archive, pacs, at):
    uid = f"{STUDY}.1.2"
    archive.keep(replace(instance(2, study=STUDY, size=1_000_000), damaged_at=at))
    result = order(archive, pacs)
    assert (result.final.status, counts(result.final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(result) == [uid]
    assert set(pacs.instances) == {f"{STUDY}.1.1", f"{STUDY}.1.3"}
    assert len(archive.connect_to.proposed) == (2 if at else 1)


def test_more_than_128_pairs_go_over_several_associations(archive, pacs):
    classes = [f"1.2.826.0.1.{number}" for number in range(130)]
    for number, sop_class in enumerate(classes, 10):
        archive.keep(instance(number, study=STUDY, sop_class_uid=sop_class))
    result = order(archive, pacs)
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 133, 0, 0))
    assert [len(proposed) for proposed in archive.connect_to.proposed] == [128, 3]


def test_a_cancel_ends_the_retrieval_with_what_remains(archive, pacs):
    for number in range(1, 500):
        archive.keep(instance(number, study=STUDY))
    result = order(archive, pacs, on_pending=lambda _: False)
    remaining, completed, failed, _ = counts(result.final)
    assert result.final.status == Status.CANCEL
    assert remaining > 0
    assert (remaining + completed, failed) == (499, 0)
    assert len(pacs.instances) == completed


def test_a_requester_that_goes_away_stops_the_retrieval(archive, pacs):
    for number in range(1, 500):
        archive.keep(instance(number, study=STUDY))
    request = Command(
        field=CommandField.C_MOVE_RQ,
        has_data_set=True,
        message_id=1,
        affected_sop_class_uid=uids.STUDY_ROOT_MOVE,
        priority=0,
        move_destination="PACS",
    )
    with served(pacs) as third, served(archive) as running:
        archive.connect_to = Destinations(third)
        channel = running.open(*contexts(RETRIEVE))
        channel.send(channel.contexts[1], request, (identify(),))
        assert channel.receive(10).command.status == Status.PENDING
        channel.abort()
        running.line("association ended")
        third.line("association ended", outcome="released")
    assert len(pacs.instances) < 499
    assert not archive.outcomes


def test_a_large_instance_does_not_keep_the_requester_waiting(archive, pacs):
    """Each chunk of a slow instance takes a second; pending responses go out in between."""
    clock = FakeClock()

    class Slow(Stored):
        def open(self):
            for chunk in super().open():
                clock.advance(1.0)
                yield chunk

    large = instance(5, study="1.2.9", size=40 * CHUNK_BYTES)
    archive.keep(Slow(**vars(large)))
    pending = []
    result = order(
        archive,
        pacs,
        data=identify("1.2.9"),
        clock=clock,
        on_pending=lambda command: pending.append(command) or True,
    )
    assert (result.final.status, counts(result.final)) == (Status.SUCCESS, (None, 1, 0, 0))
    assert {counts(command) for command in pending} == {(1, 0, 0, 0)}
    assert 40 / len(pending) < 5


def test_an_answer_in_a_wrong_moment_is_an_error_of_the_destination(archive, pacs):
    def serve(channel):
        message = channel.receive(10)
        channel.discard_data_set()
        channel.send(
            message.context,
            Command(
                field=CommandField.C_STORE_RSP,
                message_id_responded_to=999,
                affected_sop_class_uid=CT,
                status=0,
            ),
        )
        with pytest.raises(AssociationEnded):
            channel.receive(10)

    result = order(archive, pacs, serve=serve)
    assert (result.final.status, counts(result.final)) == (0xA702, (None, 0, 3, 0))
