"""The rescue kit is whole, from the checkout and from a wheel, and renews itself only."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rescuer
from harmoni.cli import app
from harmoni.model.errors import AlreadyHeld
from harmoni.rescue import kit
from vectors import make_vectors

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/reference"
VECTORS = Path(make_vectors.__file__).parent


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def expected():
    index = json.loads((VECTORS / "index.json").read_bytes())
    files = {f"vectors/{name}": VECTORS / name for name in ["index.json"]}
    files |= {f"vectors/{facts['file']}": VECTORS / facts["file"] for facts in index}
    files |= {name: PAGES / name for name in ("pack-format.md", "keys-format.md")}
    files |= {name: rescuer.SOURCE / name for name in ("README", "rescue.py", "rescue.mjs")}
    return {name: path.read_bytes() for name, path in files.items()}


def test_the_kit_is_both_programs_the_pages_and_every_vector(tmp_path):
    written = kit.write_kit(tmp_path / "kit")

    assert content(tmp_path / "kit") == expected()
    assert sorted(written) == sorted(tmp_path / "kit" / name for name in expected())
    assert not any(path.is_symlink() for path in (tmp_path / "kit").rglob("*"))


def test_a_kit_is_renewed_where_it_differs(tmp_path):
    kit.write_kit(tmp_path)
    (tmp_path / "rescue.py").write_text("an older one")
    (tmp_path / "vectors/packs/three.tar").unlink()
    untouched = (tmp_path / "README").stat()
    kit.write_kit(tmp_path)

    assert content(tmp_path) == expected()
    assert (tmp_path / "README").stat().st_ino == untouched.st_ino


def test_a_directory_with_anything_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(AlreadyHeld, match=r"letter\.txt"):
        kit.write_kit(tmp_path)

    assert content(tmp_path) == {"letter.txt": b"mine"}


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    directory = tmp_path / "kit"
    assert app.main(["vault", "rescue-kit", str(directory), "--json"]) == 0
    files = [entry["file"] for entry in json.loads(capsys.readouterr().out)]

    assert sorted(files) == sorted(str(directory / name) for name in expected())
    assert app.main(["vault", "rescue-kit", str(directory)]) == 0
    assert str(directory / "rescue.mjs") in capsys.readouterr().out
    (directory / "letter.txt").write_text("mine")
    assert app.main(["vault", "rescue-kit", str(directory)]) == 2
    assert "letter.txt" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rescue.py", "rescue.mjs"])
def test_a_program_of_the_kit_judges_the_vectors_of_the_kit(tmp_path, name):
    kit.write_kit(tmp_path)
    command = [*rescuer.command(name)[:-1], name, "--check", "vectors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=100)

    assert done.stdout.endswith(b" examples: 0 judged wrong\n")


def test_a_wheel_holds_the_whole_kit(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    unbuilt = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in ("src", "docs/reference", "tests/vectors"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=unbuilt)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    offline = ["--no-index", "--disable-pip-version-check", "-w", "wheels", "."]
    subprocess.run([*pip, *offline], cwd=source, check=True, capture_output=True, timeout=100)
    [wheel] = (source / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        assert not [name for name in archive.namelist() if "make_vectors" in name]
    script = (
        "import sys; sys.path.insert(0, 'installed'); from pathlib import Path;"
        "import harmoni.rescue.kit as kit; kit.write_kit(Path('kit')); print(kit.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.stdout.startswith("installed") or str(tmp_path / "installed") in done.stdout
    assert content(tmp_path / "kit") == expected()
