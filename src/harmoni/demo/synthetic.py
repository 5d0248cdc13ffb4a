"""A small synthetic study, the same for the same seed: no patient ever had it.

Two series (CT and MR) of the shape that a scanner sends, Greek names in the character set asked
for, and two instances in transfer syntaxes that must pass through untouched: one deflated, one
encapsulated whose pixel data is no real JPEG, since nothing here may decode it.
"""

import hashlib
import random
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

CharacterSet = Literal["ISO_IR 126", "ISO_IR 192"]
_NAMES: Final = ("Παπαδόπουλος^Γεώργιος", "Ευθυμίου^Άννα-Μαρία", "Σαμαράς^Ιωσήφ")
_SLICES: Final = 12
_CT_COLUMNS: Final = 512
_MR_COLUMNS: Final = 256
_SMALL_COLUMNS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A synthetic study.

    Attributes:
        study_instance_uid: its UID.
        patient_id: the Patient ID in all its instances.
        files: the instances as Part 10 files, by file name.
    """

    study_instance_uid: str
    patient_id: str
    files: dict[str, bytes]

    def write(self, directory: Path) -> list[Path]:
        """Write the files into an existing directory, and give their paths."""
        paths = [directory / name for name in self.files]
        for path, data in zip(paths, self.files.values(), strict=True):
            path.write_bytes(data)
        return paths


def study(seed: str, character_set: CharacterSet = "ISO_IR 192", slices: int = _SLICES) -> Study:
    """Make a study of two series and two single instances.

    Args:
        seed: the same seed gives the same bytes.
        character_set: of the names.
        slices: instances in each of the two series.
    """
    source = random.Random(seed)  # noqa: S311 - pixels of nobody, to be the same each time
    patient_id = f"DEMO-{hashlib.sha256(seed.encode()).hexdigest()[:8].upper()}"
    study_uid = _uid(seed, "study")
    common = Dataset()
    common.SpecificCharacterSet = character_set
    common.PatientName = source.choice(_NAMES)
    common.PatientID = patient_id
    common.PatientBirthDate = "19620417"
    common.PatientSex = "O"
    common.StudyInstanceUID = study_uid
    common.StudyDate = "20260302"
    common.StudyTime = "101500"
    common.StudyID = "1"
    common.StudyDescription = "Επίδειξη"
    common.AccessionNumber = patient_id[-8:]
    common.ReferringPhysicianName = "Ιατρός^Κανένας"
    files: dict[str, bytes] = {}

    def add(name: str, dataset: Dataset, sop_class: UID, syntax: UID) -> None:
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = _uid(seed, name)
        dataset.update(common)
        files[f"{name}.dcm"] = _part10(dataset, syntax)

    series = (
        ("CT", CTImageStorage, ExplicitVRLittleEndian, _CT_COLUMNS),
        ("MR", MRImageStorage, ImplicitVRLittleEndian, _MR_COLUMNS),
    )
    for number, (modality, sop_class, syntax, columns) in enumerate(series, 1):
        for index in range(1, slices + 1):
            dataset = _image(modality, number, index, columns, _uid(seed, modality))
            dataset.PixelData = source.randbytes(columns * columns * 2)
            add(f"{modality.lower()}-{index:03d}", dataset, sop_class, syntax)
    deflated = _image("CT", 1, slices + 1, _SMALL_COLUMNS, _uid(seed, "CT"))
    deflated.PixelData = bytes(range(256)) * (_SMALL_COLUMNS * _SMALL_COLUMNS * 2 // 256)
    add("ct-deflated", deflated, CTImageStorage, DeflatedExplicitVRLittleEndian)
    encapsulated = _image("OT", 3, 1, _SMALL_COLUMNS, _uid(seed, "OT"))
    encapsulated.BitsAllocated = encapsulated.BitsStored = 8
    encapsulated.HighBit = 7
    encapsulated.PixelData = encapsulate([source.randbytes(3001), source.randbytes(40_000)])
    encapsulated["PixelData"].VR = "OB"
    encapsulated.NumberOfFrames = 2
    add("ot-encapsulated", encapsulated, SecondaryCaptureImageStorage, JPEGBaseline8Bit)
    return Study(study_instance_uid=study_uid, patient_id=patient_id, files=files)


def _image(modality: str, number: int, index: int, columns: int, series_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.Modality = modality
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = number
    dataset.InstanceNumber = index
    dataset.InstitutionName = "HARMONI demo"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    return dataset


def _part10(dataset: Dataset, syntax: UID) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _uid(seed: str, what: str) -> str:
    """A UID derived from a UUID (PS3.5 B.2), the same for the same words."""
    digest = hashlib.sha256(f"{seed} {what}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
