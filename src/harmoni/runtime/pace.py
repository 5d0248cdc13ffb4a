"""A mean rate that is kept: what was taken too fast is waited for afterwards."""

from harmoni.runtime.clock import Clock


class Pace:
    """Counts what was taken, and says how long to wait before more is.

    Nothing is saved up: after a pause the rate is the same as before.

    Args:
        clock: the time.
        rate_per_s: units (bytes, here) a second; None for as fast as it goes.
    """

    def __init__(self, clock: Clock, rate_per_s: float | None) -> None:
        self._clock = clock
        self._rate_per_s = rate_per_s
        self._free_at_s = clock.monotonic_s()

    def take(self, count: int) -> None:
        """Note that so many units were taken."""
        if self._rate_per_s is not None:
            start_s = max(self._free_at_s, self._clock.monotonic_s())
            self._free_at_s = start_s + count / self._rate_per_s

    def wait_s(self) -> float:
        """How long to wait before the next is taken, in seconds; 0 for not at all."""
        return max(0.0, self._free_at_s - self._clock.monotonic_s())
