"""Room on the gateway's disk: what is safe at the centre goes when room is needed, nothing else.

Needed is it above the upper mark, and below twice the reserve: so where the disk is small, or full
of something else, letting go begins before instances are refused.
"""

from collections import Counter, deque
from contextlib import suppress
from typing import Final

from harmoni.gateway.house import House
from harmoni.model.errors import NotHeld
from harmoni.runtime.log import Log

_LOOK_S: Final = 30.0
_SHORT_LOOK_S: Final = 10.0
"""While instances are refused for want of room."""
_ROUND_S: Final = 2.0
"""How long a round of the keeper tries studies; a gateway may have a hundred thousand."""
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
        self._left: deque[str] = deque()
        self._wanted_bytes = 0
        self._gone: Counter[str] = Counter()

    def keep(self) -> None:
        """Let go of studies, longest unused first, until there is room below the lower mark.

        Looks every half minute, and more often while instances are refused; a study that cannot go
        is passed over.

        Raises:
            OutOfResources, StorageFailed: even what has to be written before cannot be.
        """
        marks, clock = self._house.config.space, self._house.clock
        now_s = clock.monotonic_s()
        let_go = self._house.own.let_go
        if not self._left:
            is_short = self._house.own.room.shortage()
            if now_s - self._looked_s < (_SHORT_LOOK_S if is_short else _LOOK_S):
                return
            self._looked_s = now_s
            if self._too_much_bytes(marks.evict_above) <= 0:
                return
            self._wanted_bytes = self._too_much_bytes(marks.evict_to)
            self._left.extend(let_go.studies())
        while self._left and clock.monotonic_s() - now_s < _ROUND_S:
            with suppress(NotHeld):  # erased since it was listed
                done = let_go.evict(self._left.popleft())
                self._gone.update(
                    studies=int(bool(done.packs)),
                    instances=done.instances,
                    freed_bytes=done.freed_bytes,
                )
                # Counted, not measured: who reads a pack has it open for another second.
                if self._gone["freed_bytes"] >= self._wanted_bytes:
                    self._left.clear()
        if not self._left:
            self._tell()

    def _tell(self) -> None:
        enough = self._gone["freed_bytes"] >= self._wanted_bytes
        say = self._log.info if enough else self._log.error
        say("let go of what was used least", **self._gone, wanted_bytes=self._wanted_bytes)
        self._gone.clear()

    def _too_much_bytes(self, mark: float) -> int:
        """What has to go until no more than a mark is used, and twice the reserve is free."""
        files, holding = self._house.files, self._house.own
        used_bytes = files.used_bytes(holding.layout.packs)
        free_bytes = files.free_bytes(holding.layout.packs)
        return max(
            used_bytes - int(mark * (used_bytes + free_bytes)),
            _RESERVES * holding.room.reserve_bytes - free_bytes,
        )
