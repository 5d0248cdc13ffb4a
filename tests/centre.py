"""A real archive in a temporary directory, and senders that talk to it over TLS.

`running` builds a centre (harmoni.demo.system), starts `harmoni archive serve`, and ends what it
started by its process ids. What is stored is made up here: instances of any size, each different.
"""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from harmoni.demo import samples, system
from harmoni.demo.processes import Role
from harmoni.demo.requestor import Requestor, archive_of
from harmoni.demo.samples import Sample
from harmoni.demo.serve import archive_role, log_path
from harmoni.demo.system import House
from harmoni.dicom import identifier, uids
from harmoni.dicom.identifier import QueryLevel
from harmoni.dicom.pdu import ProposedContext
from harmoni.net import client, tls
from harmoni.net.driver import Channel
from harmoni.runtime.clock import SystemClock
from harmoni.services import exchange, find, storage_scu, verification

HARMONI = (sys.executable, "-m", "harmoni.cli")
STORESCU = "/usr/bin/storescu"
SEAL_AFTER_S = 1.0
PATIENT_NAME = "CRASH^TEST"
GONE_S = 40.0
"""How long the processes of a supervisor that was killed may take to end."""
_LOOK_S = 0.05
_PEER_S = 120
_SYNTAXES = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
FIND_CONTEXT = ProposedContext(1, uids.STUDY_ROOT_FIND, _SYNTAXES)
_SENT = re.compile(r"Sending file: (?P<path>\S+)|Store Response \((?P<status>.*)\)")


def until(condition: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    """Wait for what nobody announces: files and processes; fail when it does not come in time."""
    ends_s = time.monotonic() + deadline_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends_s, f"not within {deadline_s:g} s: {what}"
        pause.wait(_LOOK_S)


def harmoni(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the operator."""
    return subprocess.run(
        [*HARMONI, *arguments],
        capture_output=True,
        text=True,
        timeout=_PEER_S,
        check=False,
    )


def rebuild(config_path: Path, house: House) -> None:
    """`vault rebuild` of a node, which must come to an index equal to the live one."""
    done = harmoni(
        *("vault", "rebuild", "--json", "--config", str(config_path)),
        *("--hospital", str(house.hospital)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"equal": true' in done.stdout


def ask_on(
    channel: Channel, level: QueryLevel, keys: Mapping[int, str]
) -> tuple[int, list[dict[int, str]]]:
    """Ask by C-FIND, study root, on an association; the final status and the answers."""
    query = replace(identifier.compose_query("STUDY", level, keys), character_set=b"ISO_IR 192")
    result = find.find(
        channel,
        identifier.encode_query(query, channel.contexts[1].transfer_syntax),
        sop_class_uid=uids.STUDY_ROOT_FIND,
    )
    return exchange.status_in(result.final), [
        identifier.parse_answer(answer, result.transfer_syntax) for answer in result.answers
    ]


def images_of(study_uid: str) -> dict[int, str]:
    """The keys that ask for every image of a study made by `write_instances`."""
    return {0x0020_000D: study_uid, 0x0020_000E: f"{study_uid}.1", 0x0008_0018: ""}


@dataclass(frozen=True)
class Running:
    """A built centre whose archive runs."""

    centre: system.Centre
    role: Role

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.centre.archive.archive.data

    @property
    def log(self) -> str:
        """What the archive's processes wrote so far."""
        return log_path(self.centre.config_path).read_text()

    @property
    def houses(self) -> Sequence[House]:
        """The hospitals."""
        return self.centre.houses

    def requestor(self, house: House) -> Requestor:
        """The hospital's side of a conversation."""
        return Requestor(archive_of(self.centre, house), SystemClock())

    @contextmanager
    def association(self, house: House, *contexts: ProposedContext) -> Iterator[Channel]:
        """An association over TLS with the hospital's certificate."""
        channel = client.open_association(
            host=self.centre.archive.listen.host,
            port=self.centre.archive.listen.port,
            tls=tls.client_context(house.tls_files),
            called_ae_title=self.centre.archive.archive.ae_title,
            calling_ae_title=house.gateway_ae_title,
            contexts=contexts,
            connect_timeout_s=10.0,
        )
        try:
            yield channel
        except BaseException:
            channel.abort()
            raise
        channel.release(10.0)

    def echo(self, house: House) -> int:
        """Do a C-ECHO on an association of its own and give the status."""
        with self.association(house, ProposedContext(1, uids.VERIFICATION, _SYNTAXES)) as channel:
            return verification.echo(channel)

    def store(self, house: House, wanted: Sequence[Sample]) -> list[int]:
        """Store on one association, each once, in lockstep; give the statuses."""
        context = ProposedContext(1, wanted[0].sop_class_uid, (wanted[0].transfer_syntax_uid,))
        statuses = []
        with self.association(house, context) as channel:
            for number, sample in enumerate(wanted, 1):
                answer = storage_scu.store(
                    channel,
                    channel.contexts[1],
                    sop_instance_uid=sample.sop_instance_uid,
                    data_set=sample.chunks(),
                    message_id=number,
                )
                statuses.append(exchange.status_in(answer))
        return statuses

    def find(self, house: House, level: QueryLevel, keys: Mapping[int, str]) -> list[dict]:
        """Ask by C-FIND, study root; fail unless it ends with success."""
        status, answers = self.ask(house, level, keys)
        assert status == 0
        return answers

    def ask(
        self, house: House, level: QueryLevel, keys: Mapping[int, str]
    ) -> tuple[int, list[dict]]:
        """Ask by C-FIND, study root; the final status and the answers."""
        with self.association(house, FIND_CONTEXT) as channel:
            return ask_on(channel, level, keys)

    def instances(self, house: House, study_uid: str) -> list[str]:
        """The SOP Instance UIDs that C-FIND tells of a study made by `write_instances`."""
        keys = images_of(study_uid)
        return [answer[0x0008_0018] for answer in self.find(house, QueryLevel.IMAGE, keys)]

    def storescu(self, house: House, paths: Sequence[Path]) -> Mapping[Path, str]:
        """Send files with DCMTK over TLS; what it was answered for each that it was answered for.

        Gives up where the association ends; its exit status does not matter, the answers do.
        """
        files = house.tls_files
        done = subprocess.run(
            [
                STORESCU,
                "-v",
                "-xe",
                "-R",
                *("+tls", str(files.key), str(files.certificate), "+cf", str(files.authorities)),
                *("-to", "10", "-td", "60"),
                *("-aet", house.gateway_ae_title, "-aec", system.ARCHIVE_AE_TITLE),
                self.centre.archive.listen.host,
                str(self.centre.archive.listen.port),
                *map(str, paths),
            ],
            # Nagle's algorithm off, which is not how DCMTK comes.
            env=os.environ | {"TCP_NODELAY": "1"},
            capture_output=True,
            text=True,
            timeout=_PEER_S,
            check=False,
        )
        answers, path = {}, None
        for found in _SENT.finditer(done.stdout + done.stderr):
            if found["path"]:
                path = Path(found["path"])
            else:
                answers[path] = found["status"]
        return answers

    def left_open(self) -> list[str]:
        """What lies in the folders of open packs: packs, parts, marks."""
        return sorted(path.name for path in self.data.glob("packs/*/open/*"))

    def await_seals(self, deadline_s: float = 30.0) -> None:
        """Wait until the keeper has finished everything."""
        until(
            lambda: not self.left_open(),
            f"packs sealed; still open: {self.left_open()}",
            deadline_s,
        )

    def harmoni(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the operator beside the running role."""
        return harmoni(*arguments)

    def rebuild(self, house: House) -> None:
        """`vault rebuild`, which must come to an index equal to the live one."""
        rebuild(self.centre.config_path, house)


@contextmanager
def running(
    directory: Path,
    *,
    hospitals: int = 1,
    seal_after_s: float = SEAL_AFTER_S,
    settings: Sequence[str] = (),
) -> Iterator[Running]:
    """Build a centre below a directory and run its archive for the length of the block."""
    clock = SystemClock()
    directory.mkdir(exist_ok=True)
    centre = system.build(
        directory,
        hospitals=hospitals,
        seal_after_s=seal_after_s,
        settings=settings,
        clock=clock,
    )
    with archive_role(centre, clock) as role:
        yield Running(centre, role)


def children(pid: int, kind: str) -> list[psutil.Process]:
    """The "worker", "keeper" or "forwarder" processes below a supervisor, oldest first."""
    found = []
    try:
        below = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
    for child in below:
        try:
            if kind in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def kill(role: Role, victim: str, source: random.Random) -> None:
    """End a process of a role by SIGKILL; after the supervisor, start the role anew."""
    pids = role.pids()
    if victim != "supervisor":
        chosen = children(pids[0], victim)
        if chosen:  # it may wait for its next start
            os.kill(source.choice(chosen).pid, signal.SIGKILL)
        return
    everyone = [psutil.Process(pid) for pid in pids[1:] if psutil.pid_exists(pid)]
    os.kill(pids[0], signal.SIGKILL)
    _, alive = psutil.wait_procs(everyone, GONE_S)
    assert not alive, f"they outlive their supervisor: {alive}"
    until(lambda: role.ended() is not None, "the supervisor is dead")
    role.start()


def write_instance(
    folder: Path,
    study_uid: str,
    number: int,
    pixels: bytes,
    *,
    patient_name: str = PATIENT_NAME,
    patient_id: str = "CRASH-1",
) -> Sample:
    """Write a CT instance of `STUDY.1`, the series, as a Part 10 file; its UID is unique by number.

    Args:
        folder: where to.
        study_uid: its study, shorter than 50 characters.
        number: which one.
        pixels: its pixel data, whatever the size.
        patient_name: of its patient, in UTF-8.
        patient_id: of its patient.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{study_uid}.1.{number}"
    dataset.StudyDate = "20260302"
    dataset.StudyTime = "101500"
    dataset.AccessionNumber = "A1"
    dataset.Modality = "CT"
    dataset.PatientName = patient_name
    dataset.PatientID = patient_id
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = f"{study_uid}.1"
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = 1, len(pixels) & 0xFFFE
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with path.open("wb") as file:
        dcmwrite(file, dataset, enforce_file_format=True)
    return samples.read(path)


def write_instances(
    folder: Path, study_uid: str, sizes_bytes: Sequence[int], source: random.Random, first: int = 1
) -> list[Sample]:
    """Write instances of so many bytes of noise each."""
    return [
        write_instance(folder, study_uid, number, source.randbytes(size_bytes & ~1))
        for number, size_bytes in enumerate(sizes_bytes, first)
    ]
