"""Predictions near a threshold say so, and are no errors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from signal_rows import along_the_trunk, only, row

from stablelint.finding import Level
from stablelint.signals import Signals
from stablelint.signals.signals import NINETY
from stablelint.symptoms.exploding_gradient import exploding_gradient
from stablelint.symptoms.vanishing_gradient import vanishing_gradient


def predicted(first: float, spread: float | None) -> Signals:
    return replace(measured(first, spread), source="predicted")


def measured(first: float, spread: float | None) -> Signals:
    return along_the_trunk(sensitivity=[first, 1.0], grad_spread=[spread, 0.0])


def test_the_doubt_of_a_row_is_the_factor_of_its_band_where_the_threshold_is_inside():
    signal = row(1, grad_spread=0.5)
    width = NINETY * 0.5
    assert signal.doubt(1.0, 10 ** (0.99 * width)) == pytest.approx(10**width)
    assert signal.doubt(1.0, 10 ** (-0.99 * width)) == pytest.approx(10**width)
    assert signal.doubt(1.0, 10 ** (1.01 * width)) is None
    for value in (0.0, math.inf, math.nan):
        assert signal.doubt(value, 1.0) is None
    assert row(1).doubt(1.0, 1.0) is None


@pytest.mark.parametrize(("rule", "beyond", "far"), [(vanishing_gradient, 5e-6, 1e-9), (exploding_gradient, 2e3, 1e9)])
def test_an_error_within_its_band_is_a_warning_that_says_so(rule, beyond, far):
    hit = only(rule, predicted(beyond, 0.4))
    assert hit.level is Level.WARNING
    assert "lies within the uncertainty of the prediction, a factor of 4.5 each way: --probe measures" in hit.message
    assert hit.facts["uncertainty"] == pytest.approx(4.55, rel=0.01)
    for certain in (predicted(far, 0.4), predicted(beyond, 0.1), predicted(beyond, None)):
        hit = only(rule, certain)
        assert hit.level is Level.ERROR
        assert "uncertainty" not in hit.message
        assert "uncertainty" not in hit.facts
    assert only(rule, measured(beyond, 0.4)).level is Level.ERROR, "seeds that differ are no doubt of a prediction"


@pytest.mark.parametrize(("rule", "value"), [(vanishing_gradient, 2e-5), (exploding_gradient, 700.0)])
def test_a_note_near_the_threshold_of_an_error_says_so_too(rule, value):
    hit = only(rule, predicted(value, 0.4))
    assert hit.level is Level.NOTE
    assert "uncertainty of the prediction" in hit.message


@pytest.mark.parametrize(("rule", "beyond", "far"), [(vanishing_gradient, 5e-6, 1e-9), (exploding_gradient, 2e3, 1e9)])
def test_a_mean_of_few_draws_near_the_threshold_is_undecided(rule, beyond, far):
    def drawn(value: float, margin: float) -> Signals:
        first, last = along_the_trunk(sensitivity=[value, 1.0]).rows
        return replace(
            along_the_trunk(sensitivity=[value, 1.0]),
            rows=(replace(first, margins={"sensitivity": margin}), last),
            seeds=6,
        )

    hit = only(rule, drawn(beyond, 0.5))
    assert hit.level is Level.WARNING
    assert "undecided: the mean of 6 draws is known within a factor of 3.2" in hit.message
    assert hit.facts["uncertainty"] == pytest.approx(10**0.5)
    for certain in (drawn(far, 0.5), drawn(beyond, 0.1)):
        assert only(rule, certain).level is Level.ERROR
        assert "uncertainty" not in only(rule, certain).facts


def test_a_healthy_mean_near_the_threshold_is_undecided_too():
    first, last = along_the_trunk(sensitivity=[300.0, 1.0]).rows
    signals = replace(
        along_the_trunk(sensitivity=[300.0, 1.0]), rows=(replace(first, margins={"sensitivity": 1.0}), last), seeds=24
    )
    hit = only(exploding_gradient, signals)
    assert hit.level is Level.NOTE
    assert "undecided" in hit.message
