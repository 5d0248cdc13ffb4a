"""Custody by a file: 32 random bytes that wrap every private key of this machine.

The file lies outside the data directory and never in one backup set with it: together they open
everything.
"""

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError, NotHeld

KEY_BYTES: Final = 32
_OTHERS: Final = 0o077
_AUDIT_INFO: Final = b"harmoni audit spool"


def create(path: Path) -> None:
    """Make a custody key; refuse to touch one that exists.

    Raises:
        AlreadyHeld: there is a file of that name.
    """
    Filesystem(path.parent).publish(path.name, os.urandom(KEY_BYTES))


def load(path: Path) -> bytes:
    """Read a custody key.

    Raises:
        ConfigurationError: it is missing, has another length, or others may read it.
    """
    try:
        key = Filesystem(path.parent).read(path.name)
    except NotHeld as error:
        raise ConfigurationError(
            f"there is no custody key at {path}: set custody.key_file to the right file"
        ) from error
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{path} has {len(key)} bytes, a custody key has {KEY_BYTES}")
    if path.stat().st_mode & _OTHERS:
        raise ConfigurationError(f"{path} can be read by others: chmod 600 {path.name}")
    return key


def audit_key(custody_key: bytes) -> bytes:
    """The key of this machine's audit spools, derived so that no other secret must be kept."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_AUDIT_INFO).derive(
        custody_key
    )
