"""Stand-ins for what a test must hold in its own hand.

Only what the real thing cannot do for a test lives here; everything else is tested for real.
"""

import threading
from typing import Final

# 2026-11-01T00:00:00Z: a fixed, plausible now, so that failures read the same on every run.
FAKE_NOW_MS: Final = 1_793_491_200_000


class FakeClock:
    """A clock that moves when it is told to (`runtime.clock.Clock`); safe to share by threads."""

    def __init__(self, *, now_ms: int = FAKE_NOW_MS, monotonic_s: float = 1000.0) -> None:
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        """Give the wall time, in milliseconds UTC since 1970."""
        with self._lock:
            return self._now_ms

    def monotonic_s(self) -> float:
        """Give the monotonic time, in seconds."""
        with self._lock:
            return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks go on by so many seconds."""
        with self._lock:
            self._now_ms += round(seconds * 1000)
            self._monotonic_s += seconds

    def set_ahead(self, seconds: float) -> None:
        """Let the wall clock jump ahead; monotonic time stays."""
        self.set_back(-seconds)

    def set_back(self, seconds: float) -> None:
        """Let the wall clock jump back, as a wrong time server makes it; monotonic time stays."""
        with self._lock:
            self._now_ms -= round(seconds * 1000)
