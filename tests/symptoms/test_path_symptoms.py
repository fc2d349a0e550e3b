"""Vanishing and exploding gradients: read off the sensitivities of the trunk."""

from __future__ import annotations

import math

import pytest
from signal_rows import along_the_trunk, level, only, row, table

from stablelint.finding import Level
from stablelint.signals import NonFinite
from stablelint.site import Site
from stablelint.symptoms.exploding_gradient import exploding_gradient
from stablelint.symptoms.vanishing_gradient import vanishing_gradient

INF, NAN = math.inf, math.nan
BROKEN = NonFinite(1, "log", Site(), "forward", "NaN")
LEAST_NOTE = 10**2.5


# ---- vanishing


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        (1.0, None),
        (1e-3, None),
        (0.999e-3, Level.NOTE),
        (1e-5, Level.NOTE),
        (0.999e-5, Level.ERROR),
        (0.0, Level.ERROR),
    ],
)
def test_vanishing_starts_below_its_thresholds(least, expected):
    assert level(vanishing_gradient, along_the_trunk(sensitivity=[least, 0.1, 1.0])) is expected


def test_the_thresholds_of_vanishing_are_its_parameters():
    signals = along_the_trunk(sensitivity=[0.5, 1.0])
    assert level(vanishing_gradient, signals, note_below=0.6, error_below=0.1) is Level.NOTE
    assert level(vanishing_gradient, signals, note_below=0.6, error_below=0.55) is Level.ERROR


def test_vanishing_is_reported_where_the_gradient_on_its_way_back_falls_below_the_threshold():
    hit = only(vanishing_gradient, along_the_trunk(sensitivity=[1e-9, 1e-6, 1e-4, 1e-2, 1.0]))
    assert hit.site.line == 3
    assert hit.span == (1, 5)
    assert hit.facts["sensitivity"] == 1e-9


def test_what_lies_before_the_weakest_op_is_not_the_place_of_vanishing():
    hit = only(vanishing_gradient, along_the_trunk(sensitivity=[1e-4, 1.0, 1e-9, 1.0]))
    assert hit.site.line == 3
    assert hit.span == (3, 4)


def test_the_message_of_vanishing_gives_the_ratio_of_gradients_where_it_is_known():
    known = along_the_trunk(sensitivity=[1e-6, 1e-3, 1.0], grad_rms=[1e-4, 1e-2, 1.0])
    assert "gradient first/last block 1.0e-04, 0.01 per block" in only(vanishing_gradient, known).message
    unknown = along_the_trunk(sensitivity=[1e-6, 1e-3, 1.0])
    assert "first/last" not in only(vanishing_gradient, unknown).message


def test_a_gradient_of_exactly_zero_is_said_to_be_so():
    assert "it is exactly 0" in only(vanishing_gradient, along_the_trunk(sensitivity=[0.0, 1.0])).message


def test_rows_beside_the_trunk_do_not_vanish():
    signals = table(row(1, sensitivity=1.0), row(2, trunk=False, sensitivity=1e-9), row(3, sensitivity=1.0))
    assert level(vanishing_gradient, signals) is None


@pytest.mark.parametrize("unknown", [None, NAN, INF])
def test_unknown_and_non_finite_sensitivities_do_not_vanish(unknown):
    assert level(vanishing_gradient, along_the_trunk(sensitivity=[unknown, unknown])) is None
    assert level(vanishing_gradient, along_the_trunk(sensitivity=[unknown, 1.0])) is None
    hit = only(vanishing_gradient, along_the_trunk(sensitivity=[unknown, 1e-9, 1.0]))
    assert hit.span == (2, 3)


# ---- exploding


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (1.0, None),
        (LEAST_NOTE, None),
        (LEAST_NOTE * 1.001, Level.NOTE),
        (1e3, Level.NOTE),
        (1.001e3, Level.ERROR),
        (1e30, Level.ERROR),
    ],
)
def test_exploding_starts_above_its_thresholds(largest, expected):
    assert level(exploding_gradient, along_the_trunk(sensitivity=[largest, 10.0, 1.0])) is expected


def test_the_thresholds_of_exploding_are_its_parameters():
    signals = along_the_trunk(sensitivity=[5.0, 1.0])
    assert level(exploding_gradient, signals, note_above=4.0, error_above=6.0) is Level.NOTE
    assert level(exploding_gradient, signals, note_above=4.0, error_above=4.5) is Level.ERROR


def test_exploding_is_reported_where_the_gradient_on_its_way_back_passes_the_threshold():
    hit = only(exploding_gradient, along_the_trunk(sensitivity=[1e6, 1e4, 1e2, 1.0], grad_rms=[1e6, 1e4, 1e2, 1.0]))
    assert hit.site.line == 2
    assert hit.span == (1, 4)
    assert hit.facts["sensitivity"] == 1e6
    assert "gradient first/last block 1.0e+06, 1e+02 per block" in hit.message


def test_a_stream_that_only_grows_forward_is_reported_at_its_most_sensitive_op():
    hit = only(exploding_gradient, along_the_trunk(sensitivity=[1.0, 1e6, 1e4], grad_rms=[1.0, 1.0, 1.0]))
    assert hit.site.line == 2
    assert hit.modules == ("layer2",)


def test_rows_beside_the_trunk_do_not_explode():
    signals = table(row(1, sensitivity=1.0), row(2, trunk=False, sensitivity=1e9))
    assert level(exploding_gradient, signals) is None


@pytest.mark.parametrize("overflow", [INF, NAN])
def test_a_sensitivity_that_overflows_explodes_if_no_op_is_to_blame(overflow):
    signals = along_the_trunk(sensitivity=[overflow, 10.0, 1.0])
    assert level(exploding_gradient, signals) is Level.ERROR


@pytest.mark.parametrize("overflow", [INF, NAN])
def test_what_is_not_finite_because_of_one_op_is_left_to_that_op(overflow):
    blamed = {"nonfinite": BROKEN}
    for sensitivity in ([overflow, overflow], [overflow, 10.0, 1.0]):
        rows = along_the_trunk(sensitivity=sensitivity).rows
        assert level(exploding_gradient, table(*rows, **blamed)) is None
    rows = along_the_trunk(sensitivity=[overflow, 1e6, 1.0]).rows
    assert only(exploding_gradient, table(*rows, **blamed)).facts["sensitivity"] == 1e6


@pytest.mark.parametrize("overflow", [INF, NAN])
def test_a_trunk_without_any_finite_row_is_reported_at_its_start(overflow):
    hit = only(exploding_gradient, along_the_trunk(sensitivity=[overflow, overflow]))
    assert hit.site.line == 1
    assert hit.level is Level.ERROR


def test_nothing_is_said_of_a_trunk_without_sensitivities():
    assert level(exploding_gradient, along_the_trunk(sensitivity=[None, None])) is None
    assert level(exploding_gradient, table()) is None
    assert level(vanishing_gradient, table()) is None
