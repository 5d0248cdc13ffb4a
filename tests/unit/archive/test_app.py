from harmoni.archive import app
from harmoni.config.archive import LimitsSection


def test_the_supervisor_waits_longer_than_a_worker_may_drain():
    assert app.grace_s(LimitsSection(drain_s=45.0)) == 55.0


def test_a_peer_that_was_aborted_keeps_a_thread_no_longer_than_a_silent_one():
    limits = LimitsSection()
    assert limits.artim_s == limits.handshake_s == 10.0
