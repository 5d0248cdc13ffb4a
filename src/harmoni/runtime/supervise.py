"""The supervisor: executes the processes of a role and keeps them running.

Children are executed, not forked: database handles and hardware sessions do not survive a fork.
They inherit listening sockets by number, say `ready` on a pipe, and end when the supervisor's pipe
closes (`runtime.child`). The supervisor itself does nothing else, so that nothing can break it.
"""

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from harmoni.runtime.child import (
    LONGEST_WHY_BYTES,
    PARENT_FD_VARIABLE,
    READY_FD_VARIABLE,
    READY_LINE,
)
from harmoni.runtime.clock import Clock
from harmoni.runtime.log import Log

GRACE_S: Final = 30.0
HEALTHY_S: Final = 60.0
LONGEST_DELAY_S: Final = 30.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to execute.

    Attributes:
        name: for the log, such as `worker-0`.
        argv: the program and its arguments; the numbers of inherited descriptors stand among them.
        inherit_fds: descriptors that stay open in the child, under the same numbers.
    """

    name: str
    argv: tuple[str, ...]
    inherit_fds: tuple[int, ...] = ()


class Backoff:
    """How long to wait before a dead child starts again: 0, 1, 2, 4 … 30 s.

    A child that ran for a minute was healthy, and the row starts anew.
    """

    def __init__(self) -> None:
        self._deaths = 0

    def delay_s(self, ran_s: float) -> float:
        """Give the wait after a run of so many seconds."""
        if ran_s >= HEALTHY_S:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        # The exponent is capped as well: a child may die for years.
        return min(LONGEST_DELAY_S, 2.0 ** min(self._deaths - 2, 16))


class _Child:
    """One child, through all its lives."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.backoff = Backoff()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        # When to start it; None while it runs or when it shall not run any more.
        self.due_s: float | None = 0.0
        # These belong to its present life.
        self.ready = False
        self.reload_due = False
        self.ready_fd: int | None = None
        self.heard = b""

    def hear(self) -> bool:
        """Take what it says on its pipe, bounded; False once nothing more can come."""
        assert self.ready_fd is not None
        try:
            said = os.read(self.ready_fd, LONGEST_WHY_BYTES)
        except BlockingIOError:
            return True
        self.heard = (self.heard + said)[:LONGEST_WHY_BYTES]
        return bool(said)

    def why(self) -> str:
        """What it said instead of being ready, in one line; empty when it said nothing."""
        text = self.heard.removeprefix(READY_LINE).decode(errors="replace")
        return " ".join(text.split())


class Supervisor:
    """Runs the children until SIGTERM or SIGINT.

    SIGTERM and SIGINT end the children: SIGTERM first, SIGKILL after a grace or at the second
    signal. SIGHUP is passed on, for a reload, to a child that starts once it is ready. A child that
    exits with `os.EX_CONFIG` (78) before the role was ever ready would fail again at once: it ends
    the whole role, with that status, and `why` says what it said. Later it is a death like any
    other, since somebody may be mending the file that it met.

    Attributes:
        why: why the role ended by itself, as the child said it; empty otherwise.

    Args:
        specs: the children.
        clock: monotonic time.
        log: one line per start and per death.
        on_ready: called once, when every child has said that it is ready.
        grace_s: how long children may take to end.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        clock: Clock,
        log: Log,
        on_ready: Callable[[], None],
        grace_s: float = GRACE_S,
    ) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._clock = clock
        self._log = log
        self._on_ready = on_ready
        self._grace_s = grace_s
        self._kill_at_s: float | None = None
        self._status = os.EX_OK
        self._was_ready = False
        self.why = ""
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Start the children and keep them running; in the main thread, since signals need it.

        Returns:
            The exit status of the role: 0 after an orderly end, 78 for settings that cannot work;
            then `why` holds the reason that the child gave.
        """
        wake_read, wake_write = os.pipe()
        parent_read, parent_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        earlier = {number: signal.signal(number, _noted) for number in _SIGNALS}
        earlier_wake = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(wake_read, selectors.EVENT_READ)
        try:
            while self._turn(wake_read, parent_read):
                pass
        finally:
            signal.set_wakeup_fd(earlier_wake)
            for number, handler in earlier.items():
                signal.signal(number, handler)
            self._selector.close()
            # Closing the parent's end makes whoever still lives end by itself.
            for descriptor in (wake_read, wake_write, parent_read, parent_write):
                os.close(descriptor)
        return self._status

    def _turn(self, wake_read: int, parent_read: int) -> bool:
        """Do what is due, then wait for what comes next; False when all is over."""
        now_s = self._clock.monotonic_s()
        for child in self._children:
            if self._kill_at_s is None and child.due_s is not None and child.due_s <= now_s:
                self._start(child, parent_read)
        if self._kill_at_s is not None:
            if all(child.process is None for child in self._children):
                return False
            if self._kill_at_s <= now_s:
                self._signal_all(signal.SIGKILL)
                self._kill_at_s = now_s + self._grace_s
        for key, _ in self._selector.select(self._wait_s()):
            if key.fd == wake_read:
                self._take_signals(os.read(wake_read, 4096))
            else:
                self._listen(key.data)
        for child in self._children:
            self._bury(child)
        return True

    def _wait_s(self) -> float | None:
        if self._kill_at_s is not None:
            moments = [self._kill_at_s]
        else:
            moments = [child.due_s for child in self._children if child.due_s is not None]
        if not moments:
            return None
        return max(0.0, min(moments) - self._clock.monotonic_s())

    def _start(self, child: _Child, parent_read: int) -> None:
        ready_read, ready_write = os.pipe()
        child.due_s = None
        child.started_s = self._clock.monotonic_s()
        child.ready = child.reload_due = False
        child.heard = b""
        try:
            child.process = subprocess.Popen(  # noqa: S603 - the role composed the arguments
                child.spec.argv,
                pass_fds=(*child.spec.inherit_fds, parent_read, ready_write),
                env=os.environ
                | {PARENT_FD_VARIABLE: str(parent_read), READY_FD_VARIABLE: str(ready_write)},
                stdin=subprocess.DEVNULL,
                # A terminal's Ctrl-C is for the supervisor, who then ends its children in order.
                process_group=0,
            )
        except OSError as error:
            os.close(ready_read)
            child.due_s = child.started_s + child.backoff.delay_s(0.0)
            self._log.error("child not started", child=child.spec.name, errno=error.errno)
            return
        finally:
            os.close(ready_write)
        os.set_blocking(ready_read, False)
        child.ready_fd = ready_read
        self._selector.register(ready_read, selectors.EVENT_READ, child)
        self._log.info("child started", child=child.spec.name, pid=child.process.pid)

    def _listen(self, child: _Child) -> None:
        """Notice that a child is ready; what else it says is kept until its end."""
        if child.ready_fd is None:
            return
        more = child.hear()
        if child.heard.startswith(READY_LINE):
            self._hang_up(child)
            self._note_ready(child)
        elif not more:
            self._hang_up(child)

    def _note_ready(self, child: _Child) -> None:
        child.ready = True
        if child.reload_due and child.process is not None:
            child.process.send_signal(signal.SIGHUP)
        if not self._was_ready and all(each.ready for each in self._children):
            self._was_ready = True
            self._on_ready()

    def _hang_up(self, child: _Child) -> None:
        if child.ready_fd is not None:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = None

    def _bury(self, child: _Child) -> None:
        """Notice a child's death, and say when it starts again."""
        if child.process is None:
            return
        status = child.process.poll()
        if status is None:
            return
        if child.ready_fd is not None:
            child.hear()
        self._hang_up(child)
        child.process = None
        now_s = self._clock.monotonic_s()
        ran_s = now_s - child.started_s
        event = self._log.bind(child=child.spec.name, status=status, ran_s=round(ran_s, 3))
        if why := child.why():
            event = event.bind(why=why)
        if self._kill_at_s is not None:
            event.info("child ended")
        elif status == os.EX_CONFIG and not self._was_ready:
            event.error("child cannot work with these settings; the role ends")
            self._status, self.why = os.EX_CONFIG, why
            self._stop(now_s)
        else:
            delay_s = child.backoff.delay_s(ran_s)
            child.due_s = now_s + delay_s
            event.error("child died", restart_in_s=delay_s)

    def _take_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(self._clock.monotonic_s())
            elif number == signal.SIGHUP:
                self._reload_all()

    def _stop(self, now_s: float) -> None:
        if self._kill_at_s is None:
            self._kill_at_s = now_s + self._grace_s
            self._signal_all(signal.SIGTERM)
        else:
            self._kill_at_s = now_s

    def _reload_all(self) -> None:
        """Pass SIGHUP on; it would end a child that has not come so far as to expect it."""
        for child in self._children:
            child.reload_due = not child.ready
            if child.process is not None and child.ready:
                child.process.send_signal(signal.SIGHUP)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(number)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number of the signal came through the wake-up pipe."""
