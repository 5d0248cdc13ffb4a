import pytest

from harmoni.runtime.metrics import Metrics


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
