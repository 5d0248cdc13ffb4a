"""Orthanc, an open source PACS, for tests: its own configuration, its own folder, free ports.

It is asked over its REST interface on loopback, and ended by its process id.
"""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archive_role import HOST
from centre import until

PROGRAM = "/usr/sbin/Orthanc"
START_S = 30.0
JOB_S = 60.0
_ANSWER_S = 60
_END_S = 20


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    url: str
    log_path: Path

    def get(self, path: str) -> object:
        """What it answers to GET, from JSON."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """What it answers to GET, as it is."""
        return self._ask("GET", path)

    def post(self, path: str, body: object) -> object:
        """What it answers to POST, from JSON; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return json.loads(self._ask("POST", path, data))

    def delete(self, path: str) -> None:
        """Have something deleted."""
        self._ask("DELETE", path)

    def upload(self, content: bytes) -> str:
        """Give it a Part 10 file; its own id of the instance."""
        return self.post("/instances", content)["ID"]

    def instances(self) -> list[str]:
        """Its ids of all instances."""
        return self.get("/instances")

    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace")

    def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                told = error.read().decode(errors="replace")
            raise AssertionError(f"{method} {path}: {error.code} {told}\n{self.log()}") from error


@contextmanager
def running(
    program: str,
    folder: Path,
    *,
    ae_title: str,
    port: int,
    http_port: int,
    modalities: Mapping[str, Mapping[str, object]],
) -> Iterator[Orthanc]:
    """Run Orthanc for the length of the block.

    Args:
        program: its path.
        folder: for its configuration, its storage and its log; made.
        ae_title: what it calls itself.
        port: where it speaks DICOM.
        http_port: where it is asked.
        modalities: whom it knows, by the names that its REST interface uses.
    """
    (folder / "storage").mkdir(parents=True)
    configuration = {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "TemporaryDirectory": str(folder),
        "Plugins": [],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": ae_title,
        "DicomPort": port,
        "DicomCheckCalledAet": True,
        "DicomModalities": modalities,
        "DicomScuTimeout": 30,
        "TranscodeDicomProtocol": False,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    log_path = folder / "orthanc.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [program, "--verbose", str(path)], stdout=log, stderr=subprocess.STDOUT
        )
    orthanc = Orthanc(f"http://{HOST}:{http_port}", log_path)

    def ready() -> bool:
        assert process.poll() is None, orthanc.log()
        try:
            return bool(orthanc.get("/system"))
        except urllib.error.URLError:
            return False

    try:
        until(ready, "Orthanc answers", START_S)
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
