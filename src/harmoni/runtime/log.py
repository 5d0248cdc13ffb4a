"""Logging: one line of JSON per event to stdout in service, readable lines in a terminal.

Never patient data: an exception's frames are logged without the values of variables, and the text
of an exception that is not of our own tree is left out, since a library may quote what it was
given. Owns structlog; others take `Log` as an argument and bind their context once.
"""

import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Final, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from harmoni.model.errors import HarmoniError

Log = FilteringBoundLogger

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Deep recursion must not make one event of megabytes; the innermost frames tell most.
_FRAMES: Final = 30


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Set logging up for this process; called once by whoever starts it.

    Args:
        level: `debug`, `info`, `warning` or `error`; what is below is dropped at no cost.
        stream: where lines go, stdout if None. A terminal gets readable lines, all else JSON.

    Raises:
        KeyError: there is no such level.
    """
    out = stream or sys.stdout
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _render_exception,
            _renderer(terminal=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # A line is one write: the processes of a role share one stdout, buffered or not.
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get(**context: object) -> Log:
    """Give a log whose every line carries the context, such as the process's role and number."""
    log: Log = structlog.get_logger()
    return log.bind(**context)


def bound(**context: object) -> AbstractContextManager[None]:
    """Let every line that this thread logs within the block carry the context as well."""
    return structlog.contextvars.bound_contextvars(**context)


def describe(error: BaseException) -> dict[str, object]:
    """Describe an exception without anything that it was working on.

    Returns:
        `type`, `frames` (outermost first, `file:line function`), `text` for errors of our own
        tree, and `cause` in the same form if it has one.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    told: dict[str, object] = {
        "type": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, HarmoniError):
        told["text"] = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        told["errno"] = error.errno
    if error.__cause__ is not None:
        told["cause"] = describe(error.__cause__)
    return told


def _render_exception(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> Mapping[str, object]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def _renderer(*, terminal: bool) -> Processor:
    if terminal:
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer(default=str)
