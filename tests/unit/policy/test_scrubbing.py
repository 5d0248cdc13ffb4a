from harmoni.policy.scrubbing import ScrubPolicy

DAY_MS = 86_400_000
POLICY = ScrubPolicy(cycle_days=90, young_days=7, opened_percent=1)


def test_what_is_due_lies_a_cycle_back_and_what_is_young_a_week():
    assert POLICY.scrubbed_before_ms(100 * DAY_MS) == 10 * DAY_MS
    assert POLICY.sealed_before_ms(100 * DAY_MS) == 93 * DAY_MS


def test_three_of_a_hundred_packs_that_are_read_are_opened_for_one_percent_a_month():
    opened = sum(POLICY.opens(f"pack {number}", 0) for number in range(20_000))
    assert 500 < opened < 700


def test_the_draw_differs_from_day_to_day():
    drawn = [
        {number for number in range(2_000) if POLICY.opens(f"pack {number}", day * DAY_MS)}
        for day in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_all_or_none_may_be_opened():
    everything = ScrubPolicy(cycle_days=90, young_days=7, opened_percent=100)
    nothing = ScrubPolicy(cycle_days=90, young_days=7, opened_percent=0)
    assert all(everything.opens(f"pack {number}", 0) for number in range(100))
    assert not any(nothing.opens(f"pack {number}", 0) for number in range(100))
