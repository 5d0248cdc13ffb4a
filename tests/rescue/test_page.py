"""The page docs/how-to/rescue.md is followed to the letter, every block of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom

import house as houses
import rescuer
from harmoni.holdings.holding import Holding
from harmoni.sealing import age
from harmoni.testing import FakeClock

PAGE = Path(__file__).parents[2] / "docs/how-to/rescue.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_leads_from_packs_to_images(tmp_path):
    node = Path(rescuer.command("rescue.mjs")[0]).parent
    identity = age.generate_identity(random=os.urandom(32))
    (tmp_path / "data").mkdir()
    site = houses.make_site(tmp_path / "data", FakeClock(), os.urandom(32), "dc1-n1-w0")
    house = houses.House(site, Holding.create(site, houses.HOSPITAL, identity.recipient()))
    sent = [houses.data_set(number) for number in range(1, 4)]
    for number, data in enumerate(sent[:2], 1):
        house.store(data, number)
    house.holding.events.record("hold", {"study": houses.STUDY}, subject=houses.STUDY)
    house.holding.events.retire()
    house.seal()
    house.store(sent[2], 3)
    (tmp_path / "recovery.txt").write_text(identity.to_string())
    (tmp_path / "custody.key").write_bytes(site.custody_key)
    path = f"{Path(sys.executable).parent}:{node}:{os.environ['PATH']}"
    output = ""
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", block],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        output += done.stdout

    assert output.count(" examples: 0 judged wrong\n") == 2
    assert output.count("3 packs: 4 members written, 0 troubles\n") == 2
    assert output.count("bytes, as in the manifest\n") == 6
    assert output.count("bytes, not sealed\n") == 2
    assert rescuer.datasets(tmp_path / "images") == sorted(sent)
    assert len(list((tmp_path / "images").glob("*.json"))) == 1
    for image in (tmp_path / "images").glob("*.dcm"):
        assert pydicom.dcmread(image).PatientName == houses.PLANTED_NAME
