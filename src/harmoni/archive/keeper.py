"""The keeper: finishes packs, flushes the index, decides commitments. Never in a sender's way."""

import threading
from typing import Final

from harmoni.archive.site import ArchiveSite
from harmoni.holdings.holding import Holding
from harmoni.model.errors import HarmoniError
from harmoni.net.http import Health
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics

TICK_S: Final = 1.0


class Keeper:
    """The duties of one node over all its hospitals.

    Args:
        archive: this process's view of the archive.
        log: the process's log.
        metrics: counts what was done.
    """

    def __init__(self, archive: ArchiveSite, log: Log, metrics: Metrics) -> None:
        self._archive = archive
        self._log = log
        self._ended = threading.Event()
        self._problems: dict[str, str] = {}
        self._sealed = metrics.counter("packs_sealed", "Packs finished and verified.", ["hospital"])
        self._adopted = metrics.counter(
            "instances_adopted", "Whole members without a row, found when finishing.", ["hospital"]
        )
        self._damaged = metrics.counter(
            "instances_damaged", "Acknowledged members that do not verify.", ["hospital"]
        )

    def run(self) -> None:
        """Do every duty once a second until `end`."""
        while not self._ended.wait(TICK_S):
            self.tick()

    def end(self) -> None:
        """Stop after the present round, and let go of the event packs."""
        self._ended.set()
        for holding in self._archive.opened():
            holding.events.retire()

    def tick(self) -> None:
        """One round over all hospitals. A hospital's trouble stops nobody else's round."""
        problems: dict[str, str] = {}
        for hospital in self._archive.hospitals:
            try:
                holding = self._archive.holding(hospital)
                problems |= self._keep(holding)
            except HarmoniError as error:
                problems[str(hospital)] = f"{error.code} {error}"
        for what, why in problems.items():
            if self._problems.get(what) != why:
                self._log.error("not kept", what=what, why=why)
        self._problems = problems

    def health(self) -> Health:
        """Healthy when the last round met no problem."""
        if self._problems:
            return Health(healthy=False, text=f"{len(self._problems)} problems, see the log")
        return Health(healthy=True, text="keeping")

    def _keep(self, holding: Holding) -> dict[str, str]:
        hospital = str(holding.hospital)
        holding.index.flush_if_changed()
        finished, failures = holding.sealer.finish_free()
        for each in finished:
            if each.sealed is not None:
                self._sealed.labels(hospital).inc()
            self._adopted.labels(hospital).inc(each.adopted)
            self._damaged.labels(hospital).inc(len(each.damaged))
            log = self._log.error if each.damaged else self._log.info
            log(
                "pack finished",
                hospital=hospital,
                pack=str(each.pack_id),
                size_bytes=0 if each.sealed is None else each.sealed.size_bytes,
                adopted=each.adopted,
                cut_bytes=each.cut_bytes,
                damaged=len(each.damaged),
            )
        holding.commitments.resolve_all()
        holding.events.retire(self._archive.config.pack.quiet_s)
        return {f"{hospital}/{name}": why for name, why in failures.items()}
