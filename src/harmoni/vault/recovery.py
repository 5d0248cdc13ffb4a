"""Giving a hospital's keys to another site with its recovery identity, away from any network.

All sites and their identities are lost, or one must be shut out at once. What is needed is a copy
of the folder keys/<hospital> and the identity from its shares; packs, index and custody are not.
"""

import os
from dataclasses import dataclass

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import ConfigurationError, Damaged, InvalidInput, NotHeld, StorageFailed
from harmoni.sealing import age
from harmoni.vault.layout import (
    EPOCH_SUFFIX,
    EPOCHS_FOLDER,
    INDEX_KEYS_FOLDER,
    RECOVERY_RECIPIENT,
    REPLACED_SUFFIX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readdressed:
    """What became of the age files of a folder of keys."""

    files: int
    """Encrypted to the new recipient and the recovery identity, and to nobody else."""
    failures: tuple[str, ...]
    """Those that do not open, each with the reason; take them from another copy and run again."""


def readdress(folder: Filesystem, recovery: age.Identity, recipient: age.Recipient) -> Readdressed:
    """Encrypt every epoch and index key of a copy of a hospital's keys to another site.

    File by file, each in one durable step; called again it does everything again. Key blocks stay
    as they are. The caller carries the folder to the site, and destroys the identity.

    Args:
        folder: a copy of keys/<hospital>.
        recovery: the hospital's recovery identity.
        recipient: the public part of the new site's identity for this hospital.

    Raises:
        ConfigurationError: it is no such folder.
        InvalidInput: the identity is another hospital's; nothing was changed.
    """
    try:
        told = folder.read(RECOVERY_RECIPIENT).decode("ascii", "replace").strip()
    except NotHeld as error:
        raise ConfigurationError(
            f"{folder.path('')} is no folder of keys: it has no {RECOVERY_RECIPIENT}; give a copy "
            "of keys/<hospital>"
        ) from error
    own = recovery.recipient()
    if told != own.to_string():
        raise InvalidInput(
            f"the identity is not the one of {folder.path(RECOVERY_RECIPIENT)}: shares of another "
            "hospital; compare the fingerprints"
        )
    done, failures = 0, []
    for name in _age_files(folder):
        try:
            body = age.decrypt(folder.read(name), recovery)
        except (Damaged, NotHeld, StorageFailed) as error:
            failures.append(f"{name}: {error}")
            continue
        sealed = age.encrypt(body, (recipient, own), random=os.urandom(age.RANDOM_BYTES))
        folder.replace(name, sealed)
        done += 1
    return Readdressed(files=done, failures=tuple(failures))


def _age_files(folder: Filesystem) -> list[str]:
    return [
        f"{part}/{name}"
        for part in (EPOCHS_FOLDER, INDEX_KEYS_FOLDER)
        for name in folder.names(part)
        if name.endswith((EPOCH_SUFFIX, REPLACED_SUFFIX)) and not name.startswith(".")
    ]
