"""Intervals around means of few draws hold the mean as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stablelint.signals.interval import DECADES, LEVEL, half_width, quantile


@pytest.mark.parametrize(
    ("freedom", "expected"), [(5, 6.869), (6, 5.959), (8, 5.041), (11, 4.437), (20, 3.850), (30, 3.646)]
)
def test_quantiles_are_those_of_the_table(freedom: int, expected: float) -> None:
    """Two-sided 99.9%, Abramowitz & Stegun table 26.10."""
    assert quantile(LEVEL, freedom) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("draws", [2, 3, 6, 24])
@pytest.mark.parametrize("spread", [0.3 * DECADES, DECADES])
def test_one_interval_in_a_thousand_misses(draws: int, spread: float) -> None:
    random = np.random.default_rng(draws)
    samples = random.normal(0.0, spread, (20_000, draws))
    widths = [half_width(row.tolist(), DECADES) for row in samples]
    missed = np.mean(np.abs(samples.mean(1)) > np.array(widths))
    assert missed < 0.0016  # 0.001, and two standard errors of 20,000


def test_a_spread_that_is_larger_than_expected_is_noticed_by_many_draws() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.0, 4 * DECADES, 24).tolist()
    assert half_width(values, DECADES) == pytest.approx(3.7 * 4 * DECADES / math.sqrt(24), rel=0.3)


def test_what_is_not_finite_decides_nothing() -> None:
    assert half_width([0.0], DECADES) is None
    assert half_width([0.0, -math.inf, 0.0], DECADES) == math.inf
