"""Progress: how far an act is that takes long, told to whoever watches it."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are; the act says of what."""


def unwatched(*_: object) -> None:
    """Nobody watches: what an act tells when its caller does not ask."""
