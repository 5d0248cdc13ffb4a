"""A real supervisor over real children, watched through what they print."""

import os
import re
import signal
import subprocess
import sys
from queue import Empty, Queue
from textwrap import indent
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
status = supervisor.run()
print("WHY", supervisor.why, flush=True)
sys.exit(status)
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

UNFIT = f"""
import sys
from harmoni.runtime.child import announce_failure
announce_failure("no such\\nport")
sys.exit({os.EX_CONFIG})
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


def test_the_role_tells_the_reason_that_its_child_gave(run):
    running = run(CHILD, UNFIT)
    assert running.process.wait(20) == os.EX_CONFIG
    assert "WHY no such port" in running.rest()


def test_children_may_end_in_order_when_a_fellow_ends_the_role(run, tmp_path):
    told = tmp_path / "told"
    # The first is ready before the second finds out that it cannot work.
    first = CHILD.replace("announce_ready()", f"announce_ready(); open({str(told)!r}, 'w').close()")
    second = f"import os, time\nwhile not os.path.exists({str(told)!r}): time.sleep(0.01)\n" + UNFIT
    running = run(first, second)
    assert running.process.wait(20) == os.EX_CONFIG
    assert any(line.startswith("TERM") for line in running.rest())


def test_settings_that_broke_while_the_role_served_do_not_end_it(run, tmp_path):
    broken = tmp_path / "broken"
    child = f"import os\nif os.path.exists({str(broken)!r}):\n{indent(UNFIT, '    ')}\n" + CHILD
    running = run(child, CHILD)
    pids = [int(running.until(r"START (\d+)")[1]) for _ in range(2)]
    running.until("ALL READY")
    broken.touch()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    running.until(r"no such port.*child died")
    broken.unlink()
    running.until("START")
    assert running.process.poll() is None


def test_a_child_that_starts_is_told_of_a_reload_when_it_can_hear_it(run, tmp_path):
    go = tmp_path / "go"
    wait = (
        "import os, time\nprint('WAITING', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    )
    running = run(wait + CHILD)
    running.until("WAITING")
    running.process.send_signal(signal.SIGHUP)
    go.touch()
    running.until("HUP")


def test_ready_is_told_once_even_if_a_child_starts_twice(run):
    running = run(CHILD)
    first = int(running.until(r"START (\d+)")[1])
    running.until("ALL READY")
    os.kill(first, signal.SIGKILL)
    running.until(r"START (\d+)")
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(20)
    assert "ALL READY" not in running.rest()
