"""One DICOM association without I/O (PS3.8, PS3.7): bytes in, events and bytes out.

The shell reads into `receive_buffer`, tells `received` how much, acts on the events, and writes
what `data_to_send` and `message` give it. Time is an argument. What the peer does wrong never
raises: it becomes an `Aborted` event and an A-ABORT to send. What the caller does wrong raises
`LocalProtocolError`. Which act is allowed when is decided by `state_machine` alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from harmoni.dicom import pdu
from harmoni.dicom.dimse import Command, decode_command
from harmoni.dicom.events import (
    DEFAULT_LIMITS,
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    DataSetReceived,
    DataSink,
    Event,
    Limits,
    ReleaseConfirmed,
    ReleaseRequested,
    TransportClosed,
)
from harmoni.dicom.items import UserInformation
from harmoni.dicom.pdu import AbortReason, AbortSource, Buffer, PduType
from harmoni.dicom.presentation import AcceptedContext, Negotiated, accepted_contexts
from harmoni.dicom.reception import ReceivedCommand, ReceivedDataSet, ReceivedPdu, Reception
from harmoni.dicom.state_machine import TABLE, Action, Evt, Machine, State
from harmoni.dicom.transmission import Transmission
from harmoni.dicom.uids import APPLICATION_CONTEXT
from harmoni.model.errors import LocalProtocolError, RemoteProtocolError

_CONTROL_BYTES: Final = 4
_REJECTED_PERMANENT: Final = 1

_EVT_OF_PDU: Final = {
    PduType.ASSOCIATE_RQ: Evt.ASSOCIATE_RQ_PDU,
    PduType.ASSOCIATE_AC: Evt.ASSOCIATE_AC_PDU,
    PduType.ASSOCIATE_RJ: Evt.ASSOCIATE_RJ_PDU,
    PduType.DATA_TF: Evt.DATA_TF_PDU,
    PduType.RELEASE_RQ: Evt.RELEASE_RQ_PDU,
    PduType.RELEASE_RP: Evt.RELEASE_RP_PDU,
    PduType.ABORT: Evt.ABORT_PDU,
}
_PDU_TYPES: Final = {int(number): number for number in PduType}
_ABORTING: Final = frozenset((Action.AA_1, Action.AA_7, Action.AA_8))


class Association:
    """One association, one of its two sides.

    A message goes out by `message`, everything else by `data_to_send`. When the association is over
    by our own act (A-ABORT, A-ASSOCIATE-RJ, A-RELEASE-RP sent), the shell goes on reading until
    `closing`: closing earlier lets TCP throw away what was just sent.

    Args:
        requestor: we opened the transport and will `associate`; otherwise the peer did.
        limits: what the peer may cost.
        now_s: monotonic seconds; an acceptor's ARTIM starts here.
    """

    def __init__(self, *, requestor: bool, limits: Limits = DEFAULT_LIMITS, now_s: float) -> None:
        self._requestor = requestor
        self._limits = limits
        self._machine = Machine(limits.artim_s)
        self._reception = Reception(limits, self._admit)
        self._now_s = now_s
        self._events: list[Event] = []
        self._outgoing: list[Buffer] = []
        self._contexts: Mapping[int, AcceptedContext] = {}
        self._request: pdu.AssociateRQ | None = None
        self._answer: pdu.AssociateAC | None = None
        self._assume_roles = False
        self._transmission = Transmission(limits.max_pdu_bytes, lambda: self._act(Evt.DATA_REQUEST))
        self._confirm_after_collision = False
        if not requestor:
            self._act(Evt.TRANSPORT_INDICATED)

    # What holds.

    @property
    def state(self) -> State:
        """The state of PS3.8 9.2."""
        return self._machine.state

    @property
    def closing(self) -> bool:
        """Whether the shell is to close the transport, once everything is sent."""
        return self._machine.closing

    @property
    def over(self) -> bool:
        """Whether it has ended: nothing can be sent; events read before that may still wait."""
        return self._machine.closing or self._machine.state is State.STA13

    @property
    def contexts(self) -> Mapping[int, AcceptedContext]:
        """The accepted presentation contexts by id; empty before the answer."""
        return self._contexts

    @property
    def request(self) -> pdu.AssociateRQ:
        """What the requestor asked for.

        Raises:
            LocalProtocolError: nothing was asked for yet.
        """
        if self._request is None:
            raise LocalProtocolError("no association was requested yet")
        return self._request

    @property
    def answer(self) -> pdu.AssociateAC:
        """What the acceptor answered.

        Raises:
            LocalProtocolError: nothing was accepted.
        """
        if self._answer is None:
            raise LocalProtocolError("no association was accepted")
        return self._answer

    # Input.

    def receive_buffer(self) -> memoryview:
        """Memory for the next read; call `received` before anything else is called.

        Raises:
            LocalProtocolError: a data set waits for `receive_data_set`.
            Exception: what the sink raises; call `receive_data_set` with another sink to go on.
        """
        return self._reception.buffer()

    def received(self, count: int, now_s: float) -> list[Event]:
        """Take `count` bytes written into `receive_buffer`; 0 means that the peer closed.

        Returns:
            What happened, in order. After a `CommandReceived` with a data set nothing follows.

        Raises:
            Exception: what the sink raises; call `receive_data_set` with another sink to go on.
        """
        self._now_s = now_s
        if self._machine.closing:
            return []
        if self._machine.state is State.STA1:
            raise LocalProtocolError("nothing can be received before associate")
        if count == 0:
            self._act(Evt.TRANSPORT_CLOSED)
            self._reception.forget_message()
            self._events.append(TransportClosed())
            return self._take_events()
        self._reception.received(count)
        return self._parse()

    def receive_data_set(self, sink: DataSink, now_s: float) -> list[Event]:
        """Say where the data set of the last command goes, and go on with what is there already.

        It may be called again while the data set is under way: the rest goes to the new sink, for
        instance one that discards, after the first one raised.

        Raises:
            LocalProtocolError: no data set is expected.
            Exception: what the sink raises; call this with another sink to go on.
        """
        self._now_s = now_s
        self._reception.attach(sink)
        return self._parse()

    def _parse(self) -> list[Event]:
        while not self._machine.closing:
            try:
                part = self._reception.next_part()
                match part:
                    case None:
                        break
                    case ReceivedPdu(pdu_type=pdu_type, body=body):
                        self._take_pdu(pdu.decode(pdu_type, body))
                    case ReceivedCommand(context_id=context_id, data=data):
                        self._take_command(context_id, decode_command(data))
                    case ReceivedDataSet(context_id=context_id):
                        self._events.append(DataSetReceived(context_id))
            except RemoteProtocolError as error:
                self._abort_as_provider(Evt.INVALID_PDU, error.reason, str(error))
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _admit(self, pdu_type: int, length: int) -> bool:
        """Look at a PDU header: act on what the state forbids, refuse absurd lengths."""
        known = _PDU_TYPES.get(pdu_type)
        if known is None:
            raise RemoteProtocolError(
                f"PDU type {pdu_type:02X}H does not exist", AbortReason.UNRECOGNIZED_PDU
            )
        evt = _EVT_OF_PDU[known]
        action = TABLE[evt, self._machine.state]
        if action is Action.AA_6:
            return False
        if action in _ABORTING:
            why = f"{known.name} in {self._machine.state.name}"
            self._abort_as_provider(evt, AbortReason.UNEXPECTED_PDU, why)
            return False
        self._check_length(known, length)
        if known is PduType.DATA_TF:
            self._act(evt)
        elif known is not PduType.ABORT and self._reception.in_message:
            raise RemoteProtocolError(f"{known.name} within a message", AbortReason.UNEXPECTED_PDU)
        return True

    def _check_length(self, pdu_type: PduType, length: int) -> None:
        match pdu_type:
            case PduType.DATA_TF:
                lowest, highest = pdu.PDV_HEADER.size, self._limits.max_pdu_bytes
            case PduType.ASSOCIATE_RQ | PduType.ASSOCIATE_AC:
                lowest, highest = 0, self._limits.max_association_pdu_bytes
            case _:
                lowest, highest = _CONTROL_BYTES, _CONTROL_BYTES
        if not lowest <= length <= highest:
            raise RemoteProtocolError(
                f"{pdu_type.name} of {length} bytes: {lowest} to {highest} are allowed",
                AbortReason.INVALID_VALUE,
            )

    def _take_pdu(self, received: pdu.Pdu) -> None:
        match received:
            case pdu.AssociateRQ():
                self._take_request(received)
            case pdu.AssociateAC():
                self._take_answer(received)
            case pdu.AssociateRJ():
                self._act(Evt.ASSOCIATE_RJ_PDU)
                self._events.append(AssociateRejected(received))
            case pdu.ReleaseRQ():
                # A collision leads the two sides through different states (AR-8).
                self._act(Evt.RELEASE_RQ_PDU, other=not self._requestor)
                self._events.append(ReleaseRequested())
            case pdu.ReleaseRP():
                self._act(Evt.RELEASE_RP_PDU)
                self._events.append(ReleaseConfirmed())
                if self._confirm_after_collision and self._machine.state is State.STA12:
                    self._send_release_response()
            case pdu.Abort(source=source, reason=reason):
                over = self._machine.state is State.STA13
                self._act(Evt.ABORT_PDU)
                self._reception.forget_message()
                if not over:
                    why = f"the peer aborted (source {source}, reason {reason})"
                    self._events.append(
                        Aborted(by_peer=True, source=source, reason=reason, why=why)
                    )
            case pdu.DataTF():
                raise AssertionError("P-DATA-TF is never gathered")

    def _take_request(self, request: pdu.AssociateRQ) -> None:
        self._transmission.fit(request.user_information)
        self._request = request
        # PS3.8 Table 9-21: the provider refuses a version, the user an application context.
        if not request.protocol_version & pdu.PROTOCOL_VERSION:
            source, reason, why = 2, 2, f"protocol version {request.protocol_version}"
        elif request.application_context != APPLICATION_CONTEXT:
            source, reason, why = 1, 2, f"application context {request.application_context}"
        else:
            self._act(Evt.ASSOCIATE_RQ_PDU)
            self._events.append(AssociateRequested(request))
            return
        self._act(Evt.ASSOCIATE_RQ_PDU, other=True)
        self._send(pdu.AssociateRJ(_REJECTED_PERMANENT, source, reason))
        why = f"rejected: {why} is not supported"
        self._events.append(Aborted(by_peer=False, source=source, reason=reason, why=why))

    def _take_answer(self, answer: pdu.AssociateAC) -> None:
        contexts = accepted_contexts(self.request, answer, assume_roles=self._assume_roles)
        self._transmission.fit(answer.user_information)
        self._act(Evt.ASSOCIATE_AC_PDU)
        self._establish(answer, contexts)
        self._events.append(AssociateAccepted(answer))

    def _establish(self, answer: pdu.AssociateAC, contexts: Mapping[int, AcceptedContext]) -> None:
        self._answer = answer
        self._contexts = contexts
        self._reception.context_ids = self._transmission.context_ids = contexts.keys()

    def _take_command(self, context_id: int, command: Command) -> None:
        if command.has_data_set:
            self._reception.expect_data_set()
        else:
            self._reception.end_command()
        self._events.append(CommandReceived(context_id, command, command.has_data_set))

    # Timers.

    def deadline_s(self) -> float | None:
        """When `handle_timer` is to be called at the latest; None while ARTIM does not run."""
        return self._machine.artim_ends_s

    def handle_timer(self, now_s: float) -> list[Event]:
        """Act on the ARTIM timer if it has expired; nothing otherwise."""
        self._now_s = now_s
        if self._machine.artim_ends_s is None or now_s < self._machine.artim_ends_s:
            return []
        waited_for_request = self._machine.state is State.STA2
        self._act(Evt.ARTIM_EXPIRED)
        if waited_for_request:
            why = f"no A-ASSOCIATE-RQ within {self._limits.artim_s} s"
            self._report_provider_abort(AbortReason.NOT_SPECIFIED, why)
        return self._take_events()

    # Output.

    def data_to_send(self) -> list[Buffer]:
        """What is to be written now, before anything of `message`; it is forgotten here."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _send(self, value: pdu.Pdu) -> None:
        self._outgoing.append(pdu.encode(value))

    # Local primitives.

    def associate(self, request: pdu.AssociateRQ, *, assume_roles: bool = False) -> None:
        """Ask for an association; the transport is open already (AE-1, AE-2).

        Args:
            request: its maximum length is replaced by our limit.
            assume_roles: see `presentation.accepted_contexts`.

        Raises:
            LocalProtocolError: not the requestor, asked already, or a value that cannot be sent.
        """
        if not self._requestor or self._machine.closing:
            raise LocalProtocolError("only the requestor associates, and only once")
        request = replace(request, user_information=self._with_our_limit(request.user_information))
        encoded = pdu.encode(request)
        self._act(Evt.ASSOCIATE_REQUEST)
        self._act(Evt.TRANSPORT_CONFIRMED)
        self._request = request
        self._assume_roles = assume_roles
        self._outgoing.append(encoded)

    def accept(self, negotiated: Negotiated, user_information: UserInformation) -> None:
        """Accept what was asked for (AE-7).

        Args:
            negotiated: from `presentation.negotiate`.
            user_information: our implementation and the granted window; the maximum length is
                replaced by our limit, the roles by the negotiated ones.

        Raises:
            LocalProtocolError: no request waits for an answer, or a value cannot be sent.
        """
        request = self.request
        answer = pdu.AssociateAC(
            called_ae_title=request.called_ae_title,
            calling_ae_title=request.calling_ae_title,
            presentation_contexts=negotiated.answers,
            user_information=replace(
                self._with_our_limit(user_information), roles=negotiated.roles
            ),
        )
        encoded = pdu.encode(answer)
        self._act(Evt.ASSOCIATE_ACCEPT)
        self._outgoing.append(encoded)
        self._establish(answer, negotiated.contexts)

    def _with_our_limit(self, information: UserInformation) -> UserInformation:
        return replace(information, max_length=self._limits.max_pdu_bytes)

    def reject(self, result: int, source: int, reason: int, *, now_s: float) -> None:
        """Reject what was asked for (AE-8); see `pdu.AssociateRJ` for the numbers.

        Raises:
            LocalProtocolError: no request waits for an answer.
        """
        self._now_s = now_s
        self._act(Evt.ASSOCIATE_REJECT)
        self._send(pdu.AssociateRJ(result, source, reason))

    def release(self) -> None:
        """Ask for release (AR-1); `ReleaseConfirmed` follows, data may still come before it.

        Raises:
            LocalProtocolError: no association, or a message is half sent.
        """
        self._transmission.require_whole_message()
        self._act(Evt.RELEASE_REQUEST)
        self._send(pdu.ReleaseRQ())

    def confirm_release(self, *, now_s: float) -> None:
        """Agree to the peer's release (AR-4, AR-9); all responses are sent before.

        In a collision the acceptor's agreement waits for the peer's, as the standard asks.

        Raises:
            LocalProtocolError: the peer did not ask, or a message is half sent.
        """
        self._now_s = now_s
        self._transmission.require_whole_message()
        if self._machine.state is State.STA10:
            self._confirm_after_collision = True
        else:
            self._send_release_response()

    def _send_release_response(self) -> None:
        self._act(Evt.RELEASE_RESPONSE)
        self._send(pdu.ReleaseRP())

    def abort(
        self,
        source: int = AbortSource.SERVICE_USER,
        reason: int = AbortReason.NOT_SPECIFIED,
        *,
        now_s: float,
    ) -> None:
        """Abort (AA-1, AA-2); nothing happens when the association is over already.

        Raises:
            LocalProtocolError: there is no association yet: the shell just closes the transport.
        """
        self._now_s = now_s
        if self.over:
            return
        self._act(Evt.ABORT_REQUEST)
        self._reception.forget_message()
        self._send(pdu.Abort(source, reason))
        # What lies unread in scratch is of no use any more, and the next read needs the room.
        self._parse()

    def message(
        self, context_id: int, command: Command, data_set: Iterable[Buffer] | None = None
    ) -> Iterator[list[Buffer]]:
        """Send one message (DT-1, AR-7): lists of buffers, each to be written with one call.

        The first list holds the command and the first fragment of the data set. Data-set bytes are
        never copied or joined; chunks may have any size and stay unchanged until they are written.
        The last fragment is given out only when `data_set` is exhausted, so a source that finds
        itself damaged raises in time, and the caller aborts. If the source raises before the first
        list, nothing was sent and the association can go on.

        Raises:
            LocalProtocolError: unknown context, wrong state, the message before is half sent,
                or the command does not say what `data_set` says.
            Exception: what the data source raises, as it is.
        """
        return self._transmission.message(context_id, command, data_set)

    def _act(self, evt: Evt, *, other: bool = False) -> Action:
        return self._machine.act(evt, self._now_s, other=other)

    def _abort_as_provider(self, evt: Evt, reason: int, why: str) -> None:
        """Go through a cell that sends A-ABORT because of the peer (AA-1, AA-7, AA-8).

        In Sta2, AA-1 names the service user as the source; then the reason would mean nothing, so
        the provider is named there too, as its answer to a broken peer it is.
        """
        action = self._act(evt)
        self._reception.forget_message()
        self._send(pdu.Abort(AbortSource.SERVICE_PROVIDER, reason))
        if action is not Action.AA_7:
            self._report_provider_abort(reason, why)

    def _report_provider_abort(self, reason: int, why: str) -> None:
        source = AbortSource.SERVICE_PROVIDER
        self._events.append(Aborted(by_peer=False, source=source, reason=reason, why=why))
