"""Two associations joined in memory, and sinks that remember."""

from collections.abc import Callable, Iterable

from harmoni.dicom import association as upper
from harmoni.dicom import dimse, pdu, presentation
from harmoni.dicom.items import UserInformation
from harmoni.model.errors import RemoteProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
OURS = UserInformation(implementation_class_uid="2.25.1", implementation_version_name="TEST_1")

REQUEST = pdu.AssociateRQ(
    called_ae_title="ARCHIVE",
    calling_ae_title="MODALITY",
    presentation_contexts=(
        pdu.ProposedContext(1, CT, (IMPLICIT, EXPLICIT)),
        pdu.ProposedContext(3, VERIFICATION, (IMPLICIT,)),
    ),
    user_information=OURS,
)


def store(message_id: int = 1) -> dimse.Command:
    return dimse.Command(
        field=dimse.CommandField.C_STORE_RQ,
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3.4",
        priority=0,
    )


def echo(message_id: int = 1) -> dimse.Command:
    return dimse.Command(
        field=dimse.CommandField.C_ECHO_RQ,
        message_id=message_id,
        affected_sop_class_uid=VERIFICATION,
    )


class Collect:
    """A sink that keeps what it is given, offering at most `window` bytes at a time."""

    def __init__(self, window: int = 1 << 20) -> None:
        self.data = bytearray()
        self.largest_wanted = 0
        self._window = window
        self._memory = bytearray()

    def reserve(self, wanted: int) -> memoryview:
        self.largest_wanted = max(self.largest_wanted, wanted)
        self._memory = bytearray(min(wanted, self._window))
        return memoryview(self._memory)

    def commit(self, count: int) -> None:
        self.data += self._memory[:count]


class Shell:
    """Reads and acts as a driver does: every data set goes to a sink of its own."""

    def __init__(self, association: upper.Association, window: int = 1 << 20) -> None:
        self.association = association
        self.events: list[upper.Event] = []
        self.sinks: list[Collect] = []
        self.reads = 0
        self._window = window

    def feed(self, data: bytes, now_s: float = 0.0) -> None:
        rest = memoryview(data)
        while rest and not self.association.closing:
            memory = self.association.receive_buffer()
            count = min(len(memory), len(rest))
            assert count > 0
            memory[:count] = rest[:count]
            rest = rest[count:]
            self.reads += 1
            self._take(self.association.received(count, now_s))

    def _take(self, events: Iterable[upper.Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, upper.CommandReceived) and event.has_data_set:
                self.sinks.append(Collect(self._window))
                self._take(self.association.receive_data_set(self.sinks[-1], 0.0))

    def close(self) -> None:
        self._take(self.association.received(0, 0.0))

    def take_events(self) -> list[upper.Event]:
        events, self.events = self.events, []
        return events


def sent(association: upper.Association) -> bytes:
    return b"".join(association.data_to_send())


def wire(association: upper.Association, *args: object, **kwargs: object) -> bytes:
    """A whole message as it goes over the wire."""
    lists = association.message(*args, **kwargs)
    return b"".join(part for buffers in lists for part in buffers)


def accept_all(
    context: pdu.ProposedContext, role: object
) -> presentation.Accept | presentation.Refuse:
    return presentation.Accept(context.transfer_syntaxes[0])


def established(
    request: pdu.AssociateRQ = REQUEST,
    *,
    limits: upper.Limits = upper.DEFAULT_LIMITS,
    requestor_limits: upper.Limits = upper.DEFAULT_LIMITS,
    window: int = 1 << 20,
) -> tuple[Shell, Shell]:
    """A requestor and an acceptor in Sta6, their events taken."""
    requestor = Shell(upper.Association(requestor=True, limits=requestor_limits, now_s=0.0), window)
    acceptor = Shell(upper.Association(requestor=False, limits=limits, now_s=0.0), window)
    requestor.association.associate(request)
    acceptor.feed(sent(requestor.association))
    acceptor.association.accept(presentation.negotiate(request, accept_all), OURS)
    requestor.feed(sent(acceptor.association))
    requestor.take_events()
    acceptor.take_events()
    return requestor, acceptor


def refusal(decode: Callable[[], object]) -> int | None:
    """The reason with which decoding blames the peer; None if it does not."""
    try:
        decode()
    except RemoteProtocolError as error:
        return error.reason
    return None
