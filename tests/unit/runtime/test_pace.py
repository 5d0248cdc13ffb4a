from harmoni.runtime.pace import Pace
from harmoni.testing import FakeClock


def test_what_was_taken_is_waited_for_at_the_rate():
    clock = FakeClock()
    pace = Pace(clock, 100.0)
    assert pace.wait_s() == 0

    pace.take(250)

    assert pace.wait_s() == 2.5
    clock.advance(2)
    assert pace.wait_s() == 0.5


def test_a_pause_saves_nothing_up():
    clock = FakeClock()
    pace = Pace(clock, 100.0)
    clock.advance(3600)

    pace.take(100)

    assert pace.wait_s() == 1


def test_without_a_rate_nobody_waits():
    pace = Pace(FakeClock(), None)
    pace.take(1 << 40)
    assert pace.wait_s() == 0
