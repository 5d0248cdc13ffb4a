"""What an operator does: index rebuilt, keys rotated, packs read again, damaged ones repaired.

Beside the running role, through the same locks, each act audited before it is done. Every function
gives plain values.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from harmoni.audit.event import Act
from harmoni.backends.filesystem import Filesystem
from harmoni.holdings.rebuild import RebuildReport
from harmoni.holdings.repair import Repaired, copy_below
from harmoni.holdings.scrub import Verdict
from harmoni.index.packs import PackState
from harmoni.index.scrubbing import Due
from harmoni.model.errors import ConfigurationError
from harmoni.policy.scrubbing import is_drawn
from harmoni.role.node import Node
from harmoni.role.oversight import audit, registered
from harmoni.runtime.pace import Pace
from harmoni.runtime.progress import Progress
from harmoni.vault.rotation import Rotated

_MEBIBYTE: Final = 1 << 20
_DAY_MS: Final = 86_400_000
_LEAST_WAIT_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """What a scrub found."""

    packs: int
    """Packs that were looked at."""
    opened: int
    """How many of them were decrypted and parsed besides."""
    size_bytes: int
    took_s: float
    mib_per_second: float
    damaged: int
    missing: int
    instances: int
    """Copies of instances that cannot be given back from there."""
    held_elsewhere: int
    """How many of them are held in another pack here as well."""
    findings: tuple[Verdict, ...]
    """The packs that are not what was sealed."""

    @property
    def sound(self) -> bool:
        """Whether every pack is what was sealed."""
        return not self.findings

    def figures(self) -> dict[str, object]:
        """The report without what was found pack by pack."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "findings"
        }


def rebuild(
    node: Node, hospital_id: str, progress: Progress, *, rescan: bool = False
) -> RebuildReport:
    """Make a hospital's index anew from packs and keys, beside the running role, and swap.

    Raises:
        NotHeld: there is no such hospital.
        Busy: another rebuild of this hospital runs.
    """
    hospital = registered(node, hospital_id)
    audit(node, Act.SECURITY_CONFIGURATION, hospital, "vault rebuild")
    return node.holding(hospital).rebuilder(rescan=rescan).rebuild(progress)


def rotate_keys(node: Node, hospital_id: str, progress: Progress, *, epochs: bool) -> Rotated:
    """Put new keys in the place of a hospital's old ones, beside the running role.

    Raises:
        NotHeld: there is no such hospital.
        Busy: another rotation of this hospital runs.
    """
    hospital = registered(node, hospital_id)
    what = "site identity and epoch keys" if epochs else "site identity"
    audit(node, Act.KEY_CHANGE, hospital, f"keys rotate: {what}")
    return node.holding(hospital).rotation.rotate(progress, epochs=epochs)


def scrub(
    node: Node,
    hospital_id: str,
    *,
    older_than_days: float,
    opened_percent: float,
    mib_per_second: float | None,
    progress: Progress,
    wait: Callable[[float], object],
) -> ScrubReport:
    """Read a hospital's sealed packs again, the one verified longest ago first.

    Args:
        node: the role's node.
        hospital_id: whose packs.
        older_than_days: pass over those that were verified since; 0 for none.
        opened_percent: share of the packs to decrypt and parse besides.
        mib_per_second: read no faster; None for as fast as it goes.
        progress: told how many packs are done.
        wait: waits so many seconds.

    Raises:
        NotHeld: there is no such hospital.
        OutOfResources, StorageFailed: a result could not be noted; the next run goes on there.
    """
    hospital = registered(node, hospital_id)
    audit(node, Act.SECURITY_CONFIGURATION, hospital, "vault scrub")
    clock, scrubber = node.clock, node.holding(hospital).scrubber
    pace = Pace(clock, None if mib_per_second is None else mib_per_second * _MEBIBYTE)
    now_ms = clock.now_ms()
    before_ms = now_ms - int(older_than_days * _DAY_MS)
    started_s = clock.monotonic_s()

    def observe(size_bytes: int) -> None:
        pace.take(size_bytes)
        wait_s = pace.wait_s()
        if wait_s >= _LEAST_WAIT_S:
            wait(wait_s)

    verdicts = list(
        scrubber.run(
            Due(scrubbed_before_ms=before_ms, sealed_before_ms=before_ms),
            opens=lambda pack_id: is_drawn(str(pack_id), now_ms, opened_percent),
            observe=observe,
            progress=progress,
        )
    )
    took_s = clock.monotonic_s() - started_s
    size_bytes = sum(verdict.size_bytes for verdict in verdicts)
    findings = tuple(verdict for verdict in verdicts if not verdict.sound)
    return ScrubReport(
        packs=len(verdicts),
        opened=sum(verdict.opened for verdict in verdicts),
        size_bytes=size_bytes,
        took_s=took_s,
        mib_per_second=size_bytes / _MEBIBYTE / took_s if took_s else 0.0,
        damaged=sum(verdict.state is PackState.DAMAGED for verdict in findings),
        missing=sum(verdict.state is PackState.MISSING for verdict in findings),
        instances=sum(len(verdict.instances) for verdict in findings),
        held_elsewhere=sum(verdict.held_elsewhere for verdict in findings),
        findings=findings,
    )


def repair(node: Node, hospital_id: str, source: Path) -> list[Repaired]:
    """Put whole copies in the place of a hospital's damaged and missing packs.

    Args:
        node: the role's node.
        hospital_id: whose packs.
        source: a directory laid out as a data directory: a mounted backup, another site's disk.

    Raises:
        NotHeld: there is no such hospital.
        ConfigurationError: there is no such directory, it is the node's own, or has no packs.
        Busy: another repair of this hospital runs.
        OutOfResources, StorageFailed: this disk does not take it; what was there is untouched.
    """
    hospital = registered(node, hospital_id)
    if not source.is_dir():
        raise ConfigurationError(f"there is no directory {source}: mount the copy, or correct it")
    if source.samefile(node.settings.node.data):
        raise ConfigurationError(f"{source} is the data directory itself: name another copy of it")
    if not (source / "packs").is_dir():
        raise ConfigurationError(
            f"{source} is no copy of a data directory, which has packs in it: name the directory "
            "above packs, such as BACKUP/data"
        )
    audit(node, Act.SECURITY_CONFIGURATION, hospital, "vault repair")
    holding = node.holding(hospital)
    copies = copy_below(Filesystem(source), holding.layout)
    try:
        return list(holding.repairer.run(copies, str(source)))
    finally:
        holding.events.retire()
