"""The page docs/how-to/first-hospital.md is followed to the letter, every block of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest

from dcmtk import free_port
from harmoni.net import notify

PAGE = Path(__file__).parents[2] / "docs/how-to/first-hospital.md"
PORTS = ("12762", "10104", "10105")
BLOCK = re.compile(r"^```sh( serve)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_S = 120


@pytest.mark.peer
def test_the_page_leads_from_nothing_to_the_first_image(tmp_path, peer):
    for tool in ("echoscu", "storescu", "findscu", "movescu", "dcmdump"):
        peer(f"/usr/bin/{tool}")
    shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), tmp_path / "image.dcm")
    text = PAGE.read_text(encoding="utf-8")
    for port in PORTS:
        text = text.replace(port, str(free_port()))
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}"}
    serving, output = [], ""
    try:
        for serve, block in BLOCK.findall(text):
            if serve:
                serving.append(start(block, tmp_path, environment, len(serving)))
                continue
            done = subprocess.run(
                ["/bin/sh", "-eu", "-c", block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
            assert done.returncode == 0, block + done.stdout + done.stderr
            output += done.stdout + done.stderr
    finally:
        for process in serving:
            process.terminate()
            process.wait(LONGEST_S)
    assert len(serving) == 2
    assert output.count("nothing is wrong") == 2  # at the archive and at the gateway
    assert "Received Store Response (Success)" in output
    assert output.count("CompressedSamples^CT1") == 2  # findscu, then `study find`
    assert '"stayed": []' in output
    assert "Received Final Move Response (Success)" in output
    assert list(tmp_path.glob("CT.1.*"))
    assert "age1pq1" in (tmp_path / "recovery-of-hospital-a.txt").read_text()


def start(block, directory, environment, number):
    """Execute a block that stays, until it says that it is ready."""
    path = directory / f"serve-{number}.log"
    with notify.Listener() as listener, path.open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-eu", "-c", f"exec {block}"],
            cwd=directory,
            env=environment | listener.environment,
            stdout=log,
            stderr=log,
        )
        assert listener.hears("READY=1", LONGEST_S), path.read_text()
        return process
