"""The DICOM files that pydicom and pydicom-data bring: odd, old and from many vendors."""

import importlib.util
from functools import cache
from pathlib import Path


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def vendor_files() -> tuple[Path, ...]:
    """Every file with `DICM` after its preamble, or with a name that claims to be DICOM."""
    folders = [_package("pydicom") / "data", _package("data_store")]
    return tuple(
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.suffix == ".dcm" or _has_magic(path))
    )


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
