import pytest

from harmoni.dicom.dimse import Command, CommandField
from harmoni.dicom.status import Status
from harmoni.model import errors
from harmoni.net.driver import AssociationEnded
from harmoni.services import storage_scu
from memory_archive import MemoryArchive
from served_archive import CT, EXPLICIT, IMPLICIT, JPEG, MR, contexts, instance, served


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def channel(archive):
    with served(archive) as running:
        channel = running.open(*contexts((CT, [IMPLICIT]), (CT, [JPEG]), (MR, [EXPLICIT])))
        yield channel
        channel.release(5)


def send(channel, stored, *, context=None, chunks=None, uid=None, **options):
    context = context or storage_scu.find_context(
        channel, stored.sop_class_uid, stored.transfer_syntax_uid
    )
    return storage_scu.store(
        channel,
        context,
        sop_instance_uid=uid or stored.sop_instance_uid,
        data_set=stored.open() if chunks is None else chunks,
        message_id=7,
        timeout_s=10,
        **options,
    )


@pytest.mark.parametrize("size", [0, 9_000, 300_000])
def test_what_was_sent_is_what_is_kept(archive, channel, size):
    stored = instance(1, size=size)
    answer = send(channel, stored)
    assert answer.status == Status.SUCCESS
    assert answer.affected_sop_instance_uid == stored.sop_instance_uid
    assert archive.instances == {stored.sop_instance_uid: stored}


def test_the_context_chooses_the_transfer_syntax_that_is_kept(archive, channel):
    stored = instance(1, transfer_syntax_uid=JPEG)
    assert send(channel, stored).status == Status.SUCCESS
    assert archive.instances[stored.sop_instance_uid].transfer_syntax_uid == JPEG


def test_a_data_set_of_another_instance_is_answered_a900(archive, channel):
    assert send(channel, instance(1), uid="1.9.9").status == 0xA900
    assert not archive.instances


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.OutOfResources("full"), 0xA700),
        (errors.Busy("locked"), 0xA700),
        (errors.StorageFailed("EIO"), 0xA700),
        (errors.InvalidInput("no"), 0xA900),
        (errors.Refused("no"), 0x0124),
        (errors.Unreachable("away"), 0xC001),
        (errors.Damaged("bits"), 0xC001),
        (errors.NotHeld("none"), 0x0112),
        (errors.AlreadyHeld("twice"), 0x0131),
        (errors.ConfigurationError("keys"), 0x0110),
    ],
)
def test_each_error_has_its_status_and_the_association_goes_on(archive, channel, error, status):
    archive.refuse_begin = error
    answer = send(channel, instance(1, size=300_000))
    assert answer.status == status
    assert answer.error_comment == f"{error.code} {type(error).__name__}"
    archive.refuse_begin = None
    assert send(channel, instance(2)).status == Status.SUCCESS


def test_a_disk_that_fills_up_in_the_middle_is_answered_a700_after_the_data_set(archive, channel):
    archive.fail_in_the_middle = errors.OutOfResources("full")
    assert send(channel, instance(1, size=400_000)).status == 0xA700
    assert archive.abandoned == 1
    archive.fail_in_the_middle = None
    assert send(channel, instance(1)).status == Status.SUCCESS


def test_a_command_of_another_class_than_its_context_is_answered_0122(archive, channel):
    context = storage_scu.find_context(channel, MR, EXPLICIT)
    command = Command(
        field=CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=1,
        priority=0,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
    )
    channel.send(context, command, (b"anything",))
    assert channel.receive(10).command.status == 0x0122
    assert not archive.instances


def test_a_command_without_instance_or_data_set_is_answered_a900(channel):
    context = storage_scu.find_context(channel, CT, IMPLICIT)
    channel.send(
        context,
        Command(field=CommandField.C_STORE_RQ, message_id=1, priority=0, affected_sop_class_uid=CT),
    )
    assert channel.receive(10).command.status == 0xA900


def test_an_association_that_ends_in_mid_object_abandons_it(archive):
    stored = instance(1, size=400_000)

    def broken():
        yield stored.data[:200_000]
        raise errors.Damaged("a bit has flipped")

    with served(archive) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])))
        with pytest.raises(storage_scu.Interrupted) as raised:
            send(channel, stored, chunks=broken())
        assert isinstance(raised.value.__cause__, errors.Damaged)
        assert channel.ended is not None
        running.line("association ended", outcome="aborted")
    assert (archive.instances, archive.abandoned) == ({}, 1)


def test_a_source_that_fails_before_its_first_chunk_sends_nothing(archive, channel):
    def broken():
        raise errors.NotHeld("the pack is missing")
        yield b""

    with pytest.raises(errors.NotHeld):
        send(channel, instance(1), chunks=broken())
    assert channel.ended is None
    assert send(channel, instance(1)).status == Status.SUCCESS


def test_a_peer_that_answers_something_else_is_aborted(archive):
    def serve(channel):
        message = channel.receive(10)
        channel.discard_data_set()
        request = Command(
            field=CommandField.C_STORE_RQ,
            message_id=1,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3",
            priority=0,
        )
        channel.send(message.context, request)
        channel.receive(10)

    with served(archive, serve=serve) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])))
        with pytest.raises(AssociationEnded, match="the peer sent C_STORE_RQ"):
            send(channel, instance(1))


def test_a_peer_that_does_not_answer_is_aborted(archive):
    def serve(channel):
        channel.receive(10)
        channel.discard_data_set()
        channel.receive(10)

    with served(archive, serve=serve) as running:
        channel = running.open(*contexts((CT, [IMPLICIT])))
        with pytest.raises(AssociationEnded, match="no response to C_STORE_RQ"):
            storage_scu.store(
                channel,
                storage_scu.find_context(channel, CT, IMPLICIT),
                sop_instance_uid="1.2.3",
                data_set=(b"12",),
                message_id=1,
                timeout_s=0.05,
            )
