"""What an operator does to a gateway: beside the running role, through the same locks.

The command line prints what these functions give.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harmoni.audit.event import Act
from harmoni.backends.filesystem import make_root
from harmoni.config import load_gateway, new_gateway, render
from harmoni.gateway import readiness
from harmoni.gateway.house import House
from harmoni.holdings.holding import Holding
from harmoni.holdings.let_go import Evicted
from harmoni.index import jobs
from harmoni.index.jobs import JobState, Parked
from harmoni.model.errors import AlreadyHeld
from harmoni.model.identifiers import HospitalId
from harmoni.role import oversight
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.progress import Progress
from harmoni.sealing import age, document
from harmoni.vault import custody

MOST_PARKED: Final = 1000
_FILE: Final = "gateway.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The gateway in one look."""

    hospital: str
    ae_title: str
    free_bytes: int
    studies: int
    instances: int
    packs_open: int
    packs_sealed: int
    centre: str
    """Whether the centre can be reached, since when, and why not."""
    waiting: int
    """Instances that the centre has not committed itself to yet."""
    oldest_waits_s: int
    """For how long the oldest of them has waited; 0 for none."""
    parked: int
    commitments_waiting: int
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What is on its way to the centre."""

    centre: str
    by_state: dict[str, int]
    oldest_waits_s: int
    parked: list[Parked]


def initialise(
    directory: Path, *, hospital_id: str, ae_title: str, site: str, recovery_recipient: str
) -> list[Path]:
    """Write a commented configuration, and make the gateway's keys, folders and empty index.

    Args:
        directory: where to; made if need be.
        hospital_id: the hospital's id, as the centre registered it.
        ae_title: what the house calls the gateway.
        site: the gateway's own name among places, written into its packs.
        recovery_recipient: the public part of the hospital's recovery identity.

    Raises:
        AlreadyHeld: one of the files is there; nothing is overwritten.
        ConfigurationError, InvalidInput: a value breaks its rule; nothing was made.
    """
    recipient = age.Recipient.from_string(recovery_recipient)
    hospital = HospitalId(hospital_id)
    text = render(new_gateway(hospital, ae_title=ae_title, site=site)).encode()
    files = make_root(directory)
    names = (_FILE, "custody.key")
    if any(files.exists(name) for name in names):
        raise AlreadyHeld(
            f"{directory} holds a gateway's {' or '.join(names)} already, and nothing is "
            "overwritten; choose another directory, or go on with `harmoni gateway check`"
        )
    for folder in ("data", "tls"):
        files.make_directory(folder)
    custody.create(directory / names[1])
    files.publish(names[0], text)
    path = directory / _FILE
    house = House(load_gateway(path), path, "init", SystemClock())
    Holding.create(house.shared, hospital, recipient)
    return [directory / name for name in names]


def evict(house: House, study_uid: str | None, progress: Progress) -> Iterator[Evicted]:
    """Let go of a study, or of every study that is safe elsewhere; audited before it is done.

    Age and space do not count; commitment, open jobs and waiting commitments do. The files that an
    interrupted eviction left go first. Progress counts studies.

    Raises:
        NotHeld: there is no such study.
    """
    reason = "gateway evict"
    oversight.audit(house, Act.RESTRICTED_FUNCTION, house.hospital, reason, study_uid or "")
    let_go = house.own.let_go
    let_go.complete()
    studies = let_go.studies() if study_uid is None else [study_uid]
    for done, study in enumerate(studies):
        progress(done, len(studies))
        yield let_go.evict(study)
    progress(len(studies), len(studies))
    house.own.events.retire()


def queue(house: House) -> Queue:
    """What is on its way to the centre, and what is parked."""
    with house.own.index.reader() as connection:
        depth = jobs.depth(connection)
        parked = jobs.parked(connection, MOST_PARKED)
    return Queue(
        centre=_centre(house),
        by_state={state.value: count for state, count in depth.by_state.items()},
        oldest_waits_s=_age_s(house, depth.oldest_ms),
        parked=parked,
    )


def retry(house: House) -> int:
    """Let everything that is parked or waits for its next try go at once; how many."""
    oversight.audit(house, Act.RESTRICTED_FUNCTION, house.hospital, "queue retry")
    with house.own.index.write(durable=True) as connection:
        return jobs.retry(connection, house.clock.now_ms())


def status(house: House) -> Status:
    """The gateway in one look."""
    config = house.config
    problems = readiness.certificate_problems(config, house.clock.now_ms())
    holding = house.own
    problems += oversight.key_copy_problems(holding, house.clock.now_ms())
    problems += oversight.room_problems(holding)
    stat = oversight.stat_of(holding)
    with holding.index.reader() as connection:
        depth = jobs.depth(connection)
    state = house.centre_state()
    if state is not None and not state.up:
        problems.append(_centre(house))
    parked = depth.by_state[JobState.PARKED]
    if parked:
        problems.append(f"{parked} instances are parked: see `harmoni queue list`")
    if stat.packs_missing or stat.packs_damaged or stat.instances_damaged:
        problems.append(
            f"{stat.packs_missing} packs missing, {stat.packs_damaged} packs and "
            f"{stat.instances_damaged} instances damaged"
        )
    return Status(
        hospital=str(house.hospital),
        ae_title=config.gateway.ae_title,
        free_bytes=house.files.free_bytes(),
        studies=stat.studies,
        instances=stat.instances,
        packs_open=stat.packs_open,
        packs_sealed=stat.packs_sealed,
        centre=_centre(house),
        waiting=sum(depth.by_state.values()),
        oldest_waits_s=_age_s(house, depth.oldest_ms),
        parked=parked,
        commitments_waiting=holding.commitments.waiting(),
        problems=problems,
    )


def _centre(house: House) -> str:
    """How the way to the centre is, as the forwarder found it last."""
    state = house.centre_state()
    if state is None:
        return "not tried yet: the gateway was never served"
    since = document.time_text(state.since_ms)
    return f"up since {since}" if state.up else f"{state.why} (since {since})"


def _age_s(house: House, since_ms: int | None) -> int:
    return 0 if since_ms is None else max(0, (house.clock.now_ms() - since_ms) // 1000)
