"""Growth per block and the place where the gradient breaks: tables made by hand, and closed forms."""

from __future__ import annotations

import math
import random

import pytest
from signal_rows import along_the_trunk, row, table

from stablelint.signals import Signals, exponents


def growing(factor: float, blocks: int, start: float = 1.0) -> list[float | None]:
    """Gradients from input to output that every block multiplies by ``factor`` on the way back."""
    return [start * factor ** (blocks - block) for block in range(1, blocks + 1)]


def place(signals: Signals) -> tuple[int | None, float] | None:
    found = signals.breaks
    return None if found is None else (found.signal.block, found.factor)


@pytest.mark.parametrize("factor", [0.25, 0.9, 1.0, 3.0])
@pytest.mark.parametrize("blocks", [2, 3, 40])
def test_an_even_chain_has_the_exponent_of_one_block(factor, blocks):
    signals = along_the_trunk(grad_rms=growing(factor, blocks))
    assert signals.gradient_exponent == pytest.approx(math.log(factor), abs=1e-12)
    assert signals.summary()["gradient_exponent"] == signals.gradient_exponent


def test_a_stem_unlike_the_rest_moves_the_slope_less_than_the_end_points():
    gradients = [1e3, *growing(0.9, 30)]
    signals = along_the_trunk(grad_rms=gradients)
    growth = signals.growth_per_block
    assert growth is not None
    assert abs(signals.gradient_exponent - math.log(0.9)) < 0.7 * abs(math.log(growth) - math.log(0.9))


def test_the_slope_varies_as_its_documentation_says():
    """By 12 s/n**3 for deviations of single blocks and by 6/5 of the end points' for those that add up."""
    draw, n, single, walked = random.Random(0), 20, [], []
    for _ in range(3000):
        steps = [draw.gauss(0, 1) for _ in range(n)]
        single.append(exponents.slope(list(enumerate(steps))))
        walked.append(exponents.slope([(block, math.fsum(steps[:block])) for block in range(n)]))
    variance = [math.fsum(value * value for value in values) / len(values) for values in (single, walked)]
    assert variance[0] == pytest.approx(12 / n**3, rel=0.1)
    assert variance[1] == pytest.approx(6 / 5 / n, rel=0.1)


@pytest.mark.parametrize("gradients", [[], [1.0], [None, 1.0], [1.0, 0.0], [1.0, math.inf], [math.nan, 1.0]], ids=str)
def test_there_is_no_exponent_without_two_gradients(gradients):
    signals = along_the_trunk(grad_rms=gradients)
    assert signals.gradient_exponent is None


def test_a_gradient_that_underflows_counts_as_far_as_it_gets():
    signals = along_the_trunk(grad_rms=[0.0, 0.0, *growing(0.1, 20)])
    assert signals.gradient_exponent == pytest.approx(math.log(0.1))
    assert place(along_the_trunk(grad_rms=[0.0, 0.0, 1.0, 1.0])) == (3, 0.0)


def test_unknown_gradients_keep_their_place():
    gradients = growing(0.5, 9)
    gradients[3] = gradients[4] = None
    assert along_the_trunk(grad_rms=gradients).gradient_exponent == pytest.approx(math.log(0.5))


def test_the_angle_exponent_is_that_of_samples_or_of_tokens_where_there_are_tokens():
    samples = [1 - 0.9 * 0.5**block for block in range(10)]
    tokens = [1 - 0.9 * 0.8**block for block in range(10)]
    assert along_the_trunk(similarity=samples).angle_exponent == pytest.approx(math.log(0.5))
    both = along_the_trunk(similarity=samples, token_similarity=tokens)
    assert both.angle_exponent == pytest.approx(math.log(0.8))
    few = along_the_trunk(similarity=samples, token_similarity=[*tokens[:3], *[None] * 7])
    assert few.angle_exponent == pytest.approx(math.log(0.5))


def test_what_rounding_leaves_of_a_difference_does_not_flatten_the_slope():
    collapsed = [1 - 0.5 * 0.01**block for block in range(5)] + [1.0] * 40
    assert along_the_trunk(similarity=collapsed).angle_exponent == pytest.approx(math.log(0.01))
    at_once = along_the_trunk(similarity=[0.0, 1.0, 1.0, 1.0])
    assert at_once.angle_exponent == pytest.approx(math.log(exponents.LEAST_DISSIMILARITY))


def test_the_similarity_of_a_block_is_that_of_its_last_op_that_has_one():
    rows = [row(1, block=0, similarity=0.2), row(2, block=0), row(3, block=1, similarity=0.6), row(4, block=1)]
    assert table(*rows).angle_exponent == pytest.approx(math.log(0.4 / 0.8))
    assert table(*rows[:2]).angle_exponent is None


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_nothing_breaks_within_a_factor_of_a_thousand(factor):
    assert place(along_the_trunk(grad_rms=growing(factor, 25))) is None


@pytest.mark.parametrize(("factor", "passed"), [(0.1, 1e-3), (10.0, 1e3)])
def test_a_change_that_is_spread_breaks_where_it_passes_the_factor(factor, passed):
    gradients = growing(factor, 20)
    block, own = place(along_the_trunk(grad_rms=gradients))
    assert own == pytest.approx(factor)
    before, behind = gradients[block - 2], gradients[block - 1]
    assert abs(math.log(before)) > abs(math.log(passed)) >= abs(math.log(behind)) - 1e-9


@pytest.mark.parametrize("own", [1e-6, 1e6])
def test_one_bad_block_is_named(own):
    behind, ahead = growing(1.0, 6), growing(1.0, 4)
    gradients = [own * value for value in ahead] + behind
    assert place(along_the_trunk(grad_rms=gradients)) == (5, pytest.approx(own))


@pytest.mark.parametrize(
    ("own", "sensitivity", "broken"),
    [(1e4, 30.0, False), (1e4, 2e3, True), (1e4, math.inf, True), (1e-4, 0.1, False), (1e-4, 1e-5, True)],
)
def test_a_gradient_that_only_follows_the_size_of_the_activations_is_intact(own, sensitivity, broken):
    """Behind a norm small embeddings get a large gradient, and what the output hears of them is as it should be."""
    signals = along_the_trunk(grad_rms=[own, 1.0, 1.0], sensitivity=[sensitivity, 1.0, 1.0])
    assert (place(signals) is not None) is broken


def test_the_op_of_the_block_that_does_it_is_named():
    rows = [
        row(1, block=0, grad_rms=1e-6),
        row(2, "linear", block=1, grad_rms=0.8),
        row(3, "relu", block=1, grad_rms=1),
    ]
    summary = table(*rows, row(4, block=2, grad_rms=1.0)).summary()
    assert (summary["break_block"], summary["break_op"], summary["break_site"]) == (1, "linear layer2", "net.py:2")
    assert summary["break_factor"] == pytest.approx(1e-6)


def test_an_overflow_breaks_where_the_gradient_stops_being_finite():
    assert place(along_the_trunk(grad_rms=[math.inf, 1.0, 1.0])) == (2, math.inf)
    assert place(along_the_trunk(grad_rms=[math.nan, 1.0, 1.0])) == (2, math.inf)
    assert place(along_the_trunk(grad_rms=[1.0, math.inf])) is None


def test_the_summary_has_the_extremes_of_sensitivity():
    summary = along_the_trunk(sensitivity=[0.5, 1e-3, math.inf, 2.0]).summary()
    assert (summary["least_sensitivity"], summary["most_sensitivity"]) == (1e-3, 2.0)
    assert table().summary()["least_sensitivity"] is None
