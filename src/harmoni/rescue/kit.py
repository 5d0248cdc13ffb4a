"""The rescue kit: what opens packs without HARMONI, to be kept beside the data."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from harmoni.backends.filesystem import Filesystem, make_root
from harmoni.model.errors import AlreadyHeld

_PARTS: Final = (
    "README",
    "rescue.py",
    "rescue.mjs",
    "pack-format.md",
    "keys-format.md",
    "vectors",
)


def write_kit(directory: Path) -> list[Path]:
    """Write both programs, the pages of the formats and the vectors, each file whole and durable.

    A kit that is there, whole or cut short, of this version or another, is renewed: a file of it
    that differs is replaced.

    Args:
        directory: a new or empty directory, or a kit.

    Returns:
        Every file of the kit, README first.

    Raises:
        AlreadyHeld: the directory holds something that is no part of a kit; nothing was written.
        ConfigurationError: it cannot be made.
        OutOfResources, StorageFailed: the kit is not whole; write it again.
    """
    store = make_root(directory)
    strange = sorted(set(store.names("")) - set(_PARTS))
    if strange:
        raise AlreadyHeld(
            f"{directory} holds {strange[0]}, which is no part of a rescue kit; name a directory"
            " that is new or empty, or a kit to renew"
        )
    source = files(__package__)
    return [path for part in _PARTS for path in _write(store, source.joinpath(part), part)]


def _write(store: Filesystem, source: Traversable, name: str) -> list[Path]:
    """Write one file, or all files of a folder."""
    if source.is_dir():
        store.make_directory(name)
        inner = sorted(source.iterdir(), key=lambda entry: entry.name)
        return [path for entry in inner for path in _write(store, entry, f"{name}/{entry.name}")]
    data = source.read_bytes()
    if not store.exists(name) or store.read(name) != data:
        store.replace(name, data)
    return [store.path(name)]
