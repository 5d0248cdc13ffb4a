"""A real supervisor over real children, watched through what they print."""

import os
import re
import signal
import subprocess
import sys
from queue import Empty, Queue
from threading import Thread

import pytest

SUPERVISOR = """
import sys
from harmoni.runtime import log
from harmoni.runtime.clock import SystemClock
from harmoni.runtime.supervise import ChildSpec, Supervisor

log.configure()
specs = [
    ChildSpec(f"child-{number}", (sys.executable, "-c", code))
    for number, code in enumerate(sys.argv[2:])
]
supervisor = Supervisor(
    specs,
    clock=SystemClock(),
    log=log.get(),
    on_ready=lambda: print("ALL READY", flush=True),
    grace_s=float(sys.argv[1]),
)
sys.exit(supervisor.run())
"""

CHILD = """
import os, signal, threading
from harmoni.runtime.child import ParentWatch, announce_ready

def say(word):
    os.write(1, f"{word} {os.getpid()}\\n".encode())

over = threading.Event()
def end(*_):
    say("TERM")
    over.set()

signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda *_: say("HUP"))
ParentWatch(lambda: (say("LOST"), over.set()))
say("START")
announce_ready()
while not over.wait(0.05):
    pass
"""

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + CHILD.replace(
    "signal.signal(signal.SIGTERM, end)", ""
)


class Running:
    def __init__(self, *codes, grace_s=20):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(grace_s), *codes],
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.lines = Queue()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def until(self, pattern):
        """Give the first match among the lines to come."""
        while True:
            found = re.search(pattern, self.lines.get(timeout=20))
            if found:
                return found

    def rest(self):
        self.reader.join(20)
        lines = []
        while True:
            try:
                lines.append(self.lines.get_nowait())
            except Empty:
                return lines


@pytest.fixture
def run():
    started = []

    def start(*codes, **options):
        running = Running(*codes, **options)
        started.append(running)
        return running

    yield start
    for running in started:
        running.process.kill()
        running.process.wait(20)
        running.reader.join(20)
        running.process.stdout.close()


def test_sigterm_ends_every_child_and_then_the_supervisor(run):
    running = run(CHILD, CHILD)
    running.until("ALL READY")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert sum(line.startswith("TERM") for line in running.rest()) == 2


def test_a_killed_child_starts_again(run):
    running = run(CHILD)
    first = int(running.until(r"START (\d+)")[1])
    running.until("ALL READY")
    os.kill(first, signal.SIGKILL)
    second = int(running.until(r"START (\d+)")[1])
    assert second != first


def test_sighup_reaches_the_children(run):
    running = run(CHILD)
    running.until("ALL READY")
    running.process.send_signal(signal.SIGHUP)
    running.until("HUP")
    assert running.process.poll() is None


def test_children_notice_that_their_supervisor_was_killed(run):
    running = run(CHILD, CHILD)
    running.until("ALL READY")
    running.process.kill()
    running.until("LOST")
    running.until("LOST")


def test_a_child_that_does_not_end_is_killed_after_the_grace(run):
    running = run(STUBBORN, grace_s=0.3)
    running.until("ALL READY")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert any('"status": -9' in line for line in running.rest())


def test_a_second_sigterm_kills_at_once(run):
    running = run(STUBBORN, grace_s=600)
    running.until("ALL READY")
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0


def test_settings_that_cannot_work_end_the_role_with_their_status(run):
    running = run(CHILD, f"import sys; sys.exit({os.EX_CONFIG})")
    assert running.process.wait(20) == os.EX_CONFIG
    assert "ALL READY" not in running.rest()


def test_ready_is_told_once_even_if_a_child_starts_twice(run):
    running = run(CHILD)
    first = int(running.until(r"START (\d+)")[1])
    running.until("ALL READY")
    os.kill(first, signal.SIGKILL)
    running.until(r"START (\d+)")
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(20)
    assert "ALL READY" not in running.rest()
