from harmoni.testing import FakeClock
from harmoni.vault.pack_ids import PackIds


def test_ids_are_later_than_every_one_before_though_the_clock_goes_back():
    clock = FakeClock()
    ids = PackIds(clock, 1)
    first = ids.mint()
    clock.set_back(3600)
    second = ids.mint()

    assert first < second
    assert second.time_ms == first.time_ms + 1


def test_ids_of_two_processes_are_in_order_after_the_clock_went_back():
    clock, made = FakeClock(), []
    first, second = (PackIds(clock, 1, lambda: max(made, default=0)) for _ in range(2))
    second.mint()
    clock.advance(60)
    made.append(first.mint().time_ms)
    clock.set_back(3600)

    assert second.mint().time_ms == made[-1] + 1


def test_ids_are_later_than_the_newest_that_is_known_after_a_restart():
    clock = FakeClock()
    known = clock.now_ms() + 5000

    assert PackIds(clock, 1, lambda: known).mint().time_ms == known + 1
