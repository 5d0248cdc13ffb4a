"""Time as an argument: the only place that reads the machine's clocks.

Wall time is whole milliseconds UTC since 1970 and may jump; monotonic time is seconds and never
goes back, so every deadline is reckoned in it.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a process takes its time from; `harmoni.testing.FakeClock` stands in for it."""

    def now_ms(self) -> int:
        """Give the wall time, in milliseconds UTC since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Give the monotonic time, in seconds since some fixed moment."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Give the wall time, in milliseconds UTC since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Give the monotonic time, in seconds since some fixed moment."""
        return time.monotonic()
