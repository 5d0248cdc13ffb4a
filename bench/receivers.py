"""What is measured beside each other: HARMONI's archive, and the peers, each as its own processes.

All listen on loopback. The peers neither hash nor encrypt nor flush; HARMONI does everything that
it does in a hospital.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psutil

import archive_role
import centre as centres
from harmoni.demo import ports, system
from harmoni.demo.system import Centre, Peer
from harmoni.net import notify
from harmoni.net.tls import TLSFiles
from harmoni.runtime.clock import SystemClock

HOST: Final = "127.0.0.1"
AE_TITLE: Final = "HARMONI"
DESTINATION: Final = "BENCH_DEST"
"""The one destination of C-MOVE that every archive knows, if it listens."""
DCMTK: Final = Path("/usr/bin")
QUICK: Final = os.environ | {"TCP_NODELAY": "1"}
"""DCMTK and Orthanc wait 40 ms for an acknowledgement otherwise."""
MOST_PDU_BYTES: Final = 131_072
_START_S: Final = 60.0
_QUIET_S: Final = 4.0
"""Longer than a load, as in a hospital, so that a study is not sealed while it is taken in."""
_SEAL_S: Final = 120.0
_NO_DESTINATION: Final = 9  # the discard port (RFC 863)
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Receiver:
    """Something that takes instances in."""

    port: int
    process: psutil.Process
    ae_title: str = AE_TITLE
    options: tuple[str, ...] = ()
    """The sender's, for it."""
    settle: Callable[[], None] | None = None
    """Waits until all that was taken in is sealed."""

    def cpu_s(self, *, sealing: bool = False) -> float:
        """CPU seconds so far of it and its children, ended ones too.

        Args:
            sealing: HARMONI's keeper too, which seals earlier packs beside what is measured.
        """
        left_out = [] if sealing else centres.children(self.process.pid, "keeper")
        total = 0.0
        for each in (self.process, *self.process.children(recursive=True)):
            if each not in left_out:
                times = each.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


Kind = Callable[[Path], AbstractContextManager[Receiver]]
"""How a receiver is started that keeps what it has in an empty folder."""


@contextmanager
def running(kinds: Mapping[str, Kind]) -> Iterator[Mapping[str, Receiver]]:
    """Some receivers at once, each with nothing to begin with."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        started = {}
        for name, kind in kinds.items():
            folder = Path(directory) / name
            folder.mkdir()
            started[name] = stack.enter_context(kind(folder))
        yield started


def free_port() -> int:
    """A port that nobody listens on now."""
    (port,) = ports.free(1)
    return port


@contextmanager
def harmoni(
    folder: Path, *, workers: int = 1, tls: bool = False, destination_port: int = _NO_DESTINATION
) -> Iterator[Receiver]:
    """The archive role: in clear text by bench/plain_archive.py, or as it is, over TLS."""
    centre = _centre(folder, workers)
    destination = Peer(ae_title=DESTINATION, role="pacs", port=destination_port)
    archive_role.register(
        centre.archive.archive.hospitals, replace(centre.houses[0], peers=(destination,))
    )
    command = [sys.executable, _HERE / "plain_archive.py", "serve", centre.config_path]
    if tls:
        command = [sys.executable, "-m", "harmoni.cli", "archive", "serve"]
        command += ["--config", centre.config_path]
    paths = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")])
    with notify.Listener() as listener, (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths} | listener.environment,
        )
        with _ended(process):
            while not listener.hears("READY=1", 1.0):
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
            yield Receiver(
                centre.archive.listen.port,
                psutil.Process(process.pid),
                options=tls_options(centre.houses[0].tls_files) if tls else (),
                settle=lambda: _settle(centre),
            )


def _centre(folder: Path, workers: int) -> Centre:
    return system.build(
        folder,
        hospitals=1,
        seal_after_s=_QUIET_S,
        settings=["archive.safe_copies=1", f"archive.workers={workers}"],
        clock=SystemClock(),
    )


def _settle(centre: Centre) -> None:
    open_packs = centre.archive.archive.data / "packs" / str(centre.houses[0].hospital) / "open"
    until_s, pause = time.monotonic() + _SEAL_S, threading.Event()
    while any(open_packs.glob("*.tar")):
        assert time.monotonic() < until_s, "packs are not sealed"
        pause.wait(0.2)


def tls_options(files: TLSFiles) -> tuple[str, ...]:
    """DCMTK's options for an identity."""
    return ("+tls", str(files.key), str(files.certificate), "+cf", str(files.authorities))


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Receiver]:
    """DCMTK's receiver, which writes files as they come and does nothing else."""
    port = free_port()
    command = [DCMTK / "storescp", "-od", folder, "+B", "-pm", "-pdu", MOST_PDU_BYTES]
    with _peer([*command, *options, port], port) as receiver:
        yield receiver


@contextmanager
def storescp_tls(folder: Path) -> Iterator[Receiver]:
    """The same over TLS, with the certificates of an archive of ours."""
    keys = folder / "keys"
    keys.mkdir()
    centre = _centre(keys, 1)
    section = centre.archive.tls
    own = TLSFiles(certificate=section.certificate, key=section.key, authorities=section.ca)
    theirs = tls_options(centre.houses[0].tls_files)
    port = free_port()
    command = [DCMTK / "storescp", "-od", folder, "+B", "-pm", "-pdu", MOST_PDU_BYTES]
    with _peer([*command, *tls_options(own), port], port, theirs) as receiver:
        yield receiver


@contextmanager
def orthanc(folder: Path, *, destination_port: int = _NO_DESTINATION) -> Iterator[Receiver]:
    """Orthanc with SQLite, as it comes."""
    port = free_port()
    configuration = {
        "Name": AE_TITLE,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [],
        "HttpPort": free_port(),
        "AuthenticationEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "MaximumPduLength": MOST_PDU_BYTES,
        "DicomModalities": {"destination": [DESTINATION, HOST, destination_port]},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with _peer(["/usr/sbin/Orthanc", path], port) as receiver:
        yield receiver


@contextmanager
def pynetdicom(folder: Path) -> Iterator[Receiver]:
    """Pynetdicom's own storescp, writing to files."""
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", port, "-od", folder]
    command += ["--max-pdu", MOST_PDU_BYTES]
    with _peer(command, port) as receiver:
        yield receiver


@contextmanager
def dcmqrscp(folder: Path, *, destination_port: int = _NO_DESTINATION) -> Iterator[Receiver]:
    """DCMTK's small archive."""
    port = free_port()
    path = folder / "dcmqrscp.cfg"
    path.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = {MOST_PDU_BYTES}\nMaxAssociations = 16\n"
        f"HostTable BEGIN\ndestination = ({DESTINATION}, {HOST}, {destination_port})\n"
        "HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {folder} RW (500, 1024mb) ANY\nAETable END\n"
    )
    with _peer([DCMTK / "dcmqrscp", "-c", path], port) as receiver:
        yield receiver


@contextmanager
def _peer(
    command: Sequence[object], port: int, options: tuple[str, ...] = ()
) -> Iterator[Receiver]:
    process = subprocess.Popen(
        list(map(str, command)), env=QUICK, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with _ended(process):
        echo = [str(DCMTK / "echoscu"), *options, "-aec", AE_TITLE, HOST, str(port)]
        until_s = time.monotonic() + _START_S
        while subprocess.run(echo, check=False, capture_output=True).returncode != 0:
            assert process.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < until_s, f"{command[0]} does not answer"
        yield Receiver(port, psutil.Process(process.pid), options=options)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait()


KINDS: Final[Mapping[str, Kind]] = {
    "harmoni": harmoni,
    "harmoni_two_workers": partial(harmoni, workers=2),
    "harmoni_tls": partial(harmoni, tls=True),
    "storescp": storescp,
    "storescp_tls": storescp_tls,
    "orthanc": orthanc,
    "pynetdicom": pynetdicom,
    "dcmqrscp": dcmqrscp,
}
"""Everything that can be measured, by name."""
