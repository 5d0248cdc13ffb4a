"""What a broken or hostile peer sends to the running archive: each gets its defined answer.

While it happens another association stays open and works; afterwards every process is the same and
what was acknowledged is still there.
"""

import random
import socket
import ssl
import struct
import uuid
from contextlib import contextmanager, suppress

import psutil
import pytest
from pynetdicom import build_role, evt
from pynetdicom import sop_class as sop

from archive_role import ARTIM_S, CALLED, HANDSHAKE_S, HOST, client_context, dataset
from harmoni.dicom import dimse, pdu
from harmoni.dicom.items import UserInformation
from harmoni.dicom.pdu import AbortReason, PresentationDataValue

HOSPITAL = "hospital-b"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = sop.CTImageStorage
GET = sop.StudyRootQueryRetrieveInformationModelGet
FOUND = sop.StudyRootQueryRetrieveInformationModelFind
VERIFICATION = str(sop.Verification)
ECHO_ID, CT_ID, FIND_ID, UNSERVED_ID = 1, 3, 5, 7
UNSERVED = "1.2.840.10008.5.1.4.31"  # Modality Worklist
MUTATIONS = 300
PATIENCE_S = 15
ABORTED_BY_PROVIDER = 2

REQUEST = pdu.AssociateRQ(
    called_ae_title=CALLED,
    calling_ae_title="BROKEN",
    presentation_contexts=(
        pdu.ProposedContext(ECHO_ID, VERIFICATION, (IMPLICIT,)),
        pdu.ProposedContext(CT_ID, str(CT), (EXPLICIT,)),
        pdu.ProposedContext(FIND_ID, str(FOUND), (IMPLICIT,)),
        pdu.ProposedContext(UNSERVED_ID, UNSERVED, (IMPLICIT,)),
    ),
    user_information=UserInformation(implementation_class_uid="2.25.1"),
)
ECHO = dimse.Command(
    field=dimse.CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION
)


def store_command(instance):
    return dimse.Command(
        field=dimse.CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=1,
        affected_sop_class_uid=str(CT),
        affected_sop_instance_uid=instance,
        priority=0,
    )


def uid():
    return f"2.25.{uuid.uuid4().int}"


def element(group, number, vr, value):
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def data_set(instance, *, sop_class=str(CT), study="2.25.1", filler=0):
    """A CT image in Explicit VR Little Endian; an instance UID of "" is left out."""
    made = element(8, 0x16, b"UI", sop_class.encode())
    if instance:
        made += element(8, 0x18, b"UI", instance.encode())
    made += element(0x20, 0xD, b"UI", study.encode()) + element(0x20, 0xE, b"UI", b"2.25.2")
    return made + struct.pack("<HH2sxxI", 0x7FE0, 0x10, b"OW", filler) + bytes(filler)


def values(context, command=None, data=None, *, last=True):
    """The P-DATA-TF PDUs of one message."""
    made = b""
    if command is not None:
        raw = command if isinstance(command, bytes) else dimse.encode_command(command)
        made += pdu.encode(pdu.DataTF((PresentationDataValue(context, True, True, raw),)))
    for start in range(0, len(data or b""), 16_000):
        part = data[start : start + 16_000]
        ends = last and start + 16_000 >= len(data)
        made += pdu.encode(pdu.DataTF((PresentationDataValue(context, False, ends, part),)))
    return made


class Wire:
    """A TLS connection with the hospital's certificate, used byte by byte."""

    def __init__(self, role, hospital=HOSPITAL):
        plain = socket.create_connection((HOST, role.port), timeout=PATIENCE_S)
        self._socket = client_context(role.house(hospital).tls_files).wrap_socket(plain)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def hear(self):
        """The next PDU, or None when the connection is over."""
        head = self._read(6)
        if head is None:
            return None
        kind, length = pdu.HEADER.unpack(head)
        body = self._read(length)
        assert body is not None, "the connection ended within a PDU"
        return pdu.decode(kind, body)

    def _read(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self._socket.recv(count - len(data))
            except (ssl.SSLError, ConnectionResetError):
                part = b""
            if not part:
                assert not data, "the connection ended within a PDU"
                return None
            data += part
        return data

    def end(self):
        """Send no more, and see that the other side ends too; what it says does not matter."""
        with suppress(OSError):
            # Not the method of an SSLSocket: there is no close_notify either.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
        with suppress(ssl.SSLError, ConnectionResetError):
            while self._socket.recv(4096):
                pass

    def associate(self):
        self.send(pdu.encode(REQUEST))
        answer = self.hear()
        assert isinstance(answer, pdu.AssociateAC)
        return answer

    def hear_status(self):
        answer = self.hear()
        assert isinstance(answer, pdu.DataTF), answer
        return dimse.decode_command(answer.values[0].data).status

    def assert_aborted(self, *reasons):
        answer = self.hear()
        assert isinstance(answer, pdu.Abort), answer
        assert answer.source == ABORTED_BY_PROVIDER
        assert answer.reason in reasons
        assert self.hear() is None


def keep(association, instance, study):
    image = dataset(
        SOPClassUID=CT, SOPInstanceUID=instance, StudyInstanceUID=study, SeriesInstanceUID=uid()
    )
    image.file_meta = dataset(TransferSyntaxUID=EXPLICIT)
    assert association.send_c_store(image).Status == 0x0000


@contextmanager
def good_neighbour(role):
    """Store, let something bad happen, and see that nothing else changed."""
    before = role.process.pids()
    assert len(before) == 4, "supervisor, two workers, keeper"
    starts = {pid: psutil.Process(pid).create_time() for pid in before}
    study, received = uid(), []
    instances = [uid(), uid()]

    def take(event):
        received.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with role.associated(
        HOSPITAL,
        [(sop.Verification, [IMPLICIT]), (CT, [EXPLICIT]), (GET, [IMPLICIT])],
        roles=[build_role(CT, scu_role=True, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        keep(association, instances[0], study)
        yield
        assert association.send_c_echo().Status == 0x0000
        keep(association, instances[1], study)
        asked = dataset(QueryRetrieveLevel="STUDY", StudyInstanceUID=study)
        *_, (final, _) = association.send_c_get(asked, GET)
        assert final.Status == 0x0000
    assert sorted(received) == sorted(instances)
    assert role.process.pids() == before
    assert {pid: psutil.Process(pid).create_time() for pid in before} == starts


@pytest.fixture(autouse=True)
def _good_neighbour(archive_role):
    with good_neighbour(archive_role):
        yield


def held(role, instance, study="2.25.1"):
    """How many instances of that UID a query finds."""
    with role.associated(HOSPITAL, [(FOUND, [IMPLICIT])]) as association:
        asked = dataset(
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=study,
            SeriesInstanceUID="2.25.2",
            SOPInstanceUID=instance,
        )
        *matches, (final, _) = association.send_c_find(asked, FOUND)
    assert final.Status == 0x0000
    return len(matches)


def test_an_unserved_abstract_syntax_is_rejected_alone(archive_role):
    with Wire(archive_role) as wire:
        answer = wire.associate()
        results = {context.id: context.result for context in answer.presentation_contexts}
        wire.send(values(ECHO_ID, ECHO))
        assert wire.hear_status() == 0x0000
    assert results == {ECHO_ID: 0, CT_ID: 0, FIND_ID: 0, UNSERVED_ID: 3}


MALFORMED = AbortReason.INVALID_VALUE
LENGTHS = {
    "P-DATA of 4 GiB": (0x04, 0xFFFFFFFF),
    "P-DATA longer than agreed": (0x04, 16 << 20),
    "P-DATA too short for a value": (0x04, 3),
    "A-RELEASE-RQ of 4 GiB": (0x05, 0xFFFFFFFF),
    "A-ABORT of 5 bytes": (0x07, 5),
}


@pytest.mark.parametrize("what", LENGTHS)
def test_an_absurd_length_is_aborted_before_its_bytes_come(archive_role, what):
    kind, length = LENGTHS[what]
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(kind, length))
        wire.assert_aborted(MALFORMED)


def test_an_association_request_of_an_absurd_length_is_aborted(archive_role):
    with Wire(archive_role) as wire:
        wire.send(pdu.HEADER.pack(0x01, 0xFFFFFFFF))
        wire.assert_aborted(MALFORMED)


MALFORMED_REQUESTS = {
    "cut": lambda raw: pdu.HEADER.pack(1, 40) + raw[6:46],
    "no contexts": lambda raw: pdu.HEADER.pack(1, 68) + raw[6:74],
    "an item beyond the end": lambda raw: raw[:76] + b"\xff\xff" + raw[78:],
    "zeros": lambda _: pdu.HEADER.pack(1, 68) + bytes(68),
}


@pytest.mark.parametrize("what", MALFORMED_REQUESTS)
def test_a_malformed_association_request_makes_no_association(archive_role, what):
    with Wire(archive_role) as wire:
        wire.send(MALFORMED_REQUESTS[what](pdu.encode(REQUEST)))
        wire.assert_aborted(*AbortReason)


def test_an_unknown_pdu_type_is_aborted(archive_role):
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(pdu.HEADER.pack(0x55, 4) + bytes(4))
        wire.assert_aborted(AbortReason.UNRECOGNIZED_PDU)


@pytest.mark.parametrize("first", [True, False])
def test_a_pdu_in_the_wrong_state_is_aborted(archive_role, first):
    with Wire(archive_role) as wire:
        if first:
            wire.send(values(ECHO_ID, ECHO))
        else:
            wire.associate()
            wire.send(pdu.encode(REQUEST))
        wire.assert_aborted(AbortReason.UNEXPECTED_PDU)


COMMANDS = {
    "no elements": b"",
    "no UID": dimse.encode_command(ECHO)[:12],
    "not a command set": b"\xff" * 64,
    "an element beyond the end": struct.pack("<HHI", 0, 2, 0x7FFFFFFF) + b"1.2",
    "another group": struct.pack("<HHI", 8, 0x18, 4) + b"1.2\0",
    "longer than 64 KiB": b"\0\0\0\x09\xf0\xff\x01\0" + bytes(0x1FFF0),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_malformed_command_set_is_aborted(archive_role, what):
    with Wire(archive_role) as wire:
        wire.associate()
        raw = COMMANDS[what]
        halves = raw[:65_000], raw[65_000:]
        for number, half in enumerate(halves):
            ends = number == 1 or not halves[1]
            wire.send(pdu.encode(pdu.DataTF((PresentationDataValue(ECHO_ID, True, ends, half),))))
            if ends:
                break
        wire.assert_aborted(*AbortReason)


def test_a_context_that_was_not_accepted_is_aborted(archive_role):
    for context in (UNSERVED_ID, 99):
        with Wire(archive_role) as wire:
            wire.associate()
            wire.send(values(context, ECHO))
            wire.assert_aborted(*AbortReason)


def test_a_data_set_before_its_command_is_aborted(archive_role):
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(values(CT_ID, data=data_set(uid())))
        wire.assert_aborted(*AbortReason)


@pytest.mark.parametrize("wrong", ["instance", "class", "no instance"])
def test_a_data_set_of_other_uids_than_its_command_is_answered_a900(archive_role, wrong):
    named, other = uid(), uid()
    data = {
        "instance": data_set(other),
        "class": data_set(named, sop_class=str(sop.MRImageStorage)),
        "no instance": data_set(""),
    }[wrong]
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), data))
        assert wire.hear_status() == 0xA900
        wire.send(values(CT_ID, store_command(named), data_set(named)))
        assert wire.hear_status() == 0x0000
    assert held(archive_role, named) == 1
    assert held(archive_role, other) == 0


def test_a_data_set_that_is_none_is_answered_and_not_kept(archive_role):
    named = uid()
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), b"\xff" * 100_000))
        assert wire.hear_status() in {0xA900, 0xC000}
    assert held(archive_role, named) == 0


def test_an_identifier_that_is_none_is_answered(archive_role):
    command = dimse.Command(
        field=dimse.CommandField.C_FIND_RQ,
        has_data_set=True,
        message_id=1,
        affected_sop_class_uid=str(FOUND),
        priority=0,
    )
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(values(FIND_ID, command, b"\xff" * 4_000))
        assert wire.hear_status() in {0xA900, 0xC000}


@pytest.mark.parametrize("how", ["A-ABORT", "closed", "reset"])
def test_an_object_cut_in_the_middle_is_not_kept(archive_role, how):
    named = uid()
    with Wire(archive_role) as wire:
        wire.associate()
        whole = data_set(named, filler=1_000_000)
        wire.send(values(CT_ID, store_command(named), whole[:500_000], last=False))
        if how == "A-ABORT":
            wire.send(pdu.encode(pdu.Abort(0, 0)))
            assert wire.hear() is None
        elif how == "reset":
            wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert held(archive_role, named) == 0
    # It can be sent again, whole.
    with Wire(archive_role) as wire:
        wire.associate()
        wire.send(values(CT_ID, store_command(named), whole))
        assert wire.hear_status() == 0x0000
    assert held(archive_role, named) == 1


@pytest.mark.parametrize(
    "banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"GET / HTTP/1.1\r\n\r\n", pdu.encode(REQUEST)]
)
def test_what_is_not_tls_is_turned_away(archive_role, banner):
    with socket.create_connection((HOST, archive_role.port), timeout=PATIENCE_S) as plain:
        plain.sendall(banner)
        heard = b""
        while part := plain.recv(4096):
            heard += part
    assert heard[:1] in (b"", b"\x15"), "nothing but a TLS alert"


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_not_dicom_within_tls_is_aborted(archive_role, banner):
    with Wire(archive_role) as wire:
        wire.send(banner)
        wire.assert_aborted(*AbortReason)


def test_a_silent_tcp_client_is_closed_after_the_handshake_time(archive_role):
    with socket.create_connection((HOST, archive_role.port), timeout=PATIENCE_S) as silent:
        assert HANDSHAKE_S < PATIENCE_S
        assert silent.recv(1) == b""


def test_a_silent_tls_client_is_closed_after_artim(archive_role):
    with Wire(archive_role) as wire:
        assert ARTIM_S < PATIENCE_S
        answer = wire.hear()
        assert answer is None or isinstance(answer, pdu.Abort)


def mutated(raw, source):
    """Some bytes changed, removed, repeated or added."""
    data = bytearray(raw)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + source.randint(1, 32)]
            case _:
                data[at:at] = source.randbytes(source.randint(1, 8))
        data = data or bytearray(1)
    return bytes(data)


def test_mutated_pdus_end_nothing_but_their_own_association(archive_role):
    source = random.Random(20_260_302)
    study = uid()
    originals = [
        pdu.encode(REQUEST),
        values(ECHO_ID, ECHO),
        values(CT_ID, store_command("2.25.3"), data_set("2.25.3", study=study, filler=64)),
        pdu.encode(pdu.ReleaseRQ()),
    ]
    for number in range(MUTATIONS):
        original = originals[number % len(originals)]
        with Wire(archive_role) as wire:
            if original is not originals[0]:
                wire.associate()
            wire.send(mutated(original, source))
            wire.end()
    failed = [line for line in archive_role.log().splitlines() if "association failed" in line]
    assert failed == []
