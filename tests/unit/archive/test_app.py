import os
import signal

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


def test_a_reload_of_a_file_with_a_mistake_is_logged_and_ends_nothing():
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def reload():
        raise ConfigurationError("h-1.toml is not TOML")

    try:
        with structlog.testing.capture_logs() as lines, app._Signals(reload, log.get()):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert [line["event"] for line in lines] == ["not reloaded"]
