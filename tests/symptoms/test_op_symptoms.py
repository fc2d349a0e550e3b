"""The symptoms that single ops show: dead and identical units, saturated attention, decay in time, NaN."""

from __future__ import annotations

import math

import pytest
from signal_rows import along_the_trunk, level, only, row, table

from stablelint.finding import Level
from stablelint.graph.families import WEIGHTED
from stablelint.signals import NonFinite
from stablelint.site import Site
from stablelint.symptoms.dead_units import dead_units
from stablelint.symptoms.gradient_decay_in_time import gradient_decay_in_time
from stablelint.symptoms.identical_units import identical_units
from stablelint.symptoms.non_finite import non_finite
from stablelint.symptoms.saturated_attention import saturated_attention

INF, NAN = math.inf, math.nan


# ---- dead units


@pytest.mark.parametrize(
    ("dead", "expected"),
    [(None, None), (NAN, None), (0.5, None), (0.8, None), (0.801, Level.WARNING), (0.95, Level.WARNING),
     (0.951, Level.ERROR), (1.0, Level.ERROR)],
)  # fmt: skip
def test_dead_units_start_above_their_thresholds(dead, expected):
    assert level(dead_units, along_the_trunk(dead=[0.4, dead])) is expected


def test_dead_units_are_reported_once_at_the_first_layer_with_the_share_of_the_worst():
    hit = only(dead_units, along_the_trunk(dead=[0.1, 0.85, 1.0, 0.9]))
    assert (hit.site.line, hit.span, hit.level) == (2, (2, 3, 4), Level.ERROR)
    assert hit.facts == {"dead": 1.0, "layers": 3}
    assert hit.message.startswith("100% of the units of linear layer3")


def test_a_rectifier_beside_the_trunk_may_be_off():
    assert level(dead_units, table(row(1, dead=1.0, trunk=False))) is None


def test_the_thresholds_of_dead_units_are_its_parameters():
    signals = along_the_trunk(dead=[0.5])
    assert level(dead_units, signals, warning_above=0.4) is Level.WARNING
    assert level(dead_units, signals, warning_above=0.4, error_above=0.45) is Level.ERROR


# ---- identical units


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [(None, None), (NAN, None), (0.99, None), (0.999999, None), (0.9999995, Level.ERROR), (1.0, Level.ERROR)],
)
def test_units_are_identical_only_to_float_precision(similarity, expected):
    assert level(identical_units, along_the_trunk(unit_similarity=[0.1, similarity])) is expected


def test_identical_units_are_reported_once_with_all_layers():
    hit = only(identical_units, along_the_trunk(unit_similarity=[0.2, 1.0, 1.0]))
    assert (hit.site.line, hit.span, hit.modules) == (2, (2, 3), ("layer2", "layer3"))
    assert hit.message.endswith("in 2 layers")
    assert only(identical_units, along_the_trunk(unit_similarity=[1.0])).message.endswith("in 1 layer")


@pytest.mark.parametrize("name", ["relu", "softmax", "input", *sorted(WEIGHTED)])
def test_only_layers_have_identical_units(name):
    expected = Level.ERROR if name in WEIGHTED else None
    assert level(identical_units, table(row(1, name, unit_similarity=1.0))) is expected


def test_layers_beside_the_trunk_are_not_asked_for_identical_units():
    assert level(identical_units, table(row(1, unit_similarity=1.0, trunk=False))) is None


# ---- saturated attention


@pytest.mark.parametrize(
    ("peak", "expected"),
    [(None, None), (NAN, None), (0.3, None), (0.7, None), (0.701, Level.WARNING), (0.95, Level.WARNING),
     (0.951, Level.ERROR), (1.0, Level.ERROR)],
)  # fmt: skip
def test_attention_is_saturated_above_its_thresholds(peak, expected):
    assert level(saturated_attention, table(row(1, "softmax", peak=peak, uniform_peak=0.1))) is expected


@pytest.mark.parametrize(("uniform", "expected"), [(None, None), (1.0, None), (1 / 3, None), (0.33, Level.ERROR)])
def test_attention_over_few_tokens_must_exceed_uniform_attention_three_times(uniform, expected):
    assert level(saturated_attention, table(row(1, "softmax", peak=1.0, uniform_peak=uniform))) is expected


def test_every_saturated_attention_is_reported_also_beside_the_trunk():
    rows = [row(op, "softmax", trunk=False, peak=peak, uniform_peak=0.01) for op, peak in enumerate((0.99, 0.2, 0.8))]
    hits = saturated_attention.hits(table(*rows))
    assert [(hit.span, hit.level) for hit in hits] == [((0,), Level.ERROR), ((2,), Level.WARNING)]


# ---- decay in time


@pytest.mark.parametrize(
    ("retention", "expected"),
    [(None, None), (NAN, None), (0.0, Level.ERROR), (0.349, Level.ERROR), (0.35, None), (1.0, None), (3.0, None),
     (3.01, Level.ERROR), (INF, Level.ERROR)],
)  # fmt: skip
def test_a_recurrent_layer_is_healthy_between_its_thresholds(retention, expected):
    assert level(gradient_decay_in_time, table(row(1, "lstm", trunk=False, retention=retention))) is expected


@pytest.mark.parametrize(("retention", "verb"), [(0.1, "keeps"), (10.0, "multiplies by")])
def test_decay_and_growth_in_time_are_told_apart(retention, verb):
    hit = only(gradient_decay_in_time, table(row(4, "gru", retention=retention)))
    assert hit.message.startswith(f"gru {verb} {retention:.1e}")
    assert (hit.site.line, hit.span) == (4, (4,))


def test_every_layer_that_forgets_is_reported():
    rows = [row(op, "rnn", retention=retention) for op, retention in enumerate((0.1, 0.9, 0.2))]
    assert [hit.span for hit in gradient_decay_in_time.hits(table(*rows))] == [(0,), (2,)]


# ---- NaN and infinity


def test_finite_signals_have_nothing_to_report():
    assert non_finite.hits(table(row(1, rms=INF, finite=False))) == []


@pytest.mark.parametrize(("masked", "expected"), [(False, Level.ERROR), (True, Level.WARNING)])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_first_op_that_is_not_finite_is_reported(masked, expected, direction):
    broken = NonFinite(7, "sqrt", Site("norm", "net.py", 7), direction, "infinity", masked)
    hit = only(non_finite, table(nonfinite=broken))
    assert (hit.level, hit.span, hit.site.line, hit.modules) == (expected, (7,), 7, ("norm",))
    assert hit.message.startswith(f"sqrt yields infinity in the {direction} pass")
    assert ("zero mask" in hit.message) is masked
