"""The running of children is tested with real ones, in tests/acceptance/test_supervise.py."""

from harmoni.runtime.supervise import Backoff


def test_a_child_that_keeps_dying_waits_ever_longer_up_to_30_seconds():
    backoff = Backoff()
    assert [backoff.delay_s(1.0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_child_that_ran_for_a_minute_starts_again_at_once():
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(1.0)
    assert [backoff.delay_s(60.0), backoff.delay_s(1.0)] == [0, 1]


def test_dying_for_years_does_not_overflow():
    backoff = Backoff()
    assert {backoff.delay_s(1.0) for _ in range(5000)} == {0, 1, 2, 4, 8, 16, 30}
