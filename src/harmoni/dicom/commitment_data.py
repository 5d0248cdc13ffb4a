"""Data sets of Storage Commitment Push: request and report (PS3.4 J.3.2, J.3.3).

Between our own nodes each item of the Referenced SOP Sequence also carries a private block with
the SHA-256 of the data set; other peers neither send it nor mind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One item of a Referenced or Failed SOP Sequence."""

    sop_class_uid: str
    sop_instance_uid: str
    sha256: bytes | None = None
    """SHA-256 of the data set as received, 32 bytes; only between our own nodes."""
    failure_reason: int | None = None
    """Failure Reason (0008,1197), PS3.3 C.14.1.1; only in a Failed SOP Sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """The data set of an N-EVENT-REPORT (PS3.4 J.3.3)."""

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: tuple[Reference, ...] = ()
    retrieve_ae_title: str = ""


def parse_commitment_request(
    data: bytes, transfer_syntax_uid: str
) -> tuple[str, tuple[Reference, ...]]:
    """Read the data set of an N-ACTION: Transaction UID and the references.

    Raises:
        InvalidInput: it cannot be read, or lacks UID or references. Answer 0115 or 0110.
    """
    raise NotImplementedError


def encode_commitment_request(
    transaction_uid: str, references: Sequence[Reference], transfer_syntax_uid: str
) -> bytes:
    """Encode the data set of an N-ACTION (PS3.4 J.3.2)."""
    raise NotImplementedError


def parse_commitment_report(data: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Read the data set of an N-EVENT-REPORT.

    Raises:
        InvalidInput: it cannot be read or lacks its Transaction UID.
    """
    raise NotImplementedError


def encode_commitment_report(
    transaction_uid: str,
    committed: Sequence[Reference],
    failed: Sequence[Reference],
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
) -> bytes:
    """Encode the data set of an N-EVENT-REPORT (PS3.4 J.3.3).

    Retrieve AE Title stands outside the sequences, never inside as well. The event type is the
    caller's: 1 when nothing failed, else 2.
    """
    raise NotImplementedError
