"""The page docs/how-to/first-hospital.md is followed to the letter, every block of it."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest

from harmoni.net import notify

PAGE = Path(__file__).parents[2] / "docs/how-to/first-hospital.md"
PORT = "11112"
BLOCK = re.compile(r"^```sh( serve)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_S = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.peer
def test_the_page_leads_from_nothing_to_the_first_image(tmp_path, peer):
    for tool in ("echoscu", "storescu", "findscu"):
        peer(f"/usr/bin/{tool}")
    shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), tmp_path / "image.dcm")
    text = PAGE.read_text(encoding="utf-8").replace(PORT, free_port())
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}"}
    serving, output = None, ""
    try:
        for serve, block in BLOCK.findall(text):
            if serve:
                serving = start(block, tmp_path, environment)
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
        if serving is not None:
            serving.terminate()
            serving.wait(LONGEST_S)
    assert serving is not None
    assert "nothing is wrong" in output
    assert "Received Store Response (Success)" in output
    assert output.count("CompressedSamples^CT1") == 2  # findscu, then `study find`
    assert "age1pq1" in (tmp_path / "recovery-of-hospital-a.txt").read_text()


def start(block, directory, environment):
    """Execute the block that stays, until it says that it is ready."""
    with (
        notify.Listener() as listener,
        (directory / "serve.log").open("wb") as log,
    ):
        process = subprocess.Popen(
            ["/bin/sh", "-eu", "-c", f"exec {block}"],
            cwd=directory,
            env=environment | listener.environment,
            stdout=log,
            stderr=log,
        )
        assert listener.hears("READY=1", LONGEST_S), (directory / "serve.log").read_text()
        return process
