import io
import json

import pytest
import structlog

from harmoni.model.errors import Damaged
from harmoni.runtime import log


@pytest.fixture(autouse=True)
def forget_configuration():
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_service_logs_json_with_its_context():
    stream = io.StringIO()
    log.configure(stream=stream)
    log.get(role="archive", worker=3).info("association ended", instances=106)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "association ended",
        "level": "info",
        "role": "archive",
        "worker": 3,
        "instances": 106,
    }


def test_a_line_is_one_write():
    """Several processes share one stdout; also where it is not buffered, lines stay whole."""

    class Counted(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            return super().write(text)

    stream = Counted()
    log.configure(stream=stream)
    log.get().info("association ended")
    assert stream.writes == len(lines(stream)) == 1


def test_a_terminal_gets_a_readable_line():
    stream = Terminal()
    log.configure(stream=stream)
    log.get().warning("certificate ends soon")
    assert "certificate ends soon" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_is_below_the_level_is_dropped():
    stream = io.StringIO()
    log.configure(level="warning", stream=stream)
    log.get().info("nothing of importance")
    assert stream.getvalue() == ""


def fail(text):
    patient_name = "ΠΑΠΑΔΟΠΟΥΛΟΣ^ΓΕΩΡΓΙΟΣ"
    raise ValueError(f"{text}: {patient_name}")


def test_a_foreign_exception_shows_where_it_was_but_not_what_it_held():
    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        fail("no date")
    except ValueError:
        log.get().exception("association failed")
    (line,) = lines(stream)
    assert line["exception"]["type"] == "ValueError"
    assert line["exception"]["frames"][-1].endswith(" fail")
    assert "ΠΑΠΑΔΟΠΟΥΛΟΣ" not in stream.getvalue()
    assert "no date" not in stream.getvalue()


def test_an_error_of_ours_keeps_its_text_and_its_cause():
    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        try:
            fail("inner")
        except ValueError as error:
            raise Damaged("segment 7 does not authenticate") from error
    except Damaged as error:
        log.get().error("retrieval failed", exc_info=error)
    (line,) = lines(stream)
    assert line["exception"]["text"] == "segment 7 does not authenticate"
    assert line["exception"]["cause"]["type"] == "ValueError"


def test_a_system_error_keeps_its_number():
    assert log.describe(OSError(28, "No space left on device"))["errno"] == 28
