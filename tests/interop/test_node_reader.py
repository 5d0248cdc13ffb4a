"""A reader of 90 lines, written from the reference pages with Node's own modules, opens packs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harmoni.sealing import keys
from vectors import make_vectors

READER = Path(__file__).with_name("reader.mjs")
FOLDER = Path(make_vectors.__file__).parent


@pytest.fixture(scope="module")
def read():
    """Runs the reader on a pack and gives what it printed."""
    if shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: install Node.js 20 or newer")
        pytest.skip("node is missing: the independent reader is not run")
    epoch_key = make_vectors.EPOCH.key.hex()

    def run(name):
        block = FOLDER / "blocks/minted.json"
        return subprocess.run(
            ["node", str(READER), str(FOLDER / name), str(block), epoch_key],
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout

    return run


@pytest.mark.parametrize("name", ["three", "pax", "events"])
def test_an_independent_reader_opens_a_pack(read, name):
    found = json.loads(read(f"packs/{name}.tar"))
    entries = found["manifest"]["instances"] + found["manifest"]["events"]
    hashes = {
        entry["sequence"]: entry.get("dataset_sha256", entry.get("sha256")) for entry in entries
    }
    opened = {
        int(member.split("/")[1][:8]): sha256
        for member, sha256 in found["hashes"].items()
        if member != "manifest"
    }
    assert opened == hashes
    assert found["readme"]["pack"] == found["manifest"]["pack"]
    assert keys.KeyId.parse(found["readme"]["key"]).block == make_vectors.BLOCK.block_id


@pytest.mark.parametrize("name", ["cut", "footer", "manifest", "member", "exchanged"])
def test_an_independent_reader_refuses_a_damaged_pack(read, name):
    with pytest.raises(subprocess.CalledProcessError):
        read(f"packs/{name}.tar")
