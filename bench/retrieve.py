"""P7: how fast one study is given back by C-GET and C-MOVE, beside the peers.

    python bench/retrieve.py [--runs 5] [--scale 1.0] [--only "P7 C-GET" ...]

Each archive takes the study in once, and HARMONI seals it. C-GET is DCMTK's getscu; C-MOVE is its
movescu, to one storescp for all of them. In each run everything must arrive as it was sent. Prints
JSON: medians of the seconds until the requestor has ended, and of the archive's CPU seconds.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import loads
import receivers
import turns
from loads import CT, SMALL, Load, Measured
from receivers import DCMTK, HOST, MOST_PDU_BYTES, QUICK, Receiver
from turns import Medians

import dcmtk

ARCHIVES: Final[Mapping[str, Callable[..., AbstractContextManager[Receiver]]]] = {
    "harmoni": receivers.harmoni,
    "orthanc": receivers.orthanc,
    "dcmqrscp": receivers.dcmqrscp,
}
_GETSCU: Final = ("getscu", "+B")
_MOVESCU: Final = ("movescu", "-aem", receivers.DESTINATION)
SCENARIOS: Final[Mapping[str, tuple[Load, tuple[str, ...]]]] = {
    "P7 C-GET CT": (CT, _GETSCU),
    "P7 C-GET small": (SMALL, _GETSCU),
    "P7 C-MOVE CT": (CT, _MOVESCU),
    "P7 C-MOVE small": (SMALL, _MOVESCU),
}


def retrieve(receiver: Receiver, requestor: Sequence[str], study: str, folder: Path) -> None:
    """Ask for a study; what the requestor itself is given, it writes to the folder."""
    subprocess.run(
        [
            *(str(DCMTK / requestor[0]), *requestor[1:], "-pdu", str(MOST_PDU_BYTES)),
            *("-aet", loads.SENDER, "-aec", receiver.ae_title, "-S"),
            *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"),
            *(HOST, str(receiver.port)),
        ],
        check=True,
        cwd=folder,
        env=QUICK,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def digests(folder: Path) -> Sequence[bytes]:
    """SHA-256 of every data set below a folder, sorted."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(hashlib.sha256(dcmtk.data_set_in(path)[1]).digest() for path in files)


def measured(load: Load, requestor: Sequence[str], runs: int, scale: float) -> dict[str, Medians]:
    """Medians of every archive for one study and one way to ask for it."""
    scaled = load.scaled(scale)
    with tempfile.TemporaryDirectory() as directory:
        sent, arrived = Path(directory) / "sent", Path(directory) / "arrived"
        sent.mkdir()
        arrived.mkdir()
        size_bytes = scaled.write(sent, 0)
        expected, study = digests(sent), scaled.study_uid(0, 0)

        def measure(receiver: Receiver, run: int) -> Measured:
            del run
            ask = partial(retrieve, receiver, requestor, study, arrived)
            told = loads.timed(receiver, ask, size_bytes)
            assert digests(arrived) == expected
            for path in arrived.iterdir():
                path.unlink()
            return told

        with (
            receivers.storescp(arrived) as destination,
            receivers.running(
                {
                    name: partial(archive, destination_port=destination.port)
                    for name, archive in ARCHIVES.items()
                }
            ) as running,
        ):
            for receiver in running.values():
                loads.fill(receiver, scaled, sent)
            acts = {name: partial(measure, receiver) for name, receiver in running.items()}
            found = turns.take(acts, runs)
    return {name: loads.medians(each, scaled) for name, each in found.items()}


if __name__ == "__main__":
    turns.main(__doc__, {name: partial(measured, *each) for name, each in SCENARIOS.items()})
