import os
import subprocess
import sys

import pytest

from harmoni.runtime.metrics import SHARED_DIRECTORY_VARIABLE, Metrics


def test_everything_counted_is_rendered_under_our_name():
    metrics = Metrics()
    metrics.counter("associations_ended", "Ended.", ["outcome"]).labels("released").inc(3)
    metrics.gauge("open_packs", "Open.").set(7)
    metrics.histogram("flush_seconds", "Flush.", [0.01, 0.1]).observe(0.05)
    text = metrics.render().decode()
    assert 'harmoni_associations_ended_total{outcome="released"} 3.0' in text
    assert "harmoni_open_packs 7.0" in text
    assert 'harmoni_flush_seconds_bucket{le="0.1"} 1.0' in text


def test_two_sets_of_metrics_do_not_know_each_other():
    first, second = Metrics(), Metrics()
    first.counter("x", "X.").inc()
    second.counter("x", "X.")
    assert "harmoni_x_total 0.0" in second.render().decode()


def test_a_name_is_given_once():
    metrics = Metrics()
    metrics.gauge("x", "X.")
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.gauge("x", "X.")


PROGRAM = """
import sys
from harmoni.runtime.metrics import Metrics
metrics = Metrics()
metrics.counter("ended", "Ended.", ["outcome"]).labels("released").inc(int(sys.argv[1]))
metrics.gauge("open", "Open.").set(int(sys.argv[1]))
if sys.argv[2] == "stay":
    print("ready", flush=True)
    sys.stdin.readline()
if sys.argv[2] == "render":
    sys.stdout.write(metrics.render().decode())
"""


def test_what_other_processes_count_is_rendered_and_the_dead_have_nothing_open(tmp_path):
    shared = os.environ | {SHARED_DIRECTORY_VARIABLE: str(tmp_path)}

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=shared,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start("3", "go") as dead:
        dead.communicate(timeout=30)
    with start("4", "stay") as alive:
        assert alive.stdout.readline() == "ready\n"
        with start("5", "render") as rendering:
            text, _ = rendering.communicate(timeout=30)
        alive.communicate("", timeout=30)

    assert 'harmoni_ended_total{outcome="released"} 12.0' in text
    assert "harmoni_open 9.0" in text
    assert "harmoni_process_open_fds" in text
