"""Room on the gateway's disk: what is safe at the centre goes when room is needed, nothing else.

Needed is it above the upper mark, and below twice the reserve: so where the disk is small, or full
of something else, letting go begins before instances are refused.
"""

from typing import Final

from harmoni.gateway.house import House
from harmoni.runtime.log import Log

_LOOK_S: Final = 30.0
_RESERVES: Final = 2


class Space:
    """Keeps the gateway's file system between its two marks.

    Args:
        house: the gateway.
        log: the process's log.
    """

    def __init__(self, house: House, log: Log) -> None:
        self._house = house
        self._log = log
        self._looked_s = house.clock.monotonic_s() - _LOOK_S

    def keep(self) -> None:
        """Let go of studies, longest unused first, until there is room below the lower mark.

        Looks every half minute; a study that cannot go is passed over.

        Raises:
            OutOfResources, StorageFailed: even what has to be written before cannot be.
        """
        now_s = self._house.clock.monotonic_s()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        marks = self._house.config.space
        if self._has_room(marks.evict_above):
            return
        let_go = self._house.own.let_go
        studies = instances = freed_bytes = 0
        for study in let_go.studies():
            done = let_go.evict(study)
            studies += bool(done.packs)
            instances += done.instances
            freed_bytes += done.freed_bytes
            if done.packs and self._has_room(marks.evict_to):
                break
        used = round(self._used(), 3)
        say = self._log.info if self._has_room(marks.evict_above) else self._log.error
        say(
            "let go of what was used least",
            studies=studies,
            instances=instances,
            freed_bytes=freed_bytes,
            used=used,
        )

    def _has_room(self, mark: float) -> bool:
        room = self._house.own.room
        spare_bytes = room.packs_free_bytes() - (_RESERVES - 1) * room.reserve_bytes
        return self._used() <= mark and spare_bytes >= 0

    def _used(self) -> float:
        return self._house.files.used_fraction(self._house.own.layout.packs)
