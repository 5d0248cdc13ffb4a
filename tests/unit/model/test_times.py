import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import InvalidInput
from harmoni.model.times import milliseconds, month, rfc3339


@given(st.integers(0, 4_000_000_000_000))
def test_a_written_time_reads_back_to_the_millisecond(time_ms):
    assert milliseconds(rfc3339(time_ms)) == time_ms


def test_the_written_form_is_rfc_3339_in_utc():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert milliseconds("1970-01-01T02:00:01+02:00") == 1000
    assert month(1_795_492_205_123) == "2026-11"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24T03:50:05"])
def test_what_is_no_time_with_an_offset_is_refused(text):
    with pytest.raises(InvalidInput):
        milliseconds(text)
