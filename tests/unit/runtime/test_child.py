import os
import threading

from harmoni.runtime import child


def test_ready_is_said_once_and_the_pipe_closed(monkeypatch):
    ours, theirs = os.pipe()
    monkeypatch.setenv(child.READY_FD_VARIABLE, str(theirs))
    child.announce_ready()
    child.announce_ready()
    with os.fdopen(ours, "rb") as pipe:
        assert pipe.read() == b"ready\n"


def test_why_it_cannot_serve_is_said_instead_of_ready_and_bounded(monkeypatch):
    ours, theirs = os.pipe()
    monkeypatch.setenv(child.READY_FD_VARIABLE, str(theirs))
    assert child.announce_failure("no port" + "!" * child.LONGEST_WHY_BYTES)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    assert said.startswith(b"no port!")
    assert len(said) == child.LONGEST_WHY_BYTES


def test_once_ready_there_is_nobody_to_tell_of_a_failure(monkeypatch):
    ours, theirs = os.pipe()
    monkeypatch.setenv(child.READY_FD_VARIABLE, str(theirs))
    child.announce_ready()
    assert not child.announce_failure("too late")
    os.close(ours)


def test_ready_is_said_without_an_error_to_a_supervisor_that_was_killed(monkeypatch):
    ours, theirs = os.pipe()
    monkeypatch.setenv(child.READY_FD_VARIABLE, str(theirs))
    os.close(ours)
    child.announce_ready()


def test_the_end_of_the_parents_pipe_is_noticed(monkeypatch):
    theirs, ours = os.pipe()
    monkeypatch.setenv(child.PARENT_FD_VARIABLE, str(theirs))
    lost = threading.Event()
    child.ParentWatch(lost.set)
    assert not lost.is_set()
    os.close(ours)
    assert lost.wait(5)


def test_without_a_supervisor_nothing_is_said_and_nothing_watched(monkeypatch):
    monkeypatch.delenv(child.READY_FD_VARIABLE, raising=False)
    monkeypatch.delenv(child.PARENT_FD_VARIABLE, raising=False)
    before = threading.active_count()
    child.announce_ready()
    child.ParentWatch(lambda: None)
    assert threading.active_count() == before


def test_the_parents_pipe_is_not_handed_on_to_grandchildren(monkeypatch):
    theirs, ours = os.pipe()
    os.set_inheritable(theirs, True)
    monkeypatch.setenv(child.PARENT_FD_VARIABLE, str(theirs))
    lost = threading.Event()
    child.ParentWatch(lost.set)
    assert not os.get_inheritable(theirs)
    os.close(ours)
    assert lost.wait(5)
