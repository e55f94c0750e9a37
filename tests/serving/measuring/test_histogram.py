"""Latency histograms: percentiles as exact as they claim to be."""

import csv
import math

import numpy as np
import pytest

from parity.serving.measuring.histogram import Histogram


def recorded(seconds: np.ndarray) -> Histogram:
    histogram = Histogram()
    for value in seconds:
        histogram.record(float(value))
    return histogram


def test_percentiles_are_those_of_the_values_to_three_digits() -> None:
    values = np.random.default_rng(0).lognormal(-2, 1, 20_011)
    histogram = recorded(values)
    for percent in (1, 50, 99, 99.9, 99.99, 100):
        exact = float(np.percentile(values, percent, method="inverted_cdf"))
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.001)
    assert histogram.mean == pytest.approx(values.mean())
    assert histogram.max == values.max()


def test_short_times_are_exact_to_the_microsecond() -> None:
    histogram = recorded(np.array([0.000001, 0.002047]))
    assert histogram.percentiles((50, 100)) == [0.000001, 0.002047]


def test_histograms_add_up() -> None:
    values = np.random.default_rng(0).exponential(0.1, 500)
    first, second = recorded(values[:100]), recorded(values[100:])
    first.add(second)
    assert first.summary() == recorded(values).summary()


def test_no_values_have_no_percentiles() -> None:
    assert math.isnan(Histogram().percentile(99))
    assert Histogram().summary()["p99.9"] is None
    assert Histogram().csv().count("\n") == 1


def test_the_csv_is_a_cumulative_distribution_that_ends_with_the_largest_value() -> None:
    lines = list(csv.DictReader(recorded(np.array([0.1, 0.1, 0.2, 0.4])).csv().splitlines()))
    assert [line["TotalCount"] for line in lines] == ["2", "3", "4"]
    assert lines[0]["1/(1-Percentile)"] == "2.00"
    assert lines[-1] == {"Value": "400.000", "Percentile": "1.00000000", "TotalCount": "4", "1/(1-Percentile)": "inf"}
