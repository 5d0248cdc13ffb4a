"""The numbers of one process, in Prometheus's text format.

Every name starts with `harmoni_`; labels never carry patient data, nor anything a peer may choose
freely, since each new value is a new series for ever. Owns prometheus_client.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "harmoni"


class Metrics:
    """What this process counts; made once at its start and handed to its parts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(namespace=_PREFIX, registry=self._registry)

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
        return Gauge(name, help_text, labels, namespace=_PREFIX, registry=self._registry)

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
        """Give everything as `CONTENT_TYPE`."""
        return generate_latest(self._registry)
