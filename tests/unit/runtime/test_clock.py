from datetime import UTC, datetime

from harmoni.runtime.clock import SystemClock


def test_wall_time_is_milliseconds_since_1970():
    before = datetime.now(tz=UTC).timestamp() * 1000
    now_ms = SystemClock().now_ms()
    after = datetime.now(tz=UTC).timestamp() * 1000
    assert before - 1 <= now_ms <= after + 1


def test_monotonic_time_never_goes_back():
    clock = SystemClock()
    readings = [clock.monotonic_s() for _ in range(100)]
    assert readings == sorted(readings)
