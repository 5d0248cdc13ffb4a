import os
import signal

import pytest
import structlog

from harmoni.archive import app
from harmoni.config.archive import LimitsSection
from harmoni.model.errors import ConfigurationError
from harmoni.runtime import log


def test_the_supervisor_waits_longer_than_a_worker_may_drain():
    assert app.grace_s(LimitsSection(drain_s=45.0)) == 55.0


def test_a_peer_that_was_aborted_keeps_a_thread_no_longer_than_a_silent_one():
    limits = LimitsSection()
    assert limits.artim_s == limits.handshake_s == 10.0


@pytest.fixture
def signals():
    """What the process does on signals, put back afterwards."""
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def reload():
        raise ConfigurationError("h-1.toml is not TOML")

    with app._Signals(reload, log.get()) as signals:
        yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_reload_of_a_file_with_a_mistake_is_logged_and_ends_nothing(signals):
    with structlog.testing.capture_logs() as lines:
        os.kill(os.getpid(), signal.SIGHUP)

    assert [line["event"] for line in lines] == ["not reloaded"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_process_ends_when_one_of_its_duties_does(signals):
    def fail():
        raise OSError("a fault of ours")

    signals.start_thread("keep", fail).join()

    signals.wait()
