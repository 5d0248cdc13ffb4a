"""A process under a supervisor, seen from inside: it says that it is ready, or why it cannot be.

It never outlives its supervisor.

The supervisor hands two pipes down by the environment. Without them (a process started by hand)
nothing is said and nothing watched.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

PARENT_FD_VARIABLE: Final = "HARMONI_PARENT_FD"
READY_FD_VARIABLE: Final = "HARMONI_READY_FD"
READY_LINE: Final = b"ready\n"
LONGEST_WHY_BYTES: Final = 2048
"""Of a reason no more than this is said or heard; a pipe takes it at once (PIPE_BUF)."""


def announce_ready() -> None:
    """Tell the supervisor, once, that this process serves now."""
    _say(READY_LINE)


def announce_failure(why: str) -> bool:
    """Tell the supervisor why this process cannot serve; its exit status says what follows.

    Returns:
        Whether there was somebody to tell: not once it is ready, nor when started by hand.
    """
    return _say(why.encode()[:LONGEST_WHY_BYTES])


def _say(words: bytes) -> bool:
    number = os.environ.pop(READY_FD_VARIABLE, None)
    if number is None:
        return False
    # Nobody reads it when the supervisor was killed meanwhile: then the parent watch ends us.
    with suppress(BrokenPipeError), os.fdopen(int(number), "wb", buffering=0) as pipe:
        pipe.write(words)
    return True


class ParentWatch:
    """A thread that notices the supervisor's death, however it died.

    The supervisor holds the only writing end of a pipe and never writes: it ends with it.

    Args:
        on_lost: called in the watching thread once the supervisor is gone; it ends this process,
            usually like SIGTERM does.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        number = os.environ.pop(PARENT_FD_VARIABLE, None)
        if number is None:
            return
        pipe = int(number)
        os.set_inheritable(pipe, False)  # noqa: FBT003 - the parameter is positional only
        threading.Thread(target=self._watch, args=(pipe,), name="parent-watch", daemon=True).start()

    def _watch(self, pipe: int) -> None:
        while os.read(pipe, 1):
            pass
        os.close(pipe)
        self._on_lost()
