"""Minting ids that never go backwards, whatever the clock does."""

import os
import threading
from collections.abc import Callable
from typing import Final

from harmoni.model.identifiers import PackId
from harmoni.runtime.clock import Clock

_RANDOM_BYTES: Final = 9
_SET_BACK_MS: Final = 100
"""By less than this a clock is corrected, or read too late."""


class PackIds:
    """The ids that one process mints, for packs, key blocks and index databases.

    Args:
        clock: the time.
        site_number: the site's number, 0 to 1023.
        newest_ms: tells the time of the newest id that is known: before the first id is minted,
            since the clock may have been set back while this process did not run; and when it was
            set back since the last one, for other processes may have minted later ones.
    """

    def __init__(
        self, clock: Clock, site_number: int, newest_ms: Callable[[], int] = lambda: 0
    ) -> None:
        self._clock = clock
        self._site_number = site_number
        self._newest_ms = newest_ms
        self._last_ms: int | None = None
        self._ahead_ms = 0.0
        self._lock = threading.Lock()

    def mint(self) -> PackId:
        """The next id: later than every one before it."""
        with self._lock:
            now_ms = self._clock.now_ms()
            ahead_ms = now_ms - self._clock.monotonic_s() * 1000
            if self._last_ms is None:
                self._last_ms = self._newest_ms()
            elif ahead_ms < self._ahead_ms - _SET_BACK_MS:
                self._last_ms = max(self._last_ms, self._newest_ms())
            self._ahead_ms = ahead_ms
            self._last_ms = max(now_ms, self._last_ms + 1)
            return PackId.build(
                time_ms=self._last_ms,
                site_number=self._site_number,
                random=os.urandom(_RANDOM_BYTES),
            )
