"""Data sets of Storage Commitment Push: request and report (PS3.4 J.3.2, J.3.3).

Between our own nodes each item of the Referenced SOP Sequence also carries our private block with
the SHA-256 of the data set; that of a report says as well how many copies there are, and where.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harmoni.dicom import dataset, private_block
from harmoni.dicom.uids import is_acceptable_uid
from harmoni.model.errors import InvalidInput
from harmoni.model.header import Element

MAX_COMMITMENT_BYTES: Final = 8 * 1024 * 1024
"""Some 50,000 references; a larger request is refused."""

_TRANSACTION_UID: Final = 0x0008_1195
_RETRIEVE_AE_TITLE: Final = 0x0008_0054
_REFERENCED_SOP_SEQUENCE: Final = 0x0008_1199
_FAILED_SOP_SEQUENCE: Final = 0x0008_1198
_FAILURE_REASON: Final = 0x0008_1197
_REFERENCED_SOP_CLASS_UID: Final = 0x0008_1150
_REFERENCED_SOP_INSTANCE_UID: Final = 0x0008_1155
# Of one value (PS3.5 6.2).
_MAX_SITE_CHARACTERS: Final = 64
_US_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One item of a Referenced or Failed SOP Sequence."""

    sop_class_uid: str
    sop_instance_uid: str
    sha256: bytes | None = None
    """SHA-256 of the data set as received, 32 bytes; only between our own nodes."""
    version_syntax_uid: str = ""
    """The transfer syntax in which that version was received, beside `sha256`: the same bytes in
    another one are another version. "" where it is not told."""
    copies: int | None = None
    """How many verified copies there are; in reports only, beside `sha256`."""
    sites: tuple[str, ...] = ()
    """The sites that have them; likewise."""
    failure_reason: int | None = None
    """Failure Reason (0008,1197), PS3.3 C.14.1.1; only in a Failed SOP Sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """The data set of an N-EVENT-REPORT (PS3.4 J.3.3)."""

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: tuple[Reference, ...] = ()
    retrieve_ae_title: str = ""
    """Where the instances can be retrieved from; "" when it was not told for all of them."""


def parse_commitment_request(
    data: bytes, transfer_syntax_uid: str
) -> tuple[str, tuple[Reference, ...]]:
    """Read the data set of an N-ACTION: Transaction UID and the references.

    Args:
        data: as received, at most `MAX_COMMITMENT_BYTES`.
        transfer_syntax_uid: the one of its presentation context.

    Raises:
        InvalidInput: it cannot be read, or lacks UID or references. Answer 0115 or 0110.
    """
    found = dataset.decode_data_set(data, transfer_syntax_uid, MAX_COMMITMENT_BYTES)
    references = _references(found, _REFERENCED_SOP_SEQUENCE, transfer_syntax_uid)
    if not references:
        raise InvalidInput("the commitment request names no instance; there is nothing to commit")
    return _uid(found, _TRANSACTION_UID), references


def encode_commitment_request(
    transaction_uid: str, references: Sequence[Reference], transfer_syntax_uid: str
) -> bytes:
    """Encode the data set of an N-ACTION (PS3.4 J.3.2)."""
    return dataset.encode_data_set(
        [
            Element(_TRANSACTION_UID, "UI", transaction_uid.encode("ascii")),
            _sequence(_REFERENCED_SOP_SEQUENCE, references, transfer_syntax_uid),
        ],
        transfer_syntax_uid,
    )


def parse_commitment_report(data: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Read the data set of an N-EVENT-REPORT.

    Raises:
        InvalidInput: it cannot be read or lacks its Transaction UID.
    """
    found = dataset.decode_data_set(data, transfer_syntax_uid, MAX_COMMITMENT_BYTES)
    return CommitmentReport(
        transaction_uid=_uid(found, _TRANSACTION_UID),
        committed=_references(found, _REFERENCED_SOP_SEQUENCE, transfer_syntax_uid),
        failed=_references(found, _FAILED_SOP_SEQUENCE, transfer_syntax_uid),
        retrieve_ae_title=_text(found, _RETRIEVE_AE_TITLE),
    )


def encode_commitment_report(
    transaction_uid: str,
    committed: Sequence[Reference],
    failed: Sequence[Reference],
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
) -> bytes:
    """Encode the data set of an N-EVENT-REPORT (PS3.4 J.3.3).

    Retrieve AE Title stands outside the sequences, never inside as well, and only where something
    was committed. The event type is the caller's: 1 when nothing failed, else 2.
    """
    elements: list[Element | dataset.Sequence] = [
        Element(_TRANSACTION_UID, "UI", transaction_uid.encode("ascii"))
    ]
    if committed:
        elements.append(Element(_RETRIEVE_AE_TITLE, "AE", retrieve_ae_title.encode("ascii")))
        elements.append(_sequence(_REFERENCED_SOP_SEQUENCE, committed, transfer_syntax_uid))
    if failed:
        elements.append(_sequence(_FAILED_SOP_SEQUENCE, failed, transfer_syntax_uid))
    return dataset.encode_data_set(elements, transfer_syntax_uid)


def _sequence(
    tag: int, references: Iterable[Reference], transfer_syntax_uid: str
) -> dataset.Sequence:
    return dataset.Sequence(
        tag, tuple(_item(reference, transfer_syntax_uid) for reference in references)
    )


def _item(reference: Reference, transfer_syntax_uid: str) -> dataset.DataSet:
    elements = [
        Element(_REFERENCED_SOP_CLASS_UID, "UI", reference.sop_class_uid.encode("ascii")),
        Element(_REFERENCED_SOP_INSTANCE_UID, "UI", reference.sop_instance_uid.encode("ascii")),
    ]
    if reference.failure_reason is not None:
        elements.append(
            dataset.encode_integer(_FAILURE_REASON, reference.failure_reason, transfer_syntax_uid)
        )
    if reference.sha256 is not None:
        elements += _block(reference, reference.sha256, transfer_syntax_uid)
    return {element.tag: element for element in elements}


def _block(reference: Reference, sha256: bytes, transfer_syntax_uid: str) -> list[Element]:
    elements = [
        private_block.creator(),
        Element(private_block.tag(private_block.SHA256), "OB", sha256),
    ]
    if reference.copies is not None:
        tag = private_block.tag(private_block.COPIES)
        elements.append(dataset.encode_integer(tag, reference.copies, transfer_syntax_uid, vr="US"))
    if reference.sites:
        sites = "\\".join(reference.sites).encode("ascii")
        elements.append(Element(private_block.tag(private_block.SITES), "LO", sites))
    if reference.version_syntax_uid:
        syntax = reference.version_syntax_uid.encode("ascii")
        elements.append(Element(private_block.tag(private_block.TRANSFER_SYNTAX), "UI", syntax))
    return elements


def _references(
    found: dataset.DataSet, tag: int, transfer_syntax_uid: str
) -> tuple[Reference, ...]:
    sequence = found.get(tag)
    if not isinstance(sequence, dataset.Sequence):
        return ()
    return tuple(_reference(item, transfer_syntax_uid) for item in sequence.items)


def _reference(item: dataset.DataSet, transfer_syntax_uid: str) -> Reference:
    reference = Reference(
        sop_class_uid=_uid(item, _REFERENCED_SOP_CLASS_UID),
        sop_instance_uid=_uid(item, _REFERENCED_SOP_INSTANCE_UID),
        failure_reason=_failure_reason(item, transfer_syntax_uid),
    )
    block = private_block.find(item)
    if block is None:
        return reference
    return replace(
        reference,
        sha256=_sha256(item, block),
        version_syntax_uid=_version_syntax(item, block),
        copies=_copies(item, block, transfer_syntax_uid),
        sites=_sites(item, block),
    )


def _sha256(item: dataset.DataSet, block: int) -> bytes:
    digest = private_block.value(item, private_block.SHA256, block)
    if digest is None or len(digest) != private_block.SHA256_BYTES:
        raise InvalidInput(
            f"the private block {private_block.CREATOR} of a reference lacks its SHA-256 of "
            f"{private_block.SHA256_BYTES} bytes; leave the block out or fill it"
        )
    return digest


def _version_syntax(item: dataset.DataSet, block: int) -> str:
    tag = private_block.tag(private_block.TRANSFER_SYNTAX, block)
    return _uid(item, tag) if tag in item else ""


def _copies(item: dataset.DataSet, block: int, transfer_syntax_uid: str) -> int | None:
    tag = private_block.tag(private_block.COPIES, block)
    if tag not in item:
        return None
    value = private_block.value(item, private_block.COPIES, block)
    if value is None or len(value) != _US_BYTES:
        raise InvalidInput(
            f"the number of copies of a reference, {tag:08X}, is not one value of VR US; leave it "
            "out or fill it"
        )
    # In Implicit VR nothing says what a private element is.
    return dataset.decode_integer(Element(tag, "US", value), transfer_syntax_uid)


def _sites(item: dataset.DataSet, block: int) -> tuple[str, ...]:
    tag = private_block.tag(private_block.SITES, block)
    if tag not in item:
        return ()
    value = private_block.value(item, private_block.SITES, block)
    text = "" if value is None else value.rstrip(b" \0").decode("ascii", "replace")
    sites = tuple(site.strip(" ") for site in text.split("\\"))
    if not all(_is_site(site) for site in sites):
        raise InvalidInput(
            f"the sites of a reference, {tag:08X}, are not names of 1 to {_MAX_SITE_CHARACTERS} "
            "ASCII characters; leave them out or fill them"
        )
    return sites


def _is_site(name: str) -> bool:
    return 1 <= len(name) <= _MAX_SITE_CHARACTERS and name.isascii() and name.isprintable()


def _failure_reason(item: dataset.DataSet, transfer_syntax_uid: str) -> int | None:
    element = item.get(_FAILURE_REASON)
    if not isinstance(element, Element):
        return None
    return dataset.decode_integer(element, transfer_syntax_uid)


def _text(found: dataset.DataSet, tag: int) -> str:
    element = found.get(tag)
    value = element.value if isinstance(element, Element) else b""
    return value.strip(b" \0").decode("ascii", "replace")


def _uid(found: dataset.DataSet, tag: int) -> str:
    uid = _text(found, tag)
    if not is_acceptable_uid(uid):
        raise InvalidInput(f"{uid!r} is no UID for {tag:08X}: 1 to 64 characters are needed there")
    return uid
