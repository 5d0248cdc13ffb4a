"""What an operator does to an archive: beside the running role, through the same locks.

Every function takes the settings and gives plain values; the command line prints them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harmoni.archive import readiness
from harmoni.archive.site import ArchiveSite
from harmoni.audit.event import Act
from harmoni.backends.filesystem import make_root
from harmoni.config import (
    ArchiveConfig,
    HospitalConfig,
    load_hospitals,
    new_hospital,
    template,
    write_hospital,
)
from harmoni.holdings.holding import Holding
from harmoni.model.errors import AlreadyHeld, HarmoniError, NotHeld
from harmoni.model.identifiers import HospitalId
from harmoni.role import oversight
from harmoni.runtime.clock import SystemClock
from harmoni.sealing import age
from harmoni.vault import custody
from harmoni.vault.identities import Identities, create_identities
from harmoni.vault.layout import Layout

_IDENTITY_BYTES: Final = 32
_MINTED_BYTES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedHospital:
    """A new hospital; its recovery identity is in here and nowhere else."""

    id: HospitalId
    name: str
    file: Path
    recovery_recipient: str
    recovery_identity: str | None
    """The private part, if it was made here: hand it over once, offline, and forget it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedHospital:
    """A hospital whose keys came from a copy, and the site identity that they are to be for."""

    id: HospitalId
    file: Path
    recipient: str
    """The public part of this site's identity: take it to the recovery identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedHospital:
    """One line of `hospital list`."""

    id: HospitalId
    name: str
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The archive in one look."""

    site: str
    safe_copies: int
    remark: str
    free_bytes: int
    hospitals: int
    studies: int
    instances: int
    packs_open: int
    packs_sealed: int
    commitments_waiting: int
    problems: list[str]


def initialise(directory: Path, site: str) -> list[Path]:
    """Write a commented configuration, the custody key and the folders that it names.

    Raises:
        AlreadyHeld: one of the files is there; nothing is overwritten.
        ConfigurationError: the directory cannot be made.
        InvalidInput: the site is none; nothing was made.
    """
    text = template(site).encode()
    names = ("archive.toml", "custody.key")
    files = make_root(directory)
    if any(files.exists(name) for name in names):
        raise AlreadyHeld(
            f"{directory} holds an archive's {' or '.join(names)} already, and nothing is "
            "overwritten; choose another directory, or go on with `harmoni archive check`"
        )
    for folder in ("data", "hospitals", "tls"):
        files.make_directory(folder)
    files.publish(names[0], text)
    custody.create(directory / names[1])
    return [directory / name for name in names]


def add_hospital(
    config: ArchiveConfig,
    *,
    hospital_id: str | None,
    name: str,
    recovery_recipient: str | None,
) -> AddedHospital:
    """Make a hospital's keys, folders and index, then its file, which lets it in.

    Args:
        config: the archive's settings.
        hospital_id: its id; None mints an opaque one.
        name: for people.
        recovery_recipient: the public part of a recovery identity made elsewhere; None makes one.

    Raises:
        AlreadyHeld: there is such a hospital; nothing was changed.
        ConfigurationError: the name or the recipient breaks a rule; nothing was made.
    """
    archive = _archive(config)
    hospital = HospitalId(hospital_id or f"h-{os.urandom(_MINTED_BYTES).hex()}")
    if hospital in archive.hospitals:
        raise AlreadyHeld(f"hospital {hospital} exists already; choose another id")
    identity = None
    if recovery_recipient is None:
        identity = age.generate_identity(random=os.urandom(_IDENTITY_BYTES))
        recipient = identity.recipient()
    else:
        recipient = age.Recipient.from_string(recovery_recipient)
    entry = new_hospital(hospital, name=name, recovery_recipient=recipient.to_string())
    oversight.audit(archive, Act.KEY_CHANGE, hospital, "hospital added")
    try:
        Holding.create(archive.shared, hospital, recipient)
    except AlreadyHeld as error:
        raise AlreadyHeld(
            f"{config.archive.data} has keys of a hospital {hospital} that has no file in "
            f"{config.archive.hospitals}; choose another id, or restore its file"
        ) from error
    file = write_hospital(config.archive.hospitals, entry)
    return AddedHospital(
        id=hospital,
        name=name,
        file=file,
        recovery_recipient=recipient.to_string(),
        recovery_identity=None if identity is None else identity.to_string(),
    )


def adopt_hospital(config: ArchiveConfig, *, hospital_id: str, name: str) -> AdoptedHospital:
    """Make a new identity of this site for a hospital whose keys were brought from a copy.

    Until these are encrypted to it (`keys readdress`, where the recovery identity is) nothing
    opens; then the index is made from packs and keys. Called again it changes nothing.

    Args:
        config: the archive's settings.
        hospital_id: the id in the names of its folders of keys and packs.
        name: for people, if the hospital's file is lost as well.

    Raises:
        NotHeld: there are no keys of that hospital.
        ConfigurationError: the name breaks a rule; nothing was made.
    """
    archive = _archive(config)
    hospital = HospitalId(hospital_id)
    layout = Layout(hospital)
    try:
        told = archive.files.read(layout.recovery_recipient).decode("ascii", "replace")
    except NotHeld as error:
        raise NotHeld(
            f"there are no keys of hospital {hospital}: put the copy of its keys at "
            f"{archive.files.path(layout.keys)} first"
        ) from error
    recovery = age.Recipient.from_string(told.strip())
    entry = new_hospital(hospital, name=name, recovery_recipient=recovery.to_string())
    oversight.audit(archive, Act.KEY_CHANGE, hospital, "hospital adopted")
    create_identities(
        files=archive.files,
        layout=layout,
        site=config.archive.site,
        custody_key=archive.custody_key,
        recovery=recovery,
    )
    identities = Identities(archive.files, layout, config.archive.site, archive.custody_key)
    file = config.archive.hospitals / f"{hospital}.toml"
    if hospital not in archive.hospitals:
        file = write_hospital(config.archive.hospitals, entry)
    recipient = identities.current().recipient().to_string()
    return AdoptedHospital(id=hospital, file=file, recipient=recipient)


def list_hospitals(config: ArchiveConfig) -> list[ListedHospital]:
    """The registered hospitals."""
    return [
        ListedHospital(id=each.id, name=each.name, suspended=each.suspended)
        for each in load_hospitals(config.archive.hospitals).values()
    ]


def show_hospital(config: ArchiveConfig, hospital_id: str) -> HospitalConfig:
    """One hospital's settings.

    Raises:
        NotHeld: there is no such hospital.
    """
    archive = _archive(config)
    return archive.hospitals[oversight.registered(archive, hospital_id)]


def status(config: ArchiveConfig) -> Status:
    """The archive in one look."""
    archive = _archive(config)
    problems = [
        *archive.problems,
        *readiness.certificate_problems(config, archive.clock.now_ms()),
    ]
    stats, waiting = [], 0
    for hospital in archive.hospitals:
        try:
            holding = archive.holding(hospital)
            stats.append(oversight.stat_of(holding))
            waiting += holding.commitments.waiting()
            problems += oversight.key_copy_problems(holding, archive.clock.now_ms())
            problems += oversight.room_problems(holding)
        except HarmoniError as error:
            problems.append(f"{hospital}: {error}")
    problems += [
        f"{each.hospital}: {each.packs_missing} packs missing, {each.packs_damaged} packs"
        f" and {each.instances_damaged} instances damaged; repair from another copy"
        for each in stats
        if each.packs_missing or each.packs_damaged or each.instances_damaged
    ]
    safe_copies = config.archive.safe_copies
    return Status(
        site=str(config.archive.site),
        safe_copies=safe_copies,
        remark=readiness.copies_remark(safe_copies) or "one copy counts as safe: amber",
        free_bytes=archive.files.free_bytes(),
        hospitals=len(archive.hospitals),
        studies=sum(each.studies for each in stats),
        instances=sum(each.instances for each in stats),
        packs_open=sum(each.packs_open for each in stats),
        packs_sealed=sum(each.packs_sealed for each in stats),
        commitments_waiting=waiting,
        problems=problems,
    )


def _archive(config: ArchiveConfig) -> ArchiveSite:
    return ArchiveSite(config, f"cli-{os.getpid()}", SystemClock())
