"""Zero-initialised parameters that an optimiser moves: what prediction and probe do to see behind them."""

from __future__ import annotations

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
