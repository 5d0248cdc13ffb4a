import pytest

from harmoni.dicom import uids
from harmoni.dicom.dimse import Command, CommandField
from harmoni.net.driver import AssociationEnded
from harmoni.services import exchange, verification
from memory_archive import MemoryArchive
from served_archive import CT, IMPLICIT, contexts, receiver, served


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def channel(archive):
    with served(archive) as running:
        channel = running.open(
            *contexts(
                (uids.VERIFICATION, [IMPLICIT]),
                (CT, [IMPLICIT]),
                (uids.STUDY_ROOT_FIND, [IMPLICIT]),
            )
        )
        yield channel
        channel.release(5)


def request(field, sop_class=uids.VERIFICATION, **options):
    return Command(field=field, message_id=3, affected_sop_class_uid=sop_class, **options)


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (1, CommandField.C_STORE_RQ),
        (1, CommandField.C_FIND_RQ),
        (3, CommandField.C_ECHO_RQ),
        (3, CommandField.N_ACTION_RQ),
        (5, CommandField.C_MOVE_RQ),
        (5, CommandField.C_GET_RQ),
        (5, CommandField.N_CREATE_RQ),
    ],
)
def test_an_operation_that_its_context_does_not_stand_for_is_answered_0211(
    archive, channel, context, field
):
    has_data_set = field is not CommandField.C_ECHO_RQ
    command = request(field, channel.contexts[context].abstract_syntax, has_data_set=has_data_set)
    data = (b"x" * 200_000,) if has_data_set else None
    channel.send(channel.contexts[context], command, data)
    response = channel.receive(10).command
    assert (response.field, response.status) == (field | 0x8000, 0x0211)
    assert verification.echo(channel, timeout_s=10) == 0
    assert [outcome.status for outcome in archive.outcomes][:1] == [0x0211]


def test_a_cancel_of_what_is_over_is_ignored(channel):
    exchange.cancel(channel, channel.contexts[5], request(CommandField.C_FIND_RQ))
    assert verification.echo(channel, timeout_s=10) == 0


@pytest.mark.parametrize("field", [CommandField.C_ECHO_RSP, CommandField.N_EVENT_REPORT_RSP])
def test_a_response_that_answers_nothing_ends_in_abort(channel, field):
    channel.send(channel.contexts[1], Command(field=field, message_id_responded_to=1, status=0))
    with pytest.raises(AssociationEnded, match="aborted"):
        channel.receive(10)


def test_a_request_in_a_role_that_was_not_negotiated_ends_in_abort(archive):
    with served(archive) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])), roles=receiver(CT))
        command = request(CommandField.C_STORE_RQ, CT, has_data_set=True)
        channel.send(channel.contexts[1], command, (b"1234",))
        with pytest.raises(AssociationEnded, match="aborted"):
            channel.receive(10)
        running.line("association ended", outcome="aborted")
    assert not archive.instances


def test_each_operation_is_reported_when_it_is_over(archive, channel):
    verification.echo(channel, timeout_s=10)
    with archive.changed:
        assert archive.changed.wait_for(lambda: archive.outcomes, 10)
    (outcome,) = archive.outcomes
    assert (outcome.operation, outcome.status) == (CommandField.C_ECHO_RQ, 0)
