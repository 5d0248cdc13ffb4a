"""bench/RESULTS.md out of bench/results.json: the targets first, then what was measured.

python bench/report.py
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Results = Mapping[str, Any]
Value = Callable[[Results], float]
_HERE: Final = Path(__file__).parent
_MISSED: Final = _HERE / "missed.md"
"""Why, in words: revise it whenever the figures change."""
_INTRODUCTION: Final = """\
# Measured

Written by `make bench` from `results.json`; every figure is a median of five runs. Ratios compare
receivers that took turns in one run on one machine. HARMONI is measured with everything on: hash,
encryption, flush before the answer, index, audit; its peers do none of these but Orthanc's index.
Where HARMONI is measured without TLS, a listener of the bench stands in for the role's own, on
loopback and for one made hospital.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the first table."""

    number: str
    what: str
    wanted: float
    """At least so much; at most, where `most`."""
    value: Value
    most: bool = False

    def line(self, results: Results) -> str:
        """The table's line; empty where its part was not measured."""
        try:
            value = self.value(results)
        except KeyError:
            return ""
        reached = value <= self.wanted if self.most else value >= self.wanted
        sign = "≤" if self.most else "≥"
        told = "reached" if reached else "**missed**"
        return f"| {self.number} | {self.what} | {sign} {self.wanted:g} | {value:.3g} | {told} |\n"


def _one(part: str, *keys: str) -> Value:
    def value(results: Results) -> float:
        found: Any = results["parts"][part]["results"]
        for key in keys:
            found = found[key]
        return float(found)

    return value


def _times(scenario: str, peer: str, ours: str = "harmoni", part: str = "ingest") -> Value:
    """How many times as fast as a peer."""
    return _ratio(_one(part, scenario, peer, "wall_s"), _one(part, scenario, ours, "wall_s"))


def _ratio(above: Value, below: Value) -> Value:
    return lambda results: above(results) / below(results)


def _cpu(name: str) -> Value:
    return _ratio(
        _one("ingest", "P1 CT", "harmoni", name),
        _one("ingest", "P1 CT", "orthanc", "cpu_s_per_gb"),
    )


TARGETS: Final = (
    Target("P1", "CT in, times Orthanc", 3, _times("P1 CT", "orthanc")),
    Target("P1", "CT in, times pynetdicom", 2, _times("P1 CT", "pynetdicom")),
    Target("P1", "CT in, times storescp", 0.6, _times("P1 CT", "storescp")),
    Target("P2", "small in, times Orthanc", 4, _times("P2 small", "orthanc")),
    Target("P2", "small in, times pynetdicom", 3, _times("P2 small", "pynetdicom")),
    Target("P2", "small in, times storescp", 0.7, _times("P2 small", "storescp")),
    Target(
        "P2b",
        "studies of one small instance, a second",
        1000,
        _one("ingest", "P2b studies of one", "harmoni", "instances_per_s"),
    ),
    Target("P2b", "eight associations, times Orthanc", 3, _times("P2b mixed", "orthanc")),
    Target("P3", "CT, Nagle, times Orthanc", 15, _times("P3 Nagle CT", "orthanc")),
    Target("P3", "CT, Nagle, times storescp", 15, _times("P3 Nagle CT", "storescp")),
    Target("P3", "small, Nagle, times Orthanc", 15, _times("P3 Nagle small", "orthanc")),
    Target("P3", "small, Nagle, times storescp", 15, _times("P3 Nagle small", "storescp")),
    Target(
        "P3",
        "small, Nagle, a second",
        800,
        _one("ingest", "P3 Nagle small", "harmoni", "instances_per_s"),
    ),
    Target(
        "P3",
        "small, Nagle, times our own rate without",
        0.8,
        _ratio(
            _one("ingest", "P3 Nagle small", "harmoni", "instances_per_s"),
            _one("ingest", "P2 small", "harmoni", "instances_per_s"),
        ),
    ),
    Target("P4", "CPU to the answer, times Orthanc", 0.3, _cpu("cpu_s_per_gb"), most=True),
    Target("P4", "CPU with sealing, times Orthanc", 0.45, _cpu("cpu_s_per_gb_sealed"), most=True),
    Target(
        "P5", "TLS, times storescp over TLS", 0.5, _times("P5 TLS", "storescp_tls", "harmoni_tls")
    ),
    Target("P5", "TLS, times our own without", 0.7, _times("P5 TLS", "harmoni", "harmoni_tls")),
    Target(
        "P6",
        "four associations on two workers, times one association",
        1.3,
        _ratio(
            _one("ingest", "P6 four associations", "harmoni_two_workers", "instances_per_s"),
            _one("ingest", "P1 CT", "harmoni", "instances_per_s"),
        ),
    ),
    Target(
        "P6",
        "one association beside a query of 5,000 matches, times without",
        0.5,
        _ratio(
            _one("query_beside", "P6 beside a query", "harmoni_queried", "instances_per_s"),
            _one("query_beside", "P6 beside a query", "harmoni", "instances_per_s"),
        ),
    ),
    *(
        Target(
            "P7",
            f"{service} {kind}, times {told}",
            wanted,
            _times(f"P7 {service} {kind}", peer, part="retrieve"),
        )
        for service in ("C-GET", "C-MOVE")
        for kind in ("CT", "small")
        for peer, told, wanted in (("orthanc", "Orthanc", 1.2), ("dcmqrscp", "dcmqrscp", 0.7))
    ),
    Target(
        "P8",
        "small over a 20 ms line, times one association of storescu's",
        10,
        _one("line", "small", "harmoni", "over_storescu"),
    ),
    Target(
        "P8", "CT, share of a 100 Mbit/s line", 0.9, _one("line", "CT", "harmoni", "line_share")
    ),
    Target(
        "P10", "rebuild, instances a second", 20000, _one("vault", "rebuild", "instances_per_s")
    ),
    Target("P10", "scrub, times raw SHA-256", 0.7, _one("vault", "scrub_over_raw")),
    *(
        Target(
            "P11",
            f"resident memory of the {role}'s worker, MiB",
            150,
            _one("memory", "worst_mib", f"{role} worker"),
            most=True,
        )
        for role in ("archive", "gateway")
    ),
    Target(
        "P12",
        "sealed pack over data sets, CT",
        0.01,
        _one("sizes", "pack_over_raw", "CT"),
        most=True,
    ),
    Target(
        "P12",
        "bytes of the index per instance",
        250,
        _one("sizes", "index_bytes_per_instance"),
        most=True,
    ),
    Target("P14", "cold start to ready, s", 5, _one("cold_start", "ready_s"), most=True),
)


def page(results: Results) -> str:
    """The whole page."""
    lines = [_INTRODUCTION, "\n## Machine\n\n"]
    lines += [f"- {name}: {told}\n" for name, told in results["machine"].items()]
    lines += [f"- {name} {told}\n" for name, told in results["versions"].items()]
    lines.append("\n## Targets\n\n| | what | target | measured | |\n|---|---|---|---|---|\n")
    lines += [target.line(results) for target in TARGETS]
    lines.append("\n" + _MISSED.read_text(encoding="utf-8"))
    for part, told in results["parts"].items():
        lines.append(f"\n## {part}\n\nCommit {told['commit']}, {told['at']}.\n\n")
        lines += _tables(told["results"])
    return "".join(lines)


def _tables(found: Mapping[str, Any]) -> Iterable[str]:
    """Scenarios as tables of their receivers; what is no scenario as a list."""
    for name, told in found.items():
        if not isinstance(told, dict):
            if not isinstance(told, list):
                yield f"- {name}: {_figure(told)}\n"
            continue
        receivers = {key: value for key, value in told.items() if isinstance(value, dict)}
        if not receivers:
            figures = ", ".join(f"{key} {_figure(value)}" for key, value in told.items())
            yield f"- {name}: {figures}\n"
            continue
        columns = list(dict.fromkeys(key for value in receivers.values() for key in value))
        yield f"\n### {name}\n\n| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|\n"
        for receiver, value in receivers.items():
            cells = [_figure(value[key]) if key in value else "" for key in columns]
            yield f"| {receiver} | {' | '.join(cells)} |\n"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page(json.loads((_HERE / "results.json").read_text())))
