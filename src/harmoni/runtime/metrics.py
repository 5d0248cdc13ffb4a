"""The numbers of a role's processes, in Prometheus's text format.

Where the supervisor names a shared directory, each process counts into files of its own there, and
whichever renders adds them up; so what workers count is seen though only the keeper is asked.

Every name starts with `harmoni_`; labels never carry patient data, nor anything a peer may choose
freely, since each new value is a new series for ever. Owns prometheus_client.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHARED_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the shared directory; read by the library when it is imported, so set for children."""
_PREFIX: Final = "harmoni"


class Metrics:
    """What this process counts; made once at its start and handed to its parts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._process = CollectorRegistry()
        ProcessCollector(namespace=_PREFIX, registry=self._process)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a number that only grows.

        Raises:
            ValueError: this process has one of that name already.
        """
        return Counter(name, help_text, labels, namespace=_PREFIX, registry=self._registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a number that goes up and down.

        Raises:
            ValueError: this process has one of that name already.
        """
        return Gauge(
            name,
            help_text,
            labels,
            namespace=_PREFIX,
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def histogram(
        self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        """Make a distribution over buckets, given by their upper bounds.

        Raises:
            ValueError: this process has one of that name already.
        """
        return Histogram(
            name, help_text, labels, namespace=_PREFIX, registry=self._registry, buckets=buckets
        )

    def render(self) -> bytes:
        """Give everything as `CONTENT_TYPE`: of all processes, and this process's own state."""
        registry = self._registry
        shared = os.environ.get(SHARED_DIRECTORY_VARIABLE)
        if shared is not None:
            _forget_dead(Path(shared))
            registry = CollectorRegistry()
            # The library leaves this one untyped.
            MultiProcessCollector(registry, shared)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(self._process)


def _forget_dead(shared: Path) -> None:
    """Drop what live gauges of dead processes said last; their counters stay."""
    for path in shared.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
