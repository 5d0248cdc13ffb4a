"""What an operator does to an archive: beside the running role, through the same locks.

Every function takes the settings and gives plain values; the command line prints them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harmoni.archive import readiness
from harmoni.archive.site import ArchiveSite
from harmoni.archive.trail import AuditDoor
from harmoni.audit.event import Act, AuditEvent, Participant
from harmoni.backends.filesystem import make_root
from harmoni.config import (
    ArchiveConfig,
    HospitalConfig,
    load_hospitals,
    new_hospital,
    template,
    write_hospital,
)
from harmoni.dicom import identifier
from harmoni.dicom.identifier import QueryLevel
from harmoni.holdings.holding import Holding
from harmoni.holdings.rebuild import RebuildReport
from harmoni.index import packs, totals
from harmoni.index.packs import PackState
from harmoni.model.errors import AlreadyHeld, ConfigurationError, HarmoniError, NotHeld
from harmoni.model.header import STUDY_INSTANCE_UID
from harmoni.model.identifiers import HospitalId
from harmoni.runtime.clock import SystemClock
from harmoni.sealing import age
from harmoni.vault import custody

Progress = Callable[[int, int], None]

_IDENTITY_BYTES: Final = 32
_MINTED_BYTES: Final = 5
_STUDY_TAGS: Final = {
    "PatientID": 0x0010_0020,
    "PatientName": 0x0010_0010,
    "StudyDate": 0x0008_0020,
    "AccessionNumber": 0x0008_0050,
    "ModalitiesInStudy": 0x0008_0061,
    "StudyDescription": 0x0008_1030,
    "NumberOfStudyRelatedSeries": 0x0020_1206,
    "NumberOfStudyRelatedInstances": 0x0020_1208,
    "StudyInstanceUID": STUDY_INSTANCE_UID,
}


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
class ListedHospital:
    """One line of `hospital list`."""

    id: HospitalId
    name: str
    suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HospitalStat:
    """What one hospital holds, as its index says."""

    hospital: HospitalId
    studies: int
    instances: int
    packs_open: int
    packs_sealed: int
    packs_missing: int
    packs_damaged: int
    sealed_bytes: int
    instances_damaged: int


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
    _audit(archive, Act.KEY_CHANGE, hospital, "hospital added")
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
    return _registered(_archive(config), hospital_id)


def find_studies(
    config: ArchiveConfig, hospital_id: str, filters: Mapping[str, str]
) -> list[dict[str, str]]:
    """Studies of one hospital by what a C-FIND could ask for; audited before it is answered.

    Args:
        config: the archive's settings.
        hospital_id: whose.
        filters: keyword to value, as DICOM writes it, such as {"PatientName": "PAP*"}.
    """
    archive = _archive(config)
    hospital = _registered(archive, hospital_id).id
    _audit(archive, Act.QUERY, hospital, "study find")
    query = identifier.compose_query(
        "STUDY",
        QueryLevel.STUDY,
        {tag: filters.get(keyword, "") for keyword, tag in _STUDY_TAGS.items()},
    )
    return [
        {keyword: values.get(tag, "") for keyword, tag in _STUDY_TAGS.items()}
        for values in archive.holding(hospital).find(query)
    ]


def show_study(config: ArchiveConfig, hospital_id: str, study_uid: str) -> dict[str, object]:
    """One study: what it is, and where and how safe its instances are; audited.

    Raises:
        NotHeld: the hospital holds no such study.
    """
    archive = _archive(config)
    hospital = _registered(archive, hospital_id).id
    _audit(archive, Act.RESTRICTED_FUNCTION, hospital, "study show", study_uid)
    holding = archive.holding(hospital)
    query = identifier.compose_query(
        "STUDY",
        QueryLevel.STUDY,
        dict.fromkeys(_STUDY_TAGS.values(), "") | {STUDY_INSTANCE_UID: study_uid},
    )
    found = list(holding.find(query))
    if not found:
        raise NotHeld(f"hospital {hospital} holds no study {study_uid}")
    held = holding.plan(query)
    by_pack: dict[str, int] = {}
    for each in held:
        key = f"{each.location.pack_id} ({each.pack_state.value})"
        by_pack[key] = by_pack.get(key, 0) + 1
    facts: dict[str, object] = {
        keyword: found[0].get(tag, "") for keyword, tag in _STUDY_TAGS.items()
    }
    return facts | {
        "instances": len(held),
        "bytes": sum(each.identity.size_bytes for each in held),
        "sealed": all(each.pack_state is PackState.SEALED for each in held),
        "damaged": sum(each.damaged for each in held),
        "packs": by_pack,
    }


def stat(config: ArchiveConfig, hospital_id: str | None) -> list[HospitalStat]:
    """Packs, instances and bytes of one hospital, or of all."""
    archive = _archive(config)
    wanted = (
        list(archive.hospitals) if hospital_id is None else [_registered(archive, hospital_id).id]
    )
    return [_stat(archive.holding(hospital)) for hospital in wanted]


def rebuild(config: ArchiveConfig, hospital_id: str, progress: Progress) -> RebuildReport:
    """Make a hospital's index anew from packs and keys, beside the running role, and swap."""
    archive = _archive(config)
    hospital = _registered(archive, hospital_id).id
    _audit(archive, Act.SECURITY_CONFIGURATION, hospital, "vault rebuild")
    return archive.holding(hospital).rebuilder().rebuild(progress)


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
            stats.append(_stat(holding))
            waiting += holding.commitments.waiting()
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


def _stat(holding: Holding) -> HospitalStat:
    with holding.index.reader() as connection:
        counts = totals.totals(connection)
        by_state = {state: packs.packs_in(connection, state) for state in PackState}
    return HospitalStat(
        hospital=holding.hospital,
        studies=counts.studies,
        instances=counts.instances,
        packs_open=len(by_state[PackState.OPEN]),
        packs_sealed=len(by_state[PackState.SEALED]),
        packs_missing=len(by_state[PackState.MISSING]),
        packs_damaged=len(by_state[PackState.DAMAGED]),
        sealed_bytes=sum(
            each.sealed.size_bytes for each in by_state[PackState.SEALED] if each.sealed is not None
        ),
        instances_damaged=counts.damaged,
    )


def _archive(config: ArchiveConfig) -> ArchiveSite:
    return ArchiveSite(config, f"cli-{os.getpid()}", SystemClock())


def _registered(archive: ArchiveSite, hospital_id: str) -> HospitalConfig:
    hospital = archive.hospitals.get(HospitalId(hospital_id))
    if hospital is None:
        if archive.problems:
            raise ConfigurationError(" ".join(archive.problems))
        raise NotHeld(f"no hospital {hospital_id} is registered; see `harmoni hospital list`")
    return hospital


def _audit(
    archive: ArchiveSite, act: Act, hospital: HospitalId, reason: str, study_uid: str = ""
) -> None:
    """Write an operator's act to the audit door, durably, before it is done."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
    with AuditDoor(archive.open_spool, archive.clock) as door:
        door.write(
            [
                AuditEvent(
                    act=act,
                    at_ms=door.now_ms(),
                    who=Participant(hospital=str(hospital), user=user),
                    reason=reason,
                    study_uids=(study_uid,) if study_uid else (),
                )
            ]
        )
