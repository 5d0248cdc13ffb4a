"""What the operating system grants a process of ours, and what we give up on our own."""

import os
import resource
from typing import Final

_NICER: Final = 10


def raise_open_files() -> int:
    """Raise the limit of open files as far as the system lets us; give what holds now.

    A worker holds up to 512 open packs and a socket per association, and the usual soft limit of
    1,024 is meant for programs that call select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def forbid_core_dumps() -> None:
    """Let no crash write this process's memory, with keys and images in it, to a disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def yield_to_workers() -> int:
    """Take less CPU than the workers do, for good: for a keeper, at its start.

    Linux derives the priority of I/O from this one where none was set (ioprio_set(2)).

    Returns:
        The niceness that holds now.
    """
    return os.nice(_NICER)
