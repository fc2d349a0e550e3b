"""The table of signals itself, and the mean-field gains."""

from __future__ import annotations

import math

import pytest
from signal_rows import along_the_trunk, row, table

from stablelint.signals import NonFinite
from stablelint.signals.theory import gain_of
from stablelint.site import Site


def test_the_trunk_is_sorted_by_block_and_leaves_out_what_lies_beside_it():
    signals = table(row(5, block=1), row(2, trunk=False), row(4, block=0), row(3, block=1))
    assert [signal.op for signal in signals.trunk] == [4, 3, 5]
    assert sorted(signals.by_op) == [2, 3, 4, 5]


def test_a_block_is_left_by_its_last_row():
    signals = table(row(1, block=0), row(2, block=0), row(3, block=1))
    assert [(number, signal.op) for number, signal in signals.blocks()] == [(0, 2), (1, 3)]
    assert signals.depth == 2


def test_the_gradient_ratio_is_first_over_last_and_growth_its_root_per_block():
    signals = along_the_trunk(grad_rms=[8.0, 4.0, 2.0, 1.0])
    assert signals.gradient_ratio == pytest.approx(8.0)
    assert signals.growth_per_block == pytest.approx(2.0)


@pytest.mark.parametrize("grads", [[], [1.0], [None, 1.0], [1.0, 0.0], [math.inf, 1.0], [1.0, math.nan, 1.0]], ids=str)
def test_there_is_no_gradient_ratio_where_it_means_nothing(grads):
    signals = along_the_trunk(grad_rms=grads)
    assert signals.gradient_ratio is None
    assert signals.growth_per_block is None


def test_a_gradient_that_never_arrives_has_ratio_zero_and_no_growth():
    signals = along_the_trunk(grad_rms=[0.0, 1.0])
    assert signals.gradient_ratio == 0.0
    assert signals.growth_per_block is None


def test_the_summary_takes_the_worst_of_all_rows():
    signals = table(
        row(1, dead=0.2, grad_rms=4.0), row(2, peak=0.9, trunk=False), row(3, dead=0.7, peak=0.1, grad_rms=2.0)
    )
    summary = signals.summary()
    assert (summary["dead"], summary["attention_peak"], summary["gradient_ratio"]) == (0.7, 0.9, 2.0)
    assert summary["finite"] is True
    assert table(nonfinite=NonFinite(1, "log", Site(), "forward", "NaN")).summary()["finite"] is False
    assert table().summary()["dead"] is None


@pytest.mark.parametrize(
    ("activation", "gain"), [("relu", math.sqrt(0.5)), ("leaky_relu", math.sqrt(0.5 * (1 + 1e-4))), ("tanh", 0.6810)]
)
def test_the_gain_of_an_activation_is_the_rms_of_its_slope(activation, gain):
    assert gain_of(activation) == pytest.approx(gain, abs=2e-3)


def test_selu_nearly_keeps_the_gradient_and_softsign_loses_most():
    gains = {name: gain_of(name) for name in ("selu", "softsign", "softplus")}
    assert gains["selu"] == pytest.approx(1.035, abs=0.01)
    assert gains["softsign"] < gains["softplus"] < gains["selu"]


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "layer_norm"])
def test_what_keeps_no_scale_has_no_gain(name):
    assert gain_of(name) is None
