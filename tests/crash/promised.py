"""What was acknowledged when power failed, and what may be wrong since somebody harmed a disk."""

from dataclasses import dataclass, field
from typing import Self

from crash import journal as j


@dataclass(slots=True)
class Promised:
    """Everything that a recovery is held to."""

    stored: dict[int, bytes] = field(default_factory=dict)
    """Instances, by number."""
    events: set[str] = field(default_factory=set)
    sealed: dict[str, bytes] = field(default_factory=dict)
    """The SHA-256 of every pack that was finished."""
    flushed: set[int] = field(default_factory=set)
    """Instances whose rows were in the index when a flush of it returned."""
    harmed: dict[str, set[int]] = field(default_factory=dict)
    """By pack, the instances in it that a disk lost, until the pack was repaired."""
    told: dict[str, j.Told] = field(default_factory=dict)
    """Damage that was told of, by pack, until the pack was repaired."""
    repaired: set[str] = field(default_factory=set)
    rotations: list[str] = field(default_factory=list)
    """The site's recipient after each rotation that returned."""

    erasing: dict[str, j.Erasing] = field(default_factory=dict)
    """Erasures that had begun, by study; what they destroy is promised to nobody any more."""
    destroyed: set[str] = field(default_factory=set)
    """The studies of those that returned."""

    @classmethod
    def by(cls, journal: j.Journal, point: int) -> Self:
        """What had been acknowledged at a point of a run."""
        promised = cls()
        for entry in journal.entries[:point]:
            promised._add(entry)
        return promised

    @property
    def lost(self) -> set[int]:
        """Instances that nobody can give back before their pack is repaired."""
        return set().union(*self.harmed.values())

    def _add(self, entry: j.Entry) -> None:
        match entry:
            case j.Stored(number, data):
                self.stored[number] = data
                for numbers in self.harmed.values():
                    numbers.discard(number)
            case j.Recorded(_, mark):
                self.events.add(mark)
            case j.Sealed(pack_id, sha256):
                self.sealed[pack_id] = sha256
            case j.Flushed():
                self.flushed = set(self.stored)
            case j.Harmed(pack_id, numbers):
                self.harmed[pack_id] = set(numbers)
            case j.Told(pack_id):
                self.told[pack_id] = entry
            case _:
                self._add_of_operator(entry)

    def _add_of_operator(self, entry: j.Entry) -> None:
        match entry:
            case j.Repaired(pack_id):
                self.harmed.pop(pack_id)
                self.told.pop(pack_id)
                self.repaired.add(pack_id)
            case j.Rotated(recipient):
                self.rotations.append(recipient)
            case j.Erasing(study, numbers):
                self.erasing[study] = entry
                self.events.discard(study)
                for number in numbers:
                    del self.stored[number]
            case j.Destroyed(study):
                self.destroyed.add(study)
            case _:
                pass
