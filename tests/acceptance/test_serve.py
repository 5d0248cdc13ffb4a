"""The running role stays up whatever somebody does to its files, and runs once."""

import os
import signal

import psutil
import pytest

import centre
from harmoni import config
from harmoni.demo import system
from harmoni.net.client import RejectedForGood
from harmoni.runtime.clock import SystemClock


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with centre.running(tmp_path_factory.mktemp("serve"), hospitals=2) as running:
        yield running


def logged(running, words):
    return lambda: words in running.log


def test_a_second_role_on_the_same_data_is_refused_with_a_sentence(running):
    done = running.harmoni("archive", "serve", "--config", str(running.centre.config_path))
    assert done.returncode == 3
    assert "another `harmoni archive serve` runs on" in done.stderr
    assert done.stderr.count("\n") == 1
    assert running.echo(running.houses[0]) == 0


def test_a_hospital_that_is_added_is_let_in_without_a_signal(running):
    grown = system.build(
        running.centre.directory,
        hospitals=3,
        seal_after_s=centre.SEAL_AFTER_S,
        settings=(),
        clock=SystemClock(),
    )
    new = grown.houses[2]

    def is_let_in():
        try:
            return running.echo(new) == 0
        except RejectedForGood:  # as long as its file is not known
            return False

    centre.until(is_let_in, "the new hospital is let in")


def test_a_broken_file_ends_neither_role_nor_hospital_nor_a_worker_that_starts(running):
    path = running.centre.archive.archive.hospitals / "hospital-b.toml"
    text = path.read_text()
    first, second = running.houses[:2]
    try:
        path.write_text("[")
        os.kill(running.role.pids()[0], signal.SIGHUP)
        centre.until(logged(running, "hospital-b.toml is not TOML"), "the mistake is in the log")
        assert running.echo(second) == 0
        # A worker that starts now knows nothing of the file's earlier state.
        earlier = set(running.role.pids())
        assert running.role.kill_workers() > 0
        centre.until(lambda: len(set(running.role.pids()) - earlier) >= 2, "workers start again")
        assert running.echo(first) == 0
    finally:
        path.write_text(text)
    assert running.role.ended() is None


def test_a_role_that_cannot_start_says_why_once_and_exits_with_2(running, tmp_path):
    clock = SystemClock()
    built = system.build(tmp_path, hospitals=1, seal_after_s=1.0, settings=(), clock=clock)
    taken = running.centre.archive.http.port
    other = config.override(built.archive, f"http.port={taken}")
    built.config_path.write_text(config.render(other))
    done = running.harmoni("archive", "serve", "--config", str(built.config_path))
    assert done.returncode == 2
    assert done.stderr.count(f"cannot listen on 127.0.0.1:{taken}") == 1
    assert "Traceback" not in done.stderr


def test_the_death_of_the_supervisor_frees_the_data(tmp_path):
    with centre.running(tmp_path) as first:
        supervisor, *children = map(psutil.Process, first.role.pids())
        supervisor.kill()
        first.role._process.wait(30)
        psutil.wait_procs(children, 30)
        first.role.start()
        assert first.echo(first.houses[0]) == 0
