"""Python runs this at its start where this folder is on the path: a test sets the program's clock.

The file that HARMONI_TEST_CLOCK names holds by how many milliseconds the wall time is wrong. The
machine's clock stays as it is, and so does the clock of TLS.
"""

import os

from harmoni.runtime.clock import SystemClock

_RIGHT_MS = SystemClock.now_ms
_FILE = os.open(os.environ["HARMONI_TEST_CLOCK"], os.O_RDONLY | os.O_CLOEXEC)


def _now_ms(clock: SystemClock) -> int:
    return _RIGHT_MS(clock) + int(os.pread(_FILE, 32, 0))


SystemClock.now_ms = _now_ms
