"""What an association tells its shell, what it asks of it, and its limits."""

from dataclasses import dataclass
from typing import Final, Protocol

from harmoni.dicom.dimse import Command
from harmoni.dicom.pdu import AssociateAC, AssociateRJ, AssociateRQ


@dataclass(frozen=True, slots=True)
class AssociateRequested:
    """A peer asks for an association (A-ASSOCIATE indication); `accept` or `reject` must follow."""

    request: AssociateRQ


@dataclass(frozen=True, slots=True)
class AssociateAccepted:
    """The peer accepted (A-ASSOCIATE confirmation); `Association.contexts` says what holds."""

    answer: AssociateAC


@dataclass(frozen=True, slots=True)
class AssociateRejected:
    """The peer rejected (A-ASSOCIATE confirmation); the transport is to be closed."""

    rejection: AssociateRJ


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A whole command set came.

    With `has_data_set` parsing pauses until the shell calls `Association.receive_data_set`.
    """

    context_id: int
    command: Command
    has_data_set: bool


@dataclass(frozen=True, slots=True)
class DataSetReceived:
    """The data set of the last command is complete; every byte was committed to its sink."""

    context_id: int


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer asks for release; the shell answers with `confirm_release` when it is done.

    In a collision (both asked) each side gets this, answers it and gets `ReleaseConfirmed`; the
    acceptor's answer then waits for the requestor's (PS3.8 9.2.3, AR-8 to AR-10).
    """


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """The peer agreed to our release."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The association ended without agreement.

    A request that the provider itself had to reject (A-ASSOCIATE-RJ sent) is reported so, too.

    Attributes:
        by_peer: the peer sent A-ABORT; otherwise we did, because of what the peer did.
        source: see `pdu.AbortSource`.
        reason: see `pdu.AbortReason`.
        why: for the log; no patient data.
    """

    by_peer: bool
    source: int
    reason: int
    why: str


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The peer closed the transport; an association that was still open is lost."""


Event = (
    AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | CommandReceived
    | DataSetReceived
    | ReleaseRequested
    | ReleaseConfirmed
    | Aborted
    | TransportClosed
)


class DataSink(Protocol):
    """Where the bytes of one data set go; the caller's, so that they are copied nowhere else."""

    def reserve(self, wanted: int) -> memoryview:
        """Offer memory for the next bytes: writable, of bytes, at least 1, shorter if need be.

        Bytes may be written there that are not committed; they do not belong to the data set.
        A memory longer than wanted is used in part.
        """
        ...

    def commit(self, count: int) -> None:
        """Take the first `count` bytes of what `reserve` offered last; they are the data set's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one association may cost.

    Attributes:
        max_pdu_bytes: the longest variable field of a P-DATA-TF that we take, and the longest that
            we send. Even. 128 KiB measured best with whole-PDU reads.
        max_association_pdu_bytes: the longest A-ASSOCIATE PDU.
        max_command_bytes: the longest command set.
        max_empty_fragments: how many fragments of one message may be without a byte.
        artim_s: how long we wait for A-ASSOCIATE-RQ, and for the transport to close.
    """

    max_pdu_bytes: int = 128 * 1024
    max_association_pdu_bytes: int = 1024 * 1024
    max_command_bytes: int = 64 * 1024
    max_empty_fragments: int = 16
    artim_s: float = 30.0


DEFAULT_LIMITS: Final = Limits()
