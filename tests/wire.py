"""A connection to a running role that sends any bytes, and good messages to begin with."""

import select
import socket
import ssl
import struct
from contextlib import suppress

from pynetdicom import sop_class as sop

from archive_role import HOST
from doors import Door
from harmoni.dicom import commitment_data, dimse, identifier, pdu
from harmoni.dicom.items import UserInformation
from harmoni.dicom.pdu import PresentationDataValue

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT = sop.CTImageStorage
FIND = sop.StudyRootQueryRetrieveInformationModelFind
GET = sop.StudyRootQueryRetrieveInformationModelGet
MOVE = sop.StudyRootQueryRetrieveInformationModelMove
COMMITMENT = sop.StorageCommitmentPushModel
VERIFICATION = str(sop.Verification)
UNSERVED = "1.2.840.10008.5.1.4.31"  # Modality Worklist
ECHO_ID, CT_ID, FIND_ID, UNSERVED_ID, GET_ID, MOVE_ID, COMMIT_ID = 1, 3, 5, 7, 9, 11, 13
PATIENCE_S = 15
ANSWER_S = 0.01
FRAGMENT_BYTES = 16_000
ABORTED_BY_PROVIDER = 2

CONTEXTS = (
    pdu.ProposedContext(ECHO_ID, VERIFICATION, (IMPLICIT,)),
    pdu.ProposedContext(CT_ID, str(CT), (EXPLICIT,)),
    pdu.ProposedContext(FIND_ID, str(FIND), (IMPLICIT,)),
    pdu.ProposedContext(UNSERVED_ID, UNSERVED, (IMPLICIT,)),
    pdu.ProposedContext(GET_ID, str(GET), (IMPLICIT,)),
    pdu.ProposedContext(MOVE_ID, str(MOVE), (IMPLICIT,)),
    pdu.ProposedContext(COMMIT_ID, str(COMMITMENT), (IMPLICIT,)),
)
ECHO = dimse.Command(
    field=dimse.CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION
)


def request(door, contexts=CONTEXTS, **information):
    """What a peer that is known there asks for."""
    return pdu.AssociateRQ(
        called_ae_title=door.called,
        calling_ae_title=door.calling,
        presentation_contexts=contexts,
        user_information=UserInformation(implementation_class_uid="2.25.1", **information),
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


def query_command(field, sop_class, **fields):
    return dimse.Command(
        field=field,
        has_data_set=True,
        message_id=1,
        affected_sop_class_uid=str(sop_class),
        priority=0,
        **fields,
    )


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
    for start in range(0, len(data or b""), FRAGMENT_BYTES):
        part = data[start : start + FRAGMENT_BYTES]
        ends = last and start + FRAGMENT_BYTES >= len(data)
        made += pdu.encode(pdu.DataTF((PresentationDataValue(context, False, ends, part),)))
    return made


def messages():
    """A good message of every service: context, command, data set."""
    query = identifier.compose_query(
        "STUDY",
        identifier.QueryLevel.STUDY,
        {
            0x0010_0010: "Doe*",
            0x0020_000D: "2.25.1",
            0x0008_0020: "20200101-",
            0x0008_0061: "CT\\MR",
        },
    )
    asked = identifier.encode_query(query, IMPLICIT)
    field = dimse.CommandField
    action = dimse.Command(
        field=field.N_ACTION_RQ,
        has_data_set=True,
        message_id=1,
        requested_sop_class_uid=str(COMMITMENT),
        requested_sop_instance_uid=str(sop.StorageCommitmentPushModelInstance),
        action_type_id=1,
    )
    committed = commitment_data.encode_commitment_request(
        "2.25.7",
        [commitment_data.Reference(sop_class_uid=str(CT), sop_instance_uid="2.25.3")],
        IMPLICIT,
    )
    return [
        (ECHO_ID, ECHO, None),
        (CT_ID, store_command("2.25.3"), data_set("2.25.3", filler=64)),
        (FIND_ID, query_command(field.C_FIND_RQ, FIND), asked),
        (GET_ID, query_command(field.C_GET_RQ, GET), asked),
        (MOVE_ID, query_command(field.C_MOVE_RQ, MOVE, move_destination="NOWHERE"), asked),
        (COMMIT_ID, action, committed),
    ]


class Wire:
    """A connection of a peer that is known there, used byte by byte."""

    def __init__(self, door: Door, address: str = HOST) -> None:
        self.door = door
        self._socket = door.connect(address)

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
        """Send no more, and see that the other side ends too; what it said until then."""
        self.end_sending()
        said = b""
        with suppress(ssl.SSLError, ConnectionResetError):
            while part := self._socket.recv(4096):
                said += part
        return said

    def end_sending(self):
        """Send no more, once there was time for an answer.

        To OpenSSL a connection of which one half ended without farewell is over: no answer leaves.
        """
        select.select([self._socket], [], [], ANSWER_S)
        with suppress(OSError):
            # Not the method of an SSLSocket: there is no close_notify either.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def reset(self):
        """End the connection as a peer that crashed: by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def associate(self, *contexts, **information):
        self.send(pdu.encode(request(self.door, contexts or CONTEXTS, **information)))
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
        self.end()
