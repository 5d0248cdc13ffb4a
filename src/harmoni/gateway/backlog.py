"""How much waits for the centre, and how long: the numbers that say whether a gateway is well.

A job is told until when it waits. After the clock was ahead that may be a year from now, so nothing
is left to wait for longer than anything ever has to.
"""

from typing import Final

from harmoni.gateway.house import CENTRE, House
from harmoni.index import jobs
from harmoni.runtime.metrics import Metrics

_LOOK_S: Final = 10.0
_LONGEST_MS: Final = 1_800_000
"""Twice the longest pause of a job that failed, or is asked about again (policy/delivery)."""


class Backlog:
    """Keeps the gauges of what waits, and lets nothing wait too long.

    Args:
        house: the gateway.
        metrics: shows them.
    """

    def __init__(self, house: House, metrics: Metrics) -> None:
        self._house = house
        self._looked_s = house.clock.monotonic_s() - _LOOK_S
        self._jobs = metrics.gauge("jobs", "Instances on their way to the centre.", ["state"])
        self._oldest = metrics.gauge(
            "oldest_waits_seconds", "Age of the oldest instance that is not committed.", []
        )

    def look(self) -> None:
        """Look again, if the last look was a while ago.

        Raises:
            HarmoniError: our own index cannot be read, or written.
        """
        now_s = self._house.clock.monotonic_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        index, now_ms = self._house.own.index, self._house.clock.now_ms()
        with index.reader() as connection:
            depth = jobs.depth(connection)
        longest_ms = _LONGEST_MS + int(self._house.config.gateway.commit_after_s * 1000)
        if depth.latest_ms is not None and depth.latest_ms > now_ms + longest_ms:
            with index.write() as connection:
                jobs.bring_forward(connection, CENTRE, now_ms=now_ms, longest_ms=longest_ms)
        for state, count in depth.by_state.items():
            self._jobs.labels(state.value).set(count)
        oldest_ms = depth.oldest_ms
        age_ms = 0 if oldest_ms is None else now_ms - oldest_ms
        self._oldest.set(max(0, age_ms) / 1000)
