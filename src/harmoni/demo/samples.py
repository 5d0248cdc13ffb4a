"""What the demo sends: DICOM files, read once for their facts, and what cannot be sent, with why.

Only the beginning of a file is kept in memory; its data set is read again, chunk by chunk, when it
is sent, and goes out exactly as it stands in the file.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harmoni.dicom import part10, uids
from harmoni.dicom.scanner import Scanner
from harmoni.model.errors import ConfigurationError, InvalidInput
from harmoni.model.header import SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One file to send.

    Attributes:
        path: the file.
        sop_class_uid: of its data set.
        sop_instance_uid: of its data set.
        transfer_syntax_uid: of its file meta information.
        study_instance_uid: of its data set, "" when it has none.
        offset: where its data set begins, in bytes.
        size_bytes: length of its data set.
        sha256: of its data set.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    offset: int
    size_bytes: int
    sha256: bytes

    @property
    def pair(self) -> tuple[str, str]:
        """SOP class and transfer syntax: what one presentation context stands for."""
        return self.sop_class_uid, self.transfer_syntax_uid

    def chunks(self) -> Iterator[bytes]:
        """The data set as it stands in the file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True, slots=True)
class Collection:
    """What was found in a file or folder."""

    samples: tuple[Sample, ...]
    skipped: tuple[tuple[Path, str], ...]
    """Files that are not sent, each with the reason."""

    @property
    def size_bytes(self) -> int:
        """All data sets together."""
        return sum(sample.size_bytes for sample in self.samples)

    def by_study(self) -> Mapping[str, Sequence[Sample]]:
        """The samples of each study; without a Study Instance UID one cannot be asked for."""
        studies: dict[str, list[Sample]] = {}
        for sample in self.samples:
            if sample.study_instance_uid:
                studies.setdefault(sample.study_instance_uid, []).append(sample)
        return studies


def collect(source: Path) -> Collection:
    """Find what can be sent in a file, or in a folder and the folders below it.

    Raises:
        ConfigurationError: there is nothing that can be sent.
    """
    if not source.exists():
        raise ConfigurationError(f"{source} does not exist; name a file or a folder with --input")
    paths = [source] if source.is_file() else sorted(filter(Path.is_file, source.rglob("*")))
    samples: dict[str, Sample] = {}
    skipped: list[tuple[Path, str]] = []
    for path in paths:
        try:
            sample = read(path)
        except InvalidInput as error:
            skipped.append((path, str(error)))
            continue
        earlier = samples.setdefault(sample.sop_instance_uid, sample)
        if earlier is not sample:
            skipped.append((path, f"has the SOP Instance UID of {earlier.path.name}"))
    if not samples:
        raise ConfigurationError(
            f"{source} holds nothing that can be sent, {len(skipped)} files were looked at; "
            "name a file or a folder of DICOM files with --input"
        )
    return Collection(tuple(samples.values()), tuple(skipped))


def read(path: Path) -> Sample:
    """Read the facts of one file.

    Raises:
        InvalidInput: it is no DICOM file, or holds what is not stored as an instance.
    """
    with path.open("rb") as file:
        meta = part10.read_prefix(file.read(part10.MAX_PREFIX_BYTES))
        syntax = uids.storage_transfer_syntax(meta.transfer_syntax_uid)
        if syntax is None:
            raise InvalidInput(f"the transfer syntax {meta.transfer_syntax_uid} is not stored")
        file.seek(meta.dataset_offset)
        digest, size_bytes, scanner = hashlib.sha256(), 0, Scanner(syntax)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
            if not scanner.done:
                scanner.feed(chunk)
    header = scanner.header()
    # Where the two differ the data set is right: a receiver compares the command with it.
    sop_class_uid = header.uid(SOP_CLASS_UID) or meta.sop_class_uid
    sop_instance_uid = header.uid(SOP_INSTANCE_UID) or meta.sop_instance_uid
    if not uids.is_storage_class(sop_class_uid):
        raise InvalidInput(f"{sop_class_uid or 'no SOP class'} is no storage class")
    if not sop_instance_uid:
        raise InvalidInput("it has no SOP Instance UID")
    return Sample(
        path=path,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        study_instance_uid=header.uid(STUDY_INSTANCE_UID),
        offset=meta.dataset_offset,
        size_bytes=size_bytes,
        sha256=digest.digest(),
    )
