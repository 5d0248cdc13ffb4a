"""The demo's roles as processes, started and stopped as a service manager does it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from harmoni.model.errors import Unreachable
from harmoni.net import notify
from harmoni.runtime.clock import Clock

READY_S: Final = 60.0
STOP_S: Final = 40.0
_LOOK_S: Final = 0.1
_SIGNALLED: Final = 128  # what a shell adds to the number of the signal that ended a process


@contextmanager
def orderly_end() -> Iterator[None]:
    """Make SIGTERM end a with block like an exception, so that roles are stopped on the way out."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(_SIGNALLED + number)

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


class Role:
    """One role: `harmoni ROLE serve --config FILE`, its output in a file.

    Args:
        name: the role, such as `archive`.
        config_path: its configuration.
        log_path: where its stdout and stderr go, appended.
        clock: measures how long it takes to be ready.
    """

    def __init__(self, name: str, *, config_path: Path, log_path: Path, clock: Clock) -> None:
        self._name = name
        self._config_path = config_path
        self._log_path = log_path
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it says by systemd's notification that it is ready.

        Raises:
            Unreachable: it ended, or was not ready in time; its log says why.
        """
        with notify.Listener() as listener:
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [
                        sys.executable,
                        "-m",
                        "harmoni.cli",
                        self._name,
                        "serve",
                        "--config",
                        str(self._config_path),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | listener.environment,
                    # Ctrl-C at a terminal is for the demo, which then stops its roles in order.
                    process_group=0,
                )
            try:
                self._await(listener, self._process)
            except BaseException:
                self.stop()
                raise

    def _await(self, listener: notify.Listener, process: subprocess.Popen[bytes]) -> None:
        deadline_s = self._clock.monotonic_s() + READY_S
        while not listener.hears("READY=1", _LOOK_S):
            status = process.poll()
            if status is not None:
                raise Unreachable(
                    f"the {self._name} ended with status {status} before it was ready; "
                    f"see {self._log_path}"
                )
            if self._clock.monotonic_s() > deadline_s:
                raise Unreachable(
                    f"the {self._name} was not ready within {READY_S:.0f} s; see {self._log_path}"
                )

    def pids(self) -> list[int]:
        """Its processes, the supervisor first; empty when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return []
        try:
            supervisor = psutil.Process(self._process.pid)
            return [supervisor.pid, *sorted(child.pid for child in supervisor.children())]
        except psutil.NoSuchProcess:
            return []

    def kill_workers(self) -> int:
        """End its workers as a fault would (SIGKILL); the supervisor starts others.

        Returns:
            How many were ended.
        """
        killed = 0
        for pid in self.pids()[1:]:
            try:
                if "worker" in psutil.Process(pid).cmdline():
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return killed

    def ended(self) -> int | None:
        """The exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ask it to end, wait, and end it by force when it does not; again is allowed."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
