"""P6: how much of its ingest rate HARMONI keeps while a query of 5,000 matches runs beside it.

    python bench/query_beside.py [--runs 5] [--scale 1.0]

The query is DCMTK's findscu at IMAGE level, again and again until the last instance is answered.
With it and without, ingest takes turns on one archive of one worker. Prints JSON: medians as of
bench/ingest.py, in which the CPU seconds are of both, and of the seconds that a query took.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import loads
import receivers
import turns
from loads import CT, Load, Measured
from receivers import DCMTK, HOST, MOST_PDU_BYTES, QUICK, Receiver
from turns import Medians

MATCHES: Final = Load(count=5000, pixels_bytes=16 << 10)


def ask(receiver: Receiver, study: str, *options: str) -> str:
    """Query for every instance of a study's one series; returns what findscu says."""
    command = [
        *(str(DCMTK / "findscu"), *options, "-pdu", str(MOST_PDU_BYTES)),
        *("-aet", loads.SENDER, "-aec", receiver.ae_title, "-S"),
        *("-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={study}"),
        *("-k", f"SeriesInstanceUID={study}.1", "-k", "SOPInstanceUID=", "-k", "InstanceNumber="),
        *(HOST, str(receiver.port)),
    ]
    done = subprocess.run(command, check=True, env=QUICK, capture_output=True, text=True)
    return done.stdout + done.stderr


@contextmanager
def asking(receiver: Receiver, study: str, matches: int, took_s: list[float]) -> Iterator[None]:
    """Query until the end of the block, one query after the other.

    The first is before the block, and its matches are counted; findscu tells of the others only
    that the association went well, since it would take a core to print them.
    """
    assert ask(receiver, study, "-v").count("(Pending)") == matches
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            begun_s = time.perf_counter()
            ask(receiver, study, "-q")
            took_s.append(time.perf_counter() - begun_s)

    with ThreadPoolExecutor(1) as pool:
        queries = pool.submit(go_on)
        try:
            yield
        finally:
            ended.set()
        queries.result()


def measured(runs: int, scale: float) -> dict[str, Medians]:
    """Medians of ingest alone and with the query beside it."""
    load, matches = CT.scaled(scale), MATCHES.scaled(scale)
    study = matches.study_uid(0, 0)
    took_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        receivers.running({"harmoni": receivers.harmoni}) as running,
    ):
        receiver = running["harmoni"]
        matches.write(Path(directory), 0)
        loads.fill(receiver, matches, Path(directory))

        def alone(run: int) -> Measured:
            return loads.measure(receiver, load, 2 * run + 1)

        def queried(run: int) -> Measured:
            beside = asking(receiver, study, matches.count, took_s)
            return loads.measure(receiver, load, 2 * run + 2, beside)

        found = turns.take({"harmoni": alone, "harmoni_queried": queried}, runs)
    told = {name: loads.medians(each, load) for name, each in found.items()}
    told["harmoni_queried"]["query_s"] = round(statistics.median(took_s), 3)
    return told


if __name__ == "__main__":
    turns.main(__doc__, {"P6 beside a query": measured})
