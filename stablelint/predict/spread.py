"""How sure a prediction is: how far the squared gradient of one random network lies from its expectation.

The tables hold expectations over all draws of the weights. A network is one draw, and its gradient is a product over
depth, so what is left uncertain adds up in the logarithm: ``spread`` is the variance of ln g^2 of a cotangent that
comes from the weights, ``unsure`` what comes on top. The typical network (the geometric mean) lies spread / 2 below the
logarithm of the expectation, as for every log-normal variable, and that is what is reported.

- A layer of random weights gives n features the cotangent W^T g, whose square is chi-squared with n degrees of freedom
  per direction of g: 2 / n. A ReLU in front lets half of the features through, which makes it 5 / n: the result of
  Hanin & Nica (2020, arXiv:1812.05994, theorem 1). It is divided by the number of directions that samples and
  positions span (the inverse mean squared correlation between them). The squared correlation of two directions is not
  the square of the mean that the table holds: it grows by 1 / n with every layer of n features, as the product of the
  weights comes to have one leading singular value, and each mask that differs between samples takes some away
  (``alike``).
- The share that saturated attention passes is the mean over few rows (:mod:`stablelint.predict.transfer.softmax`).
- An op that no rule covers may be off by any factor: a factor of 3 each way is taken as its standard deviation.
- Where paths meet, only what they do not have in common averages out.

What the rules themselves neglect is not known but measured: scripts/measure_prediction.py compares 302 models with the
prediction, and ``MODEL`` is chosen such that nine out of ten measured ratios lie inside the band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stablelint.predict.domain import Table, pair_mean
from stablelint.signals.signals import NINETY

#: Variance of ln g^2 across an op without a rule: ln(3^2)^2.
UNKNOWN = (2 * math.log(3.0)) ** 2
#: Standard deviation in decades of what the rules neglect: at any depth, and per decade that the gradient changes.
MODEL = (0.11, 0.015)


def of_weights(back: Table, axes: Sequence[int], shape: Sequence[int], alike: float) -> tuple[float, float]:
    """What random weights add to the spread, and the squared correlation of two directions behind them.

    ``back`` is the cotangent that they give the features ``axes``, ``alike`` that squared correlation before.
    """
    features = max(math.prod(shape[axis] for axis in axes), 1)
    alike = alike + (1 - alike) / features
    return 2 / features / directions(back, axes, shape, alike), alike


def of_mask(g: Table, axis: int, shape: Sequence[int], alike: float, excess: Table) -> float:
    """What an activation adds: ``excess`` is E[f'^2 f'^2'] / E[f'^2]^2 - 1 of a unit for each agreement of the others.

    Var sum_u f'_u^2 (w_u g)^2 over the units u has E[(w g)^2 (w g')^2] = 1 + 2 c^2 for directions of correlation c, so
    three times ``excess`` along one direction; along many the mask that they share still does not average out.
    """
    squares = _squares(g, alike)
    others = [place for place in range(len(shape)) if place != axis]
    found = float(pair_mean(excess * (1 + 2 * squares), others, shape).flat[-1]) if squares is not None else 0.0
    return found / max(shape[axis], 1)


def directions(table: Table, axes: Sequence[int], shape: Sequence[int], alike: float) -> float:
    """How many directions in the space of the features ``axes`` the samples and positions span."""
    squares = _squares(table, alike)
    if squares is None:
        return math.inf
    others = [axis for axis in range(len(shape)) if axis not in axes]
    return 1 / max(min(float(pair_mean(squares, others, shape).flat[-1]), 1.0), 1e-12)


def _squares(table: Table, alike: float) -> Table | None:
    """The squared correlations of directions; None where there is no gradient."""
    power = float(table.flat[-1])
    if not power > 0 or not math.isfinite(power):
        return None
    squares = np.minimum((table / power) ** 2, 1.0)
    return np.asarray(squares + alike * (1 - squares))


def combined(before: float, old: float, more: float, new: float) -> float:
    """The spread of a sum of two cotangents of second moments ``before`` and ``more``."""
    total = before + more
    if not total > 0 or not math.isfinite(total):
        return max(old, new)
    common = min(old, new)
    return common + (before / total) ** 2 * (old - common) + (more / total) ** 2 * (new - common)


def in_decades(spread: float) -> float:
    """The standard deviation of log10 of the gradient's rms."""
    return math.sqrt(max(spread, 0.0)) / (2 * math.log(10))


def deviation(spread: float, ratio: float) -> float:
    """The standard deviation of log10 of a gradient ratio: what ``spread`` says, and what the rules neglect."""
    change = abs(math.log10(ratio)) if 0 < ratio < math.inf else 0.0
    return math.hypot(in_decades(spread), MODEL[0], MODEL[1] * change)


def half_width(spread: float, ratio: float) -> float:
    """Half of the band around log10 of a gradient ratio, in decades."""
    return NINETY * deviation(spread, ratio)
