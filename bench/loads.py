"""What is sent to a receiver, and how long it took; the sender is DCMTK's storescu."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from receivers import DCMTK, HOST, MOST_PDU_BYTES, QUICK, Receiver

import house as houses
from harmoni.dicom import part10, uids

SENDER: Final = "BENCH"
"""The AE title of who calls."""
_ROOT: Final = "1.2.826.0.1.3680043.10.7"
_NOTHING: Final = nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Instances, shared out over associations that are open at once."""

    count: int
    pixels_bytes: int
    studies: int = 1
    associations: int = 1
    nagle: bool = False
    """Whether the sender holds small segments back, as senders come."""

    def scaled(self, scale: float) -> "Load":
        """The same with more or fewer instances, one for each association at least."""
        return replace(self, count=max(self.associations, int(self.count * scale)))

    def study_uid(self, run: int, number: int) -> str:
        """The study of one of its instances."""
        return f"{_ROOT}.{run}.{number * self.studies // self.count}"

    def write(self, folder: Path, run: int) -> int:
        """Write its files, with UIDs that no other run has; returns the bytes of all data sets."""
        pixels = bytes(range(256)) * (self.pixels_bytes // 256)
        size_bytes = 0
        for number in range(self.count):
            study = self.study_uid(run, number)
            unique = run * 1_000_000 + number
            data = houses.data_set(unique, study=study, series=f"{study}.1", pixels=pixels)
            head = part10.file_meta(
                sop_class_uid=houses.CT,
                sop_instance_uid=houses.uid(unique),
                transfer_syntax_uid=uids.EXPLICIT_VR_LITTLE_ENDIAN,
                private_information=b"",
            )
            part = folder / str(number % self.associations)
            part.mkdir(exist_ok=True)
            (part / f"{number:06d}.dcm").write_bytes(head + data)
            size_bytes += len(data)
        return size_bytes


CT: Final = Load(count=1000, pixels_bytes=512 << 10)
SMALL: Final = Load(count=2000, pixels_bytes=16 << 10)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    wall_s: float
    cpu_s: float
    """The receiver's, to the last answer; what seals meanwhile is left out."""
    size_bytes: int
    sealed_cpu_s: float | None = None
    """All of the receiver's until everything is sealed; None of what does not seal."""


def send(receiver: Receiver, load: Load, folder: Path) -> None:
    """Send what was written; every answer must be success."""
    command = [DCMTK / "storescu", "-aet", SENDER, "-aec", receiver.ae_title, "-xe", "+sd"]
    command += ["--max-pdu", MOST_PDU_BYTES, "--max-send-pdu", MOST_PDU_BYTES]
    senders = [
        subprocess.Popen(
            [*map(str, command), *receiver.options, HOST, str(receiver.port), str(part)],
            env=None if load.nagle else QUICK,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for part in folder.iterdir()
    ]
    assert [sender.wait() for sender in senders] == [0] * load.associations


def fill(receiver: Receiver, load: Load, folder: Path) -> None:
    """Send what was written, and wait until it is sealed, where it is."""
    send(receiver, load, folder)
    if receiver.settle is not None:
        receiver.settle()


def timed(receiver: Receiver, act: Callable[[], None], size_bytes: int) -> Measured:
    """What an act takes that moves so many bytes of data sets."""
    # Else whoever flushes would pay for what others have written and not flushed.
    os.sync()
    cpu_s, begun_s = receiver.cpu_s(), time.perf_counter()
    act()
    wall_s = time.perf_counter() - begun_s
    return Measured(wall_s, receiver.cpu_s() - cpu_s, size_bytes)


def measure(
    receiver: Receiver,
    load: Load,
    run: int,
    beside: AbstractContextManager[object] = _NOTHING,
) -> Measured:
    """Send a load once, while something else goes on beside it."""
    with tempfile.TemporaryDirectory() as name:
        size_bytes = load.write(Path(name), run)
        cpu_s = receiver.cpu_s(sealing=True)
        with beside:
            told = timed(receiver, lambda: send(receiver, load, Path(name)), size_bytes)
    if receiver.settle is None:
        return told
    receiver.settle()
    return replace(told, sealed_cpu_s=receiver.cpu_s(sealing=True) - cpu_s)


def medians(runs: Sequence[Measured], load: Load) -> dict[str, float]:
    """What is told of several runs."""
    wall_s = statistics.median(each.wall_s for each in runs)
    gigabytes = runs[0].size_bytes / 1e9
    told = {
        "wall_s": round(wall_s, 3),
        "instances_per_s": round(load.count / wall_s, 1),
        "cpu_s": round(statistics.median(each.cpu_s for each in runs), 3),
        "cpu_s_per_gb": round(statistics.median(each.cpu_s for each in runs) / gigabytes, 3),
    }
    sealed = [each.sealed_cpu_s for each in runs if each.sealed_cpu_s is not None]
    if sealed:
        told["cpu_s_per_gb_sealed"] = round(statistics.median(sealed) / gigabytes, 3)
    return told
