"""Saturated activations: what is left open along the trunk decides, and gates beside it do not count."""

from __future__ import annotations

import pytest
from signal_rows import level, only, row, table

from stablelint.finding import Level
from stablelint.signals import Signals
from stablelint.symptoms.saturated_activation import saturated_activation


def layers(*shares: float, name: str = "tanh", head: bool = True) -> Signals:
    """Layers with their activations, and a last layer behind them."""
    rows = []
    for share in shares:
        rows += [row(len(rows)), row(len(rows) + 1, name, saturated=share)]
    return table(*rows, row(len(rows))) if head else table(*rows)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.0, 0.003], None),
        ([0.4], None),
        ([0.5], None),
        ([0.55], Level.NOTE),
        ([0.85], Level.NOTE),
        ([0.92], Level.WARNING),
        ([0.995], Level.ERROR),
        ([0.3] * 6, None),  # 0.7**6 = 0.12
        ([0.4] * 5, Level.WARNING),  # 0.078
        ([0.6] * 5, Level.WARNING),  # 0.0102
        ([0.6] * 6, Level.ERROR),  # 0.0041
    ],
)
def test_the_open_share_of_all_layers_decides(shares, expected):
    assert level(saturated_activation, layers(*shares)) is expected


def test_the_thresholds_are_its_parameters():
    signals = layers(0.3)
    assert level(saturated_activation, signals, note_above=0.2) is Level.NOTE
    assert level(saturated_activation, signals, warning_below=0.8) is Level.WARNING
    assert level(saturated_activation, signals, warning_below=0.8, error_below=0.75) is Level.ERROR


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softsign", "erf"])
def test_smooth_functions_count(name):
    assert level(saturated_activation, layers(0.95, 0.95, name=name)) is Level.ERROR


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "hardsigmoid", "hardswish"])
def test_functions_with_corners_are_flat_by_design(name):
    assert level(saturated_activation, layers(0.95, 0.95, name=name)) is None


def test_a_gate_beside_the_trunk_does_no_harm():
    signals = table(row(1), row(2, "sigmoid", trunk=False, saturated=0.99), row(3, "mul"), row(4))
    assert level(saturated_activation, signals) is None


def test_the_output_may_be_squashed_hard_and_is_a_warning_at_most():
    assert level(saturated_activation, layers(0.999, head=False)) is Level.WARNING
    assert level(saturated_activation, layers(0.95, 0.95, head=False)) is Level.WARNING
    assert level(saturated_activation, layers(0.95, 0.95, 0.95, head=False)) is Level.ERROR


def test_the_place_is_the_first_layer_that_does_it():
    hit = only(saturated_activation, layers(0.001, 0.9, 0.001, 0.95))
    assert hit.site.line == 3
    assert hit.span == (3, 7)
    assert hit.facts == {"saturated": 0.95, "open": pytest.approx(0.00499, rel=1e-3), "layers": 4}
    assert "4 such layers in a row leave 0.005" in hit.message


def test_nothing_is_said_where_nothing_saturates_or_is_known():
    assert level(saturated_activation, table()) is None
    assert level(saturated_activation, table(row(1, "tanh"), row(2))) is None
