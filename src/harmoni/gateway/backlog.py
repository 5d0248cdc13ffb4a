"""How much waits for the centre, and how long: the numbers that say whether a gateway is well."""

from typing import Final

from harmoni.gateway.house import House
from harmoni.index import jobs
from harmoni.runtime.metrics import Metrics

_LOOK_S: Final = 10.0


class Backlog:
    """Keeps the gauges of what waits.

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
            HarmoniError: our own index cannot be read.
        """
        now_s = self._house.clock.monotonic_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        with self._house.own.index.reader() as connection:
            depth = jobs.depth(connection)
        for state, count in depth.by_state.items():
            self._jobs.labels(state.value).set(count)
        oldest_ms = depth.oldest_ms
        age_ms = 0 if oldest_ms is None else self._house.clock.now_ms() - oldest_ms
        self._oldest.set(max(0, age_ms) / 1000)
