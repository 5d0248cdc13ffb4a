"""What the scanner read from a dataset: raw elements, level by level.

The bytes stay as they were received; whoever needs text decodes it with the character set that
stands beside them (dicom/text.py). Only elements with a text value representation are kept, so
byte order never matters here.
"""

from dataclasses import dataclass
from typing import Final

SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
SOP_CLASS_UID: Final = 0x0008_0016
SOP_INSTANCE_UID: Final = 0x0008_0018
STUDY_DATE: Final = 0x0008_0020
STUDY_TIME: Final = 0x0008_0030
ACCESSION_NUMBER: Final = 0x0008_0050
MODALITY: Final = 0x0008_0060
PATIENT_NAME: Final = 0x0010_0010
PATIENT_ID: Final = 0x0010_0020
ISSUER_OF_PATIENT_ID: Final = 0x0010_0021
STUDY_INSTANCE_UID: Final = 0x0020_000D
SERIES_INSTANCE_UID: Final = 0x0020_000E
STUDY_ID: Final = 0x0020_0010
SERIES_NUMBER: Final = 0x0020_0011
INSTANCE_NUMBER: Final = 0x0020_0013

PATIENT_TAGS: Final = (
    PATIENT_NAME,
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    0x0010_0030,  # Patient's Birth Date
    0x0010_0032,  # Patient's Birth Time
    0x0010_0040,  # Patient's Sex
    0x0010_4000,  # Patient Comments
)
STUDY_TAGS: Final = (
    STUDY_DATE,
    STUDY_TIME,
    ACCESSION_NUMBER,
    0x0008_0090,  # Referring Physician's Name
    0x0008_0201,  # Timezone Offset From UTC
    0x0008_1030,  # Study Description
    0x0008_1060,  # Name of Physician(s) Reading Study
    0x0010_1010,  # Patient's Age
    0x0010_1020,  # Patient's Size
    0x0010_1030,  # Patient's Weight
    STUDY_INSTANCE_UID,
    STUDY_ID,
)
SERIES_TAGS: Final = (
    0x0008_0021,  # Series Date
    0x0008_0031,  # Series Time
    MODALITY,
    0x0008_0070,  # Manufacturer
    0x0008_0080,  # Institution Name
    0x0008_1010,  # Station Name
    0x0008_103E,  # Series Description
    0x0008_1050,  # Performing Physician's Name
    0x0008_1090,  # Manufacturer's Model Name
    0x0018_0015,  # Body Part Examined
    0x0018_1030,  # Protocol Name
    SERIES_INSTANCE_UID,
    SERIES_NUMBER,
    0x0020_0060,  # Laterality
)
INSTANCE_TAGS: Final = (
    0x0008_0008,  # Image Type
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    0x0008_0022,  # Acquisition Date
    0x0008_0023,  # Content Date
    0x0008_0032,  # Acquisition Time
    0x0008_0033,  # Content Time
    INSTANCE_NUMBER,
    0x0028_0008,  # Number of Frames
)


@dataclass(frozen=True, slots=True)
class Element:
    """One data element as it stood in the dataset (PS3.5 7.1).

    Args:
        tag: group and element, 0xggggeeee.
        vr: the two letters of the value representation, from the bytes or from the dictionary.
        value: the value field, padding included.
    """

    tag: int
    vr: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The elements of one instance that the index needs, each level in ascending order of tag."""

    character_set: bytes = b""
    """Specific Character Set (0008,0005), raw; empty when absent."""
    patient: tuple[Element, ...] = ()
    study: tuple[Element, ...] = ()
    series: tuple[Element, ...] = ()
    instance: tuple[Element, ...] = ()

    def value(self, tag: int) -> bytes:
        """The raw value of an element, or b"" when it was absent or empty."""
        for level in (self.patient, self.study, self.series, self.instance):
            for element in level:
                if element.tag == tag:
                    return element.value
        return b""

    def uid(self, tag: int) -> str:
        """A UID without its padding (PS3.5 9.1), or "" when absent.

        Bytes outside ASCII become U+FFFD, so that a broken UID is never equal to a sound one.
        """
        return self.value(tag).rstrip(b"\0 ").decode("ascii", "replace")
