"""The page about machines without a network is followed to the letter, without a network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pages

ROOT = Path(__file__).parents[2]


def test_harmoni_is_installed_from_a_medium_where_there_is_no_network(tmp_path):
    carry, install = pages.blocks("offline-install.md")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "checkout")], check=True)
    (tmp_path / "checkout/.venv").symlink_to(Path(sys.prefix))
    pages.execute(carry, tmp_path / "checkout")
    (tmp_path / "offline").mkdir()
    shutil.move(tmp_path / "checkout/MEDIUM", tmp_path / "offline")
    # A network namespace of its own, in which not even loopback is up.
    alone = ["unshare", "--map-root-user", "--net", "/bin/sh", "-eu", "-c", install]
    done = subprocess.run(
        alone, cwd=tmp_path / "offline", capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "recover" in done.stdout
