"""The keeper: finishes packs, decides commitments, scrubs, completes what was cut short.

Never in a sender's way.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from harmoni.holdings.conflict import Conflict, Difference
from harmoni.holdings.holding import Holding
from harmoni.index.scrubbing import Due
from harmoni.model.errors import Busy, Damaged, HarmoniError
from harmoni.net.http import Health
from harmoni.policy.scrubbing import ScrubPolicy
from harmoni.role.node import Node
from harmoni.runtime.log import Log
from harmoni.runtime.metrics import Metrics
from harmoni.runtime.pace import Pace

TICK_S: Final = 1.0
_LATE_S: Final = 900.0
"""A round that finishes many big packs takes minutes, but not this long."""
_SECOND_MS: Final = 1000
_DAY_MS: Final = 86_400_000
_MEBIBYTE: Final = 1 << 20
_COMPARE_S: Final = 5.0
"""How long a round goes on comparing one hospital's packs for conflicts."""
_LOOK_S: Final = 3600.0
"""How often every sealed pack's file is looked for, and what must be gone: the file of an evicted
pack, the keys of an erased study, what was never published."""
_LOOKING_S: Final = 0.5
"""How long a round goes on looking for one hospital's packs, which may be a million."""
_LOOK_PACKS: Final = 500
"""How many are looked for between two looks at the clock."""


class Keeper:
    """The duties of one node over all its hospitals.

    Args:
        node: what this process has open.
        log: the process's log.
        metrics: counts what was done.
        besides: what the role does once a round besides, by name.
    """

    def __init__(
        self,
        node: Node,
        log: Log,
        metrics: Metrics,
        besides: Mapping[str, Callable[[], None]] = MappingProxyType({}),
    ) -> None:
        self._besides = besides
        self._node = node
        self._log = log
        self._ended = threading.Event()
        self._problems: dict[str, str] = {}
        self._rounds = 0
        self._kept_s = node.clock.monotonic_s()
        self._looked_s: dict[str, float] = {}
        self._looking: set[str] = set()
        self._digested_day: dict[str, int] = {}
        self._sealed = metrics.counter("packs_sealed", "Packs finished and verified.", ["hospital"])
        self._adopted = metrics.counter(
            "instances_adopted", "Whole members without a row, found when finishing.", ["hospital"]
        )
        self._conflicts = metrics.counter(
            "conflicts",
            "Instances that came again in another version, by what differs.",
            ["hospital", "difference"],
        )
        self._unerased: dict[str, str] = {}
        self._damaged = metrics.counter(
            "instances_damaged", "Acknowledged members that do not verify.", ["hospital"]
        )
        scrub = node.settings.scrub
        self._scrub_policy = ScrubPolicy(
            cycle_days=scrub.cycle_days,
            young_days=scrub.young_days,
            opened_percent=scrub.opened_percent,
        )
        self._scrub_pace = Pace(node.clock, scrub.mib_per_second * _MEBIBYTE)
        self._scrubbed = metrics.counter(
            "packs_scrubbed", "Sealed packs read again, by what was found.", ["hospital", "state"]
        )
        self._unverified = metrics.gauge(
            "oldest_verification_seconds",
            "Since the sealed pack that was not verified for longest was verified.",
            ["hospital"],
        )

    def run(self) -> None:
        """Do every duty, at once and then once a second, until `end`."""
        while True:
            self.tick()
            if self._ended.wait(TICK_S):
                return

    def end(self) -> None:
        """Stop after the present round, and let go of the event packs."""
        self._ended.set()
        for holding in self._node.opened():
            holding.events.retire()

    def tick(self) -> None:
        """One round over all hospitals. A hospital's trouble stops nobody else's round."""
        problems: dict[str, str] = {}
        # Each begins in its turn: what all share, such as the rate of scrubbing, is nobody's own.
        hospitals = deque(self._node.hospitals)
        hospitals.rotate(-self._rounds)
        self._rounds += 1
        for hospital in hospitals:
            try:
                problems |= self._keep(self._node.holding(hospital))
            except HarmoniError as error:
                problems[str(hospital)] = f"{error.code} {error}"
            except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the others
                problems[str(hospital)] = f"fault of ours: {type(error).__name__}"
                self._log.error("fault", hospital=str(hospital), exc_info=error)
        for name, duty in self._besides.items():
            try:
                duty()
            except HarmoniError as error:
                problems[name] = f"{error.code} {error}"
        for what, why in problems.items():
            if self._problems.get(what) != why:
                self._log.error("not kept", what=what, why=why)
        self._problems = problems
        self._kept_s = self._node.clock.monotonic_s()

    def health(self) -> Health:
        """Healthy when the last round was not long ago and met no problem."""
        age_s = self._node.clock.monotonic_s() - self._kept_s
        if age_s > _LATE_S:
            return Health(healthy=False, text=f"the last round ended {age_s:.0f} s ago")
        if self._problems:
            return Health(healthy=False, text=f"{len(self._problems)} problems, see the log")
        return Health(healthy=True, text="keeping")

    def _keep(self, holding: Holding) -> dict[str, str]:
        hospital = str(holding.hospital)
        holding.index.flush_if_changed()
        holding.forget_gone()
        # Before packs are finished, which may take minutes: what they hold is worth no more.
        behind = holding.key_copies.mirror()
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
        self._look_hourly(holding)
        holding.commitments.resolve_all(all_finished=not failures)
        holding.events.retire(self._node.settings.pack.quiet_s)
        self._tell(hospital, holding.conflicts.compare(_COMPARE_S))
        self._digest_conflicts(holding)
        self._scrub(holding)
        failures |= behind
        if why := self._unerased.get(hospital):
            failures["erasure"] = why
        failures |= {str(pack_id): why for pack_id, why in holding.conflicts.failures.items()}
        return {f"{hospital}/{name}": why for name, why in failures.items()}

    def _tell(self, hospital: str, conflicts: Iterable[Conflict]) -> None:
        """Raise the alarm where pixels differ; the rest waits for the digest."""
        for conflict in conflicts:
            count = len(conflict.pairs)
            self._conflicts.labels(hospital, conflict.difference.value).inc(count)
            if conflict.difference is Difference.PIXELS:
                place = conflict.pairs[0].held.location
                self._log.error(
                    "pixels differ",
                    hospital=hospital,
                    source=conflict.source,
                    instances=count,
                    pack=str(place.pack_id),
                    sequence=place.sequence,
                )

    def _digest_conflicts(self, holding: Holding) -> None:
        """Once a day, and at start, say which source sent how much of yesterday's anew."""
        hospital, today = str(holding.hospital), self._node.clock.now_ms() // _DAY_MS
        if self._digested_day.get(hospital) == today:
            return
        digest = holding.conflicts.digest((today - 1) * _DAY_MS, today * _DAY_MS)
        for source, counts in digest.items():
            self._log.info(
                "conflicts of yesterday",
                hospital=hospital,
                source=source,
                **{difference.value: counts[difference] for difference in Difference},
            )
        self._digested_day[hospital] = today

    def _look_hourly(self, holding: Holding) -> None:
        """At start and once an hour: complete what was cut short, and look for every pack."""
        hospital, now_s = str(holding.hospital), self._node.clock.monotonic_s()
        looked_s = self._looked_s.get(hospital)
        if looked_s is None or now_s - looked_s >= _LOOK_S:
            self._begin_to_look(holding, now_s)
        while hospital in self._looking:
            looked = holding.presence.check(_LOOK_PACKS)
            for pack_id in looked.missing:
                self._log.error("pack missing", hospital=hospital, pack=str(pack_id))
            for pack_id in looked.returned:
                self._log.info("pack is back", hospital=hospital, pack=str(pack_id))
            if looked.ended:
                self._looking.remove(hospital)
            if self._node.clock.monotonic_s() - now_s > _LOOKING_S:
                return

    def _begin_to_look(self, holding: Holding, now_s: float) -> None:
        """Complete what was interrupted of letting packs go; then their files are looked for."""
        hospital = str(holding.hospital)
        try:
            if destroyed := holding.eraser.reapply():
                self._log.info("erasure completed", hospital=hospital, keys=destroyed)
        except Busy:
            return  # a rotation of keys runs; the next second tries again
        except Damaged as error:
            self._unerased[hospital] = f"{error.code} {error}"
        else:
            self._unerased.pop(hospital, None)
        self._looked_s[hospital] = now_s
        self._looking.add(hospital)
        for pack_id in holding.let_go.complete():
            self._log.info("eviction completed", hospital=hospital, pack=str(pack_id))
        holding.drop_abandoned()

    def _scrub(self, holding: Holding) -> None:
        """Read the pack again that is due longest, if the rate allows it now; one a round."""
        hospital, now_ms = str(holding.hospital), self._node.clock.now_ms()
        oldest_ms = holding.scrubber.oldest_ms()
        self._unverified.labels(hospital).set(
            0 if oldest_ms is None else max(0, now_ms - oldest_ms) / _SECOND_MS
        )
        if self._scrub_pace.wait_s() > 0:
            return
        pack_id = holding.scrubber.next(
            Due(
                scrubbed_before_ms=self._scrub_policy.scrubbed_before_ms(now_ms),
                sealed_before_ms=self._scrub_policy.sealed_before_ms(now_ms),
                later_than_ms=now_ms,
            )
        )
        if pack_id is None:
            return
        verdict = holding.scrubber.verify(
            pack_id,
            opens=self._scrub_policy.opens(str(pack_id), now_ms),
            observe=self._scrub_pace.take,
        )
        self._scrubbed.labels(hospital, verdict.state.value).inc()
        if not verdict.sound:
            self._log.error(
                "pack is not what was sealed",
                hospital=hospital,
                pack=str(pack_id),
                state=verdict.state.value,
                why=verdict.why,
                instances=len(verdict.instances),
                held_elsewhere=verdict.held_elsewhere,
            )
