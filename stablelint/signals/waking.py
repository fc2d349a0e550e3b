"""Zero-initialised parameters that an optimiser moves: what prediction and probe do to see behind them."""

from __future__ import annotations

from dataclasses import replace

from stablelint.signals.parameters import ParameterSignal
from stablelint.signals.signals import Signal, Signals

#: Size that a parameter gets, relative to a LeCun-initialised layer: small enough that 100 gates of 0.1 in a row do not
#: change the growth (1.005 per block in variance), large enough that what wakes up is far from rounding.
STEP = 0.1
#: Zero factors in a row that wake one after the other (adaLN-zero: the head, then the gate).
ROUNDS = 3
#: A factor below this share of a LeCun-initialised layer counts as zero: Adam at 1e-3 gives it that size in a step.
TINY = 1e-3
#: Adam's usual rate and its epsilon: a step is RATE * g / (|g| + EPSILON).
RATE, EPSILON = 1e-3, 1e-8
#: The sensitivity (:class:`stablelint.signals.Signal`) below which the output does not hear an op: where the rule on
#: vanishing gradients starts to take note.
FAINT = 1e-3


def moves(size: float, grad: float) -> bool:
    """Whether a step of Adam is larger than a parameter of rms ``size`` that gets ``grad``, for a unit output gradient.

    A tower whose weights wait for a checkpoint at 1e-10 learns after three steps, with a gradient of 1e-9
    (tests/probe/test_probe_waking.py); where float32 has nothing left of the gradient nothing moves.
    """
    return RATE * grad / (grad + EPSILON) > size if grad > 0 else False


def hidden(signals: Signals) -> bool:
    """Whether some parameter gets no gradient because of a zero-initialised one behind it."""
    return any(each.grad_rms == 0 and each.sleepers for each in signals.parameters)


def seen_behind(signals: Signals, woken: Signals) -> Signals:
    """``signals`` with what zeros beside the trunk hide: gradients that are 0 there, taken from those of ``woken``.

    The trunk keeps its own: branches that are not zero any more change it a little. What is not finite with woken
    values only is not so in the model.
    """
    names = {each.name: each for each in woken.parameters}

    def row(before: Signal) -> Signal:
        after = woken.by_op.get(before.op)
        if before.grad_rms != 0 or after is None or not after.grad_rms:
            return before
        return replace(
            before,
            grad_rms=after.grad_rms,
            grad_spread=after.grad_spread,
            grad_finite=after.grad_finite,
            sensitivity=after.sensitivity,
            unit_similarity=after.unit_similarity,
            retention=after.retention,
            steps_heard=after.steps_heard,
            step_variation=after.step_variation,
        )

    def parameter(before: ParameterSignal) -> ParameterSignal:
        after = names.get(before.name)
        if before.grad_rms != 0 or after is None or not after.grad_rms:
            return before
        return replace(before, grad_rms=after.grad_rms, passed_over=False)

    return replace(
        signals,
        rows=tuple(map(row, signals.rows)),
        parameters=tuple(map(parameter, signals.parameters)),
        awakened=woken.awakened,
    )
