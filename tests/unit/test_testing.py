from harmoni.testing import FakeClock


def test_advancing_moves_both_clocks_alike():
    clock = FakeClock(now_ms=5_000, monotonic_s=7.0)
    clock.advance(1.5)
    assert (clock.now_ms(), clock.monotonic_s()) == (6_500, 8.5)


def test_setting_back_moves_the_wall_clock_only():
    clock = FakeClock(now_ms=5_000, monotonic_s=7.0)
    clock.set_back(2)
    assert (clock.now_ms(), clock.monotonic_s()) == (3_000, 7.0)
