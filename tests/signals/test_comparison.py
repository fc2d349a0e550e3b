"""Where measurement and prediction begin to disagree, on tables written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import SURE, Comparison, compare
from stablelint.site import Site

#: ten times the standard deviations below: beyond every band of these tests
SIGMA = 0.1
BEYOND = 10 ** (10 * SIGMA)


def chain(
    gradients: Sequence[float | None], rms: Sequence[float] | None = None, *, predicted: bool = False, line: int = 0
) -> Signals:
    """Ops in a row, all on the trunk; predictions have the standard deviation SIGMA everywhere."""
    rows = [
        Signal(
            op,
            "linear",
            Site(f"layers.{op}", "net.py", line or 10 + op),
            block=op,
            rms=1.0 if rms is None else rms[op],
            grad_rms=gradient,
            grad_spread=SIGMA if predicted and gradient is not None else None,
            sensitivity=gradient,
        )
        for op, gradient in enumerate(gradients)
    ]
    return Signals("predicted" if predicted else "measured", tuple(rows))


def in_a_row(length: int) -> Mapping[int, Sequence[int]]:
    return {op: [op + 1] if op + 1 < length else [] for op in range(length)}


def lines(found: Comparison, quantity: str = "gradient") -> list[int | None]:
    return [each.cause.site.line for each in found.surprises if each.quantity == quantity]


def test_what_agrees_is_no_surprise() -> None:
    within = 10 ** (0.9 * SURE * SIGMA)
    found = compare(chain([within, 1.0, 1.0]), chain([1.0, 1.0, 1.0], predicted=True), in_a_row(3))
    assert found.surprises == ()
    assert all(block.off == () for block in found.blocks)


def test_a_scale_that_both_ends_share_is_none() -> None:
    """A model's own loss has another size than the projection that is predicted."""
    found = compare(chain([2e-5, 1e-5, 1e-5]), chain([2.0, 1.0, 1.0], predicted=True), in_a_row(3))
    assert found.surprises == ()
    assert [block.gradient for block in found.blocks] == pytest.approx([2e-5, 1e-5, 1e-5])


def test_only_the_op_where_it_begins_on_the_way_back_is_named() -> None:
    measured = chain([BEYOND, BEYOND, BEYOND, 1.0, 1.0])
    found = compare(measured, chain([1.0] * 5, predicted=True), in_a_row(5))
    (surprise,) = found.surprises
    assert (surprise.signal.op, surprise.cause.op) == (2, 3), "op 3 hands back what arrives at op 2"
    assert (surprise.measured, surprise.predicted) == pytest.approx((BEYOND, 1.0))
    assert (surprise.low, surprise.high) == pytest.approx((10 ** (-SURE * SIGMA), 10 ** (SURE * SIGMA)))
    assert [block.number for block in found.blocks if block.off] == [0, 1, 2]


def test_a_second_step_begins_another() -> None:
    measured = chain([BEYOND**3, BEYOND**3, BEYOND, 1.0])
    assert lines(compare(measured, chain([1.0] * 4, predicted=True), in_a_row(4))) == [13, 12]


def test_what_turns_around_begins_another() -> None:
    measured = chain([1 / BEYOND, BEYOND, 1.0])
    assert lines(compare(measured, chain([1.0] * 3, predicted=True), in_a_row(3))) == [12, 11]


def test_an_op_of_which_nothing_is_predicted_is_looked_through() -> None:
    measured = chain([BEYOND, BEYOND, BEYOND, 1.0])
    found = compare(measured, chain([1.0, None, 1.0, 1.0], predicted=True), in_a_row(4))
    assert lines(found) == [13]


def test_a_branch_explains_what_it_hands_to_the_stream() -> None:
    """0 feeds the branch 1 and the sum 2; only the branch is off, and so is what it hands back."""
    feeds = {0: [1, 2], 1: [2], 2: [3], 3: []}
    found = compare(chain([BEYOND, BEYOND, 1.0, 1.0]), chain([1.0] * 4, predicted=True), feeds)
    (surprise,) = found.surprises
    assert (surprise.signal.op, surprise.cause.op) == (1, 2)
    silent = compare(chain([BEYOND, 1.0, 1.0, 1.0]), chain([1.0] * 4, predicted=True), feeds)
    (surprise,) = silent.surprises
    assert surprise.cause.op == 0, "of two ops that hand something back neither is accused"


def test_the_rms_begins_on_the_way_forward() -> None:
    level = [1.0] * 5
    measured = chain(level, [1.0, BEYOND, BEYOND, BEYOND**3, 1.0])
    found = compare(measured, chain(level, level, predicted=True), in_a_row(5))
    assert lines(found, "rms") == [11, 13]
    assert [block.off for block in found.blocks] == [(), ("rms",), ("rms",), ("rms",), ()]


def test_the_rms_needs_no_gradient() -> None:
    """Where the backward pass is not finite the forward one is compared all the same."""
    measured = chain([math.inf] * 3, [1.0, BEYOND, BEYOND])
    assert lines(compare(measured, chain([1.0] * 3, [1.0] * 3, predicted=True), in_a_row(3)), "rms") == [11]


def test_masks_are_no_activations() -> None:
    found = compare(chain([1.0] * 2, [3e38, 1.0]), chain([1.0] * 2, [1.0, 1.0], predicted=True), in_a_row(2))
    assert found.surprises == ()


def test_seeds_that_differ_widen_the_band() -> None:
    measured = chain([BEYOND, 1.0])
    wide = replace(measured, rows=(replace(measured.rows[0], grad_spread=10 * SIGMA), measured.rows[1]))
    predicted = chain([1.0, 1.0], predicted=True)
    assert compare(measured, predicted, in_a_row(2)).surprises
    assert not compare(wide, predicted, in_a_row(2)).surprises
    dropped = replace(measured, rows=(replace(measured.rows[0], grad_rms=0.0, grad_spread=math.inf), measured.rows[1]))
    assert not compare(dropped, predicted, in_a_row(2)).surprises, "a branch that is dropped at random"


@pytest.mark.parametrize(
    ("measured", "predicted", "surprises"),
    [
        (0.0, 1e-3, True),
        (0.0, 1e-60, False),  # float32 holds no such number
        (0.0, 0.0, False),
        (1e-3, 0.0, True),
        (1e-8, 0.0, False),  # what cancels leaves rounding
        (math.inf, 1.0, True),
        (math.inf, 1e60, False),
    ],
)
def test_zero_and_infinite_gradients(measured: float, predicted: float, surprises: bool) -> None:
    found = compare(chain([measured, 1.0]), chain([predicted, 1.0], predicted=True), in_a_row(2))
    assert bool(found.surprises) is surprises


def test_repeated_blocks_are_one_entry() -> None:
    """Each block on the same line adds a step: one entry, which is the first on the way back."""
    measured = chain([BEYOND**3, BEYOND**2, BEYOND, 1.0], line=7)
    (surprise,) = compare(measured, chain([1.0] * 4, predicted=True, line=7), in_a_row(4)).surprises
    assert (surprise.places, surprise.cause.op) == (3, 3)


def test_what_lies_behind_the_head_is_a_loss() -> None:
    """The last op has no sensitivity: the reference is the one before, and the loss is not compared."""
    measured, predicted = chain([1.0, 1.0, BEYOND]), chain([1.0, 1.0, 1.0], predicted=True)
    without = [
        replace(each, rows=(*each.rows[:2], replace(each.rows[2], sensitivity=None))) for each in (measured, predicted)
    ]
    assert compare(*without, in_a_row(3)).surprises == ()
    assert compare(measured, predicted, in_a_row(3)).surprises, "else it is the reference"


def test_an_op_without_a_rule_is_marked() -> None:
    predicted = replace(chain([1.0, 1.0], predicted=True), doubts=("linear",))
    (surprise,) = compare(chain([BEYOND, 1.0]), predicted, in_a_row(2)).surprises
    assert surprise.guessed


def test_without_a_prediction_there_are_blocks_and_no_surprises() -> None:
    found = compare(chain([1.0, 1.0]), None, {})
    assert [(block.number, block.gradient, block.band) for block in found.blocks] == [(0, None, None), (1, None, None)]
    assert found.surprises == ()
