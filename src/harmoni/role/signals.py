"""What a process of a role does about signals: end in order, or read its files again."""

import signal
import threading
from collections.abc import Callable
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Final, Self

from harmoni.model.errors import HarmoniError
from harmoni.role.node import Node
from harmoni.runtime import child, log

_LOOK_S: Final = 1.0


class _Word(Enum):
    """What a process may be told."""

    END = auto()
    RELOAD = auto()


class Signals:
    """SIGTERM, SIGINT and the supervisor's death end the wait. SIGHUP reloads.

    Hospitals' files are looked at every second besides: a new one is in force without a signal.

    Args:
        node: whose hospitals' files are read again.
        process_log: says what was read, and what is wrong with it.
        reload_tls: reads the TLS files again, in a process that listens.
    """

    def __init__(
        self,
        node: Node,
        process_log: log.Log,
        reload_tls: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self._log = process_log
        self._reload_tls = reload_tls
        self._unread = ""
        # A signal's handler may put into it at any moment, which is not so for an Event.
        self._said: SimpleQueue[_Word] = SimpleQueue()

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._said.put(_Word.END))
        signal.signal(signal.SIGHUP, lambda *_: self._said.put(_Word.RELOAD))
        child.ParentWatch(lambda: self._said.put(_Word.END))
        self._say_problems()
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wait(self) -> None:
        """Reload what is asked for or has changed, until the end."""
        while True:
            try:
                word = self._said.get(timeout=_LOOK_S)
            except Empty:
                self._look()
                continue
            if word is _Word.END:
                return
            self._reload()

    def _look(self) -> None:
        """Read hospitals' files that are new; a mistake is said once, not every second."""
        try:
            if self._node.has_news():
                self._node.reload()
                self._say_problems()
                self._log.info("hospitals read", hospitals=len(self._node.hospitals))
            self._unread = ""
        except HarmoniError as error:
            if self._unread != str(error):
                self._log.error("hospitals not read", why=f"{error.code} {error}")
            self._unread = str(error)

    def _reload(self) -> None:
        """A mistake in a file must not end what serves by the files read before."""
        done = []
        for what, act in (("hospitals", self._node.reload), ("tls", self._reload_tls)):
            try:
                act()
                done.append(what)
            except HarmoniError as error:
                self._log.error("not reloaded", what=what, why=f"{error.code} {error}")
        self._say_problems()
        self._log.info("reloaded", what=done, hospitals=len(self._node.hospitals))

    def _say_problems(self) -> None:
        for problem in self._node.problems:
            self._log.error("hospital's file not taken", why=problem)

    def start_thread(self, name: str, act: Callable[[], None]) -> threading.Thread:
        """Run a duty beside the wait. The process ends with it, to be started anew.

        After a fault of ours the process would else look well and do nothing.
        """

        def run() -> None:
            try:
                act()
            finally:
                self._said.put(_Word.END)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
