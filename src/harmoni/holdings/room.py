"""Room: what is kept back on each disk, so that what was begun can always be ended.

A role that has filled its disk to the last byte can seal no pack, record no commitment and no
eviction, and audit nothing, so that it never gets out of it by itself. So no instance is taken in
below the reserve (docs/decisions/0022). Everything else may use it: tails of packs, copies of
fenced ones, events, keys, index, audit.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from harmoni.backends.filesystem import Filesystem
from harmoni.model.errors import NotHeld, OutOfResources


class Room:
    """The free space of the file systems that one hospital's holding needs.

    Args:
        files: the store.
        packs: the folder of its packs.
        others: other folders that are written with each instance, and may be mounted apart.
        reserve_bytes: what is kept back on each of those file systems.
    """

    def __init__(
        self, files: Filesystem, packs: str, others: Sequence[str], reserve_bytes: int
    ) -> None:
        self.reserve_bytes = reserve_bytes
        self._files = files
        self._folders = (packs, *others)

    def require(self, wanted_bytes: int = 0) -> None:
        """Say that there is room for another instance.

        Looked at without a lock, before each instance and each MiB of a large one: what an
        association has in memory meanwhile, 4 MiB at most, may still follow.

        Args:
            wanted_bytes: what is about to be written at once.

        Raises:
            OutOfResources: on one of the file systems less than the reserve would be free.
        """
        if why := self.shortage(wanted_bytes):
            raise OutOfResources(why)

    def shortage(self, wanted_bytes: int = 0) -> str:
        """Which file system has less than the reserve, in a sentence; "" when none has."""
        if not self.reserve_bytes:
            return ""
        for folder in self._apart:
            free_bytes = self._files.free_bytes(folder)
            if free_bytes < self.reserve_bytes + wanted_bytes:
                return (
                    f"the disk of {folder} has {free_bytes} bytes free, too few beyond the reserve"
                    f" of {self.reserve_bytes}: no instance is taken in until there is more room"
                )
        return ""

    @cached_property
    def _apart(self) -> list[str]:
        """One folder of each file system."""
        found: dict[int, str] = {}
        for folder in self._folders:
            with suppress(NotHeld):
                found.setdefault(self._files.device(folder), folder)
        return list(found.values())
