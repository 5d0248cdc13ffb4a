"""Unique identifiers: those of the standard that we serve, and our own (PS3.5 9, PS3.6 Annex A).

Which SOP classes and transfer syntaxes are stored is decided here and nowhere else. The rule is
open at the edges that grow (new storage classes, private ones) and closed everywhere else: a
standard UID that we do not serve is refused, so that a sender hears so at negotiation.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT_PUSH: Final = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_PUSH_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

HARMONI_ROOT: Final = "2.25.119361443836357861863091494581367412860"
"""The root of every UID of ours: a UUID (PS3.5 B.2) until there is a registered one."""
IMPLEMENTATION_CLASS_UID: Final = f"{HARMONI_ROOT}.1"
IMPLEMENTATION_VERSION_NAME: Final = "HARMONI_0_1"
PRIVATE_INFORMATION_CREATOR_UID: Final = f"{HARMONI_ROOT}.2"
"""Private Information Creator UID (0002,0100) of the file meta information that we write."""

MAX_UID_LENGTH: Final = 64

_DICOM_ROOT: Final = "1.2.840.10008"
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."

# Under the storage root, and yet no storage: queries and retrievals, and the creation of
# inventories (PS3.4 HH, BB, II).
_NOT_STORAGE: Final = frozenset(
    _STORAGE_ROOT + suffix
    for suffix in (
        *("200.4", "200.5", "200.6"),  # Protocol Approval Information Model
        *("201.2", "201.3", "201.4"),  # Inventory
        "201.5",  # Inventory Creation
        "201.6",  # Repository Query
    )
)

# Outside the storage root, and yet storage. Media Storage Directory is not among them: a DICOMDIR
# is never sent over a network (PS3.4 B.5).
_STORAGE_ELSEWHERE: Final = frozenset(
    {
        "1.2.840.10008.5.1.1.27",  # Stored Print Storage (retired)
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage (retired)
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage (retired)
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage - Trial (retired)
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction Storage
        "1.2.840.10008.5.1.4.34.10",  # RT Brachy Application Setup Delivery Instruction Storage
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol Storage
        "1.2.840.10008.5.1.4.39.1",  # Color Palette Storage
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template Storage
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template Storage
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group Storage
    }
)

_STRICT: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_ACCEPTABLE: Final = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntax:
    """How the bytes of a data set are to be read (PS3.5 10)."""

    uid: str
    explicit_vr: bool = True
    little_endian: bool = True
    deflated: bool = False
    encapsulated: bool = False


def is_valid_uid(text: str) -> bool:
    """Whether a UID keeps the rules of PS3.5 9.1: 1 to 64 digits and dots, no leading zeros."""
    return len(text) <= MAX_UID_LENGTH and _STRICT.fullmatch(text) is not None


def is_acceptable_uid(text: str) -> bool:
    """Whether a UID from the wire can be kept: 1 to 64 printable ASCII characters, no space.

    Instances whose UIDs have leading zeros or letters exist in every old archive; an archive that
    refuses them loses images.
    """
    return _ACCEPTABLE.fullmatch(text) is not None


def is_storage_class(uid: str) -> bool:
    """Whether instances of this SOP class are stored.

    Stored are the storage classes of PS3.6, retired ones too; any UID outside 1.2.840.10008
    (private classes); and unknown UIDs below 1.2.840.10008.5.1.4.1.1, where new storage classes
    are registered.
    """
    if not is_acceptable_uid(uid) or uid == _DICOM_ROOT:
        return False
    if not uid.startswith(_DICOM_ROOT + "."):
        return True
    if uid.startswith(_STORAGE_ROOT):
        return uid not in _NOT_STORAGE
    return uid in _STORAGE_ELSEWHERE


def storage_transfer_syntax(uid: str) -> TransferSyntax | None:
    """The encoding of a transfer syntax in which we store; None when it is refused.

    Refused are those whose pixels lie elsewhere (JPIP referenced), live video (SMPTE ST 2110),
    Papyrus, RFC 2557 MIME and XML (retired), and everything unknown: without knowing the encoding
    nobody could read the instance again.
    """
    return _STORAGE_TRANSFER_SYNTAXES.get(uid)


def storage_transfer_syntaxes() -> Iterable[TransferSyntax]:
    """Every transfer syntax in which we store, for conformance statements and tests."""
    return _STORAGE_TRANSFER_SYNTAXES.values()


def _table() -> Mapping[str, TransferSyntax]:
    encapsulated = (
        "1.98",  # Encapsulated Uncompressed Explicit VR Little Endian
        *(f"4.{number}" for number in range(50, 67)),  # JPEG, retired processes too
        "4.70",  # JPEG Lossless, first-order prediction
        *("4.80", "4.81"),  # JPEG-LS
        *("4.90", "4.91", "4.92", "4.93"),  # JPEG 2000
        *(f"4.{number}" for number in range(100, 107)),  # MPEG-2 and H.264
        *(f"4.{number}.1" for number in range(100, 107)),  # the same, fragmentable
        *("4.107", "4.108"),  # HEVC/H.265
        *("4.110", "4.111", "4.112"),  # JPEG XL
        *("4.201", "4.202", "4.203"),  # High-Throughput JPEG 2000
        "5",  # RLE
        "8.1",  # Deflated Image Frame Compression
    )
    syntaxes = (
        TransferSyntax(uid=IMPLICIT_VR_LITTLE_ENDIAN, explicit_vr=False),
        TransferSyntax(uid=EXPLICIT_VR_LITTLE_ENDIAN),
        TransferSyntax(uid=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, deflated=True),
        TransferSyntax(uid=EXPLICIT_VR_BIG_ENDIAN, little_endian=False),
        *(
            TransferSyntax(uid=f"{IMPLICIT_VR_LITTLE_ENDIAN}.{suffix}", encapsulated=True)
            for suffix in encapsulated
        ),
        # Private ones, registered here with their encoding (PS3.5 10, note on private syntaxes).
        # GE: implicit VR little endian, only the pixel data are big endian.
        TransferSyntax(uid="1.2.840.113619.5.2", explicit_vr=False),
        # Philips "CT private ELE": explicit VR little endian.
        TransferSyntax(uid="1.3.46.670589.33.1.4.1"),
    )
    return MappingProxyType({syntax.uid: syntax for syntax in syntaxes})


_STORAGE_TRANSFER_SYNTAXES: Final = _table()
