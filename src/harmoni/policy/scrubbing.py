"""When a sealed pack is read again, and which packs are opened besides."""

import hashlib
from dataclasses import dataclass
from typing import Final

_DAY_MS: Final = 86_400_000
_MONTH_DAYS: Final = 30
_SCALE: Final = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPolicy:
    """How often is often enough."""

    cycle_days: float
    """Every pack is read so often."""
    young_days: float
    """And so long after it was sealed."""
    opened_percent: float
    """Share of all packs that is opened and parsed in a month of 30 days."""

    def scrubbed_before_ms(self, now_ms: int) -> int:
        """What was scrubbed before this time is due."""
        return now_ms - int(self.cycle_days * _DAY_MS)

    def sealed_before_ms(self, now_ms: int) -> int:
        """What was never scrubbed and was sealed before this time is due."""
        return now_ms - int(self.young_days * _DAY_MS)

    def opens(self, pack_id: str, now_ms: int) -> bool:
        """Whether a pack that is read now is opened besides.

        A pack is read once in a cycle, so the share of those that are read is the month's share
        times the months of a cycle.
        """
        return is_drawn(pack_id, now_ms, self.opened_percent * self.cycle_days / _MONTH_DAYS)


def is_drawn(pack_id: str, now_ms: int, percent: float) -> bool:
    """Whether a pack belongs to the day's sample.

    Drawn from its id and the day: nothing has to be kept for it, and the same packs are not drawn
    every time.
    """
    drawn = hashlib.sha256(f"{pack_id} {now_ms // _DAY_MS}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < percent / 100 * _SCALE
