"""What the demo did: a line for each act, with its rates, and what was not as it should be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from harmoni.demo.samples import Sample
from harmoni.runtime.clock import Clock

_MEGABYTE: Final = 1e6
# Below it a rate says more about the clock than about the act.
_SHORTEST_S: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One line of the report; rates are None where nothing was moved."""

    hospital: str
    act: str
    instances: int | None
    megabytes: float | None
    seconds: float
    instances_per_s: float | None
    megabytes_per_s: float | None
    checked: str


@dataclass(slots=True)
class Report:
    """Grows as the story is told."""

    acts: list[Act] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What people should know, such as files that were skipped."""
    failures: list[str] = field(default_factory=list)
    """A sentence for each thing that is not as it should be."""

    @contextmanager
    def act(
        self, hospital: str, act: str, moved: Sequence[Sample], clock: Clock
    ) -> Iterator[list[str]]:
        """Measure one act, the length of a with block, and note it when it is over.

        Yields:
            A list to which the block adds what it checked.
        """
        checked: list[str] = []
        started_s = clock.monotonic_s()
        yield checked
        seconds = clock.monotonic_s() - started_s
        count = len(moved)
        megabytes = sum(sample.size_bytes for sample in moved) / _MEGABYTE
        per_s = max(seconds, _SHORTEST_S)
        self.acts.append(
            Act(
                hospital=hospital,
                act=act,
                instances=count or None,
                megabytes=megabytes if count else None,
                seconds=seconds,
                instances_per_s=count / per_s if count else None,
                megabytes_per_s=megabytes / per_s if count else None,
                checked="; ".join(checked),
            )
        )
