"""An archive of one hospital that is years old: a study a pack, as many as wanted, made in minutes.

The rows are written by the archive's own ingest. The files of sealed packs have the right names and
lengths and nothing in them, since a start only looks for them; the seal log has its records.
`leave_open` leaves what a killed worker leaves: packs that nobody holds, with members that were
acknowledged.
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import house as houses
from harmoni import config
from harmoni.archive.site import ArchiveSite
from harmoni.backends.filesystem import Filesystem
from harmoni.demo import system
from harmoni.demo.system import Centre
from harmoni.dicom import uids
from harmoni.evidence.seal_log import SealLog, SealRecord
from harmoni.holdings.holding import Holding
from harmoni.holdings.record import Announced
from harmoni.index import conflicts, ingest, packs
from harmoni.model import header
from harmoni.model.header import Element, Header
from harmoni.model.identifiers import PackId
from harmoni.model.instance import Identity, Instance, Location, Origin
from harmoni.runtime.clock import SystemClock
from harmoni.sealing.pack import PackKind

_BATCH = 50_000
_CACHE_KIB = 1 << 20
_YEARS_MS = 3 * 365 * 86_400_000
_PACK_BYTES = 1 << 20
MEMBERS = 5
"""Instances of each study that `leave_open` leaves."""
_PIXELS_BYTES = 32 << 10
_TORN_BYTES = 700
_SEAL_AFTER_S = 1.0
_ORIGIN = Origin(calling_ae_title="GW_A", called_ae_title="HARMONI", address="192.0.2.7")
_ROOT = "1.2.826.0.1.3680043.10.14"


class _Unflushed(Filesystem):
    """Log records without the two flushes of each: a million of them would take an hour."""

    def publish(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.path(name).write_bytes(data)


def build(directory: Path, studies: int) -> Centre:
    """Make an archive that holds so many studies, or find it again.

    Nothing is scrubbed: what stands for sealed packs would not be found sound.
    """
    directory.mkdir(parents=True, exist_ok=True)
    centre = system.build(
        directory,
        hospitals=1,
        seal_after_s=_SEAL_AFTER_S,
        settings=["scrub.young_days=100000", "scrub.cycle_days=100000"],
        clock=SystemClock(),
    )
    made = directory / "studies"
    if not made.exists():
        _fill(centre, studies)
        made.write_text(f"{studies}\n")
    assert int(made.read_text()) == studies, f"{directory} holds {made.read_text()}: name another"
    return centre


def holding_of(centre: Centre, process: str) -> Holding:
    """The one hospital's holding, as a process of its own has it."""
    archive = config.load_archive(centre.config_path)
    return ArchiveSite(archive, process, SystemClock()).holding(centre.houses[0].hospital)


def leave_open(centre: Centre, count: int, run: str) -> list[PackId]:
    """Have a process take instances into so many packs, kill it, and name the packs it left.

    Each tenth has a torn end besides, as a write leaves it that did not come to its end.
    """
    spawned = multiprocessing.get_context("spawn")
    folder = centre.archive.archive.data / f"packs/{centre.houses[0].hospital}/open"
    # What the role let go of as it ended waits there for its next start.
    before = set(folder.glob("*.tar"))
    filled, never = spawned.Event(), spawned.Event()
    writer = spawned.Process(target=_take_in, args=(centre, count, run, filled, never))
    writer.start()
    assert filled.wait(600)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    left = sorted(set(folder.glob("*.tar")) - before)
    assert len(left) == count
    for path in left[::10]:
        with path.open("ab") as file:
            file.write(os.urandom(_TORN_BYTES))
    return [PackId(path.stem) for path in left]


def study_uid(run: str, number: int) -> str:
    """The study of the pack with that number which `leave_open` left."""
    return f"{_ROOT}.2.{run}.{number}"


def _take_in(centre: Centre, count: int, run: str, filled: Event, never: Event) -> None:
    """Be the worker that is killed."""
    holding = holding_of(centre, "w0")
    pixels = os.urandom(_PIXELS_BYTES)
    syntax = uids.storage_transfer_syntax(uids.EXPLICIT_VR_LITTLE_ENDIAN)
    assert syntax is not None
    for number in range(count):
        study = study_uid(run, number)
        for member in range(MEMBERS):
            uid = int(run) * 1_000_000 + number * MEMBERS + member
            data = houses.data_set(uid, study=study, series=f"{study}.1", pixels=pixels)
            incoming = holding.recorder.begin(
                Announced(
                    sop_class_uid=houses.CT,
                    sop_instance_uid=houses.uid(uid),
                    transfer_syntax=syntax,
                    origin=_ORIGIN,
                )
            )
            houses.pour(incoming, data)
            incoming.finish()
    filled.set()
    never.wait()


def _fill(centre: Centre, studies: int) -> None:
    holding = holding_of(centre, "w0")
    files = _Unflushed(centre.archive.archive.data)
    log = SealLog(files, holding.hospital, centre.archive.archive.site)
    now_ms = SystemClock().now_ms()
    for start in range(0, studies, _BATCH):
        numbers = range(start, min(start + _BATCH, studies))
        ids = [_pack_id(now_ms - _YEARS_MS + _YEARS_MS * each // studies) for each in numbers]
        instances = [_instance(number, each) for number, each in zip(numbers, ids, strict=True)]
        records = [_record(each) for each in ids]
        with holding.index.write() as connection:
            # Rows of a million studies touch every page again and again; a role's cache is small.
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            ingest.record(connection, instances, holding.index.terms)
            for record in records:
                packs.sealed(connection, _sealed(record))
            conflicts.compared(connection, ids)
        for record in records:
            log.append(record)
            path = files.path(holding.layout.sealed_pack(record.pack_id))
            path.parent.mkdir(exist_ok=True)
            path.touch(0o440)
            os.truncate(path, record.size_bytes)
        if not start % 100_000:
            print(f"{numbers[-1] + 1} studies made", file=sys.stderr)
    holding.index.database().flush()
    os.sync()


def _pack_id(time_ms: int) -> PackId:
    return PackId.build(time_ms=time_ms, site_number=1, random=os.urandom(9))


def _record(pack_id: PackId) -> SealRecord:
    return SealRecord(
        kind=PackKind.INSTANCES,
        pack_id=pack_id,
        size_bytes=_PACK_BYTES,
        sha256=os.urandom(32),
        root=os.urandom(32),
        sealed_at_ms=pack_id.time_ms + 600_000,
    )


def _sealed(record: SealRecord) -> packs.SealedPack:
    return packs.SealedPack(
        pack_id=record.pack_id,
        kind=PackKind.INSTANCES,
        size_bytes=record.size_bytes,
        sha256=record.sha256,
        root=record.root,
        sealed_at_ms=record.sealed_at_ms,
    )


def _instance(number: int, pack_id: PackId) -> Instance:
    """A study of one instance; two follow each other of the same patient."""
    study = f"{_ROOT}.1.{number}"
    return Instance(
        sop_class_uid=houses.CT,
        sop_instance_uid=f"{study}.1.1",
        header=Header(
            character_set=b"ISO_IR 192",
            patient=_elements(
                {
                    header.PATIENT_NAME: f"NAME{number // 2}^GIVEN",
                    header.PATIENT_ID: f"{number // 2}",
                }
            ),
            study=_elements(
                {
                    header.STUDY_DATE: f"20{10 + number % 15}0302",
                    header.STUDY_TIME: "101500",
                    header.ACCESSION_NUMBER: f"A{number}",
                    header.STUDY_INSTANCE_UID: study,
                }
            ),
            series=_elements({header.MODALITY: "CT", header.SERIES_INSTANCE_UID: f"{study}.1"}),
            instance=_elements({header.INSTANCE_NUMBER: "1"}),
        ),
        identity=Identity(uids.EXPLICIT_VR_LITTLE_ENDIAN, os.urandom(32), _PACK_BYTES // 2),
        location=Location(pack_id, 0, 4096, _PACK_BYTES // 2),
        salt=bytes(32),
        received_at_ms=pack_id.time_ms,
        origin=_ORIGIN,
    )


def _elements(values: dict[int, str]) -> tuple[Element, ...]:
    return tuple(Element(tag, "LO", value.encode()) for tag, value in values.items())
