"""Every system call of the store failing in turn: a defined answer each time, and nothing is lost.

The N-th call below `backends.filesystem` fails, for every N, once for each way to fail: no space,
a failing disk, and a write that stops half way. Flushes fail too. Afterwards the same process must
be able to go on, and another one must find everything that was acknowledged.
"""

import pytest

import house as houses
from failing_calls import FAULTS, Faulty
from harmoni.backends import filesystem
from harmoni.holdings import record
from hospital_day import SMALL_BYTES, Story

PARTS = 4


def run(tmp_path, monkeypatch, fault, fails_at):
    """One day with one fault, the evening in the same process, the next morning in another."""
    faulty = Faulty(fault)
    monkeypatch.setattr(record, "SMALL_BYTES", SMALL_BYTES)
    (tmp_path / "data").mkdir()
    story = Story(houses.make_house(tmp_path / "data"))
    with monkeypatch.context() as patched:
        patched.setattr(filesystem, "os", faulty)
        faulty.fails_at = fails_at
        story.day()
        faulty.fails_at = 0
        story.evening()
    story.morning()
    return faulty, story


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", list(FAULTS))
def test_whichever_call_fails_nothing_acknowledged_is_lost_and_work_goes_on(
    fault, part, tmp_path_factory, monkeypatch
):
    quiet, _ = run(tmp_path_factory.mktemp("quiet"), monkeypatch, fault, 0)
    assert quiet.failed == ""
    met, refused = set(), 0
    for fails_at in range(1 + part, quiet.calls + 1, PARTS):
        path = tmp_path_factory.mktemp("run")
        try:
            faulty, story = run(path, monkeypatch, fault, fails_at)
        except BaseException as error:
            error.add_note(f"{fault}: call {fails_at} of the day")
            raise
        met.add(faulty.failed)
        refused += bool(story.refused)
    assert met >= {"fsync", "open", "pwritev", "preadv"}
    assert refused
    print(  # noqa: T201 - the measured figure
        f"{fault}, part {part}: every {PARTS}th of {quiet.calls} calls failed once; a person or a "
        f"sender was told so {refused} times"
    )
