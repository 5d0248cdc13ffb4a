import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoni.model.errors import InvalidInput, OutOfResources
from harmoni.net.sinks import Discarding, Gathering, GuardedSink


def pour(sink, data):
    """Do to a sink what an association does."""
    rest = memoryview(data)
    while rest:
        memory = sink.reserve(len(rest))
        count = min(len(memory), len(rest))
        memory[:count] = rest[:count]
        sink.commit(count)
        rest = rest[count:]


@given(st.lists(st.binary(max_size=300)))
def test_what_is_gathered_is_what_came(chunks):
    sink = Gathering(limit_bytes=1_000_000)
    for chunk in chunks:
        pour(sink, chunk)
    assert bytes(sink.data) == b"".join(chunks)


def test_gathering_stops_at_its_limit_and_not_before():
    sink = Gathering(limit_bytes=1000)
    pour(sink, bytes(1000))
    with pytest.raises(InvalidInput, match="more than 1000 bytes"):
        pour(sink, b"x")
    assert len(sink.data) == 1000


def test_discarding_takes_everything():
    pour(Discarding(), bytes(1_000_000))


class Failing:
    def __init__(self, where):
        self.where = where

    def reserve(self, wanted):
        if self.where == "reserve":
            raise OutOfResources("no space")
        return memoryview(bytearray(wanted))

    def commit(self, _count):
        raise OutOfResources("no space")


@pytest.mark.parametrize("where", ["reserve", "commit"])
def test_a_guarded_sink_keeps_the_error_and_takes_the_rest(where):
    sink = GuardedSink(Failing(where))
    pour(sink, bytes(200_000))
    assert isinstance(sink.error, OutOfResources)


def test_a_guarded_sink_without_error_is_the_sink_itself():
    gathering = Gathering(limit_bytes=100)
    sink = GuardedSink(gathering)
    pour(sink, b"abc")
    assert (bytes(gathering.data), sink.error) == (b"abc", None)


def test_a_foreign_error_passes_the_guard():
    class Broken(Failing):
        def commit(self, _count):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pour(GuardedSink(Broken("commit")), b"x")
