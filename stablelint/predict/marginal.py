"""The shape of the distribution of one element, where it is not normal.

A sum over many inputs is normal whatever the inputs are (a layer of some width), but a residual addition sums two
tensors only: relu(x) + branch is skewed, and a network that rectifies its stream after every addition leans further
with each. Taken for normal, the share of the stream that all samples have in common is overestimated by a fifth after
one block and by a third after four (Monte Carlo of x <- relu(x) + N(0, 1)), which every norm behind it turns into a
gradient that is too large. So the standardised quantile function is carried along: that of a sum or product of two
independent tensors comes from their 65 x 65 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from stablelint.predict.gaussian import NODES, WEIGHTS, Array, Law

if TYPE_CHECKING:
    from stablelint.predict.domain import Value

_KEYS = count(1)
_ERF = np.frompyfunc(math.erf, 1, 1)
#: The standard normal distribution function at the nodes.
BELOW: Array = 0.5 * (1 + np.asarray(_ERF(NODES / math.sqrt(2)), dtype=np.float64))
COARSE: Array = np.linspace(-5.0, 5.0, 65)
COARSE_WEIGHTS: Array = np.exp(-(COARSE**2) / 2) / np.exp(-(COARSE**2) / 2).sum()
_PAIR_WEIGHTS: Array = np.outer(COARSE_WEIGHTS, COARSE_WEIGHTS).ravel()
#: A skewness and an excess kurtosis below which a distribution counts as normal; they move the mean of a ReLU by
#: skewness / 6 * phi(0), less than a percent.
_SKEWED, _HEAVY = 0.05, 0.2


class Marginal:
    """A standardised quantile function at the nodes (mean 0, variance 1), worked out when it is asked for.

    ``points`` is None for what turns out to be normal.
    """

    __slots__ = ("_compute", "_points", "key")

    def __init__(self, compute: Callable[[], Array | None]) -> None:
        self._compute: Callable[[], Array | None] | None = compute
        self._points: Array | None = None
        self.key = next(_KEYS)

    @property
    def points(self) -> Array | None:
        """The quantiles."""
        if self._compute is not None:
            self._points, self._compute = self._compute(), None
        return self._points


def law(value: Value) -> Law:
    """The distribution of the elements of ``value``."""
    if value.marginal is None:
        value.marginal = alike(value)
    points = value.marginal.points if value.marginal is not None else None
    if points is None or value.marginal is None:
        return Law(value.mean, value.variance)
    return Law(value.mean, value.variance, points, value.marginal.key)


def alike(value: Value) -> Marginal | None:
    """The marginal of a tensor whose elements are those of ``value`` but for scale and shift."""
    if value.base is None or value.function is None or value.marginal is not None:
        return value.marginal
    base, function = value.base, value.function
    return Marginal(lambda: _quantiles(np.broadcast_to(function.of(law(base).points()), NODES.shape), WEIGHTS))


def of_sum(left: Value, right: Value, factor: float) -> Marginal | None:
    """That of ``left + factor * right`` for independent tensors."""
    first, second = alike(left), alike(right)
    if first is None and second is None:
        return None
    a, b = math.sqrt(left.variance), factor * math.sqrt(right.variance)

    def compute() -> Array | None:
        if not any(marginal is not None and marginal.points is not None for marginal in (first, second)):
            return None
        x, y = a * _shape(first), b * _shape(second)
        return _quantiles((x[:, None] + y[None]).ravel(), _PAIR_WEIGHTS)

    return Marginal(compute)


def of_product(left: Value, right: Value) -> Marginal | None:
    """That of ``left * right`` for independent tensors."""
    first, second = alike(left), alike(right)
    a, b = math.sqrt(left.variance), math.sqrt(right.variance)
    if first is None and second is None and (a <= 1e-3 * abs(left.mean) or b <= 1e-3 * abs(right.mean)):
        return None

    def compute() -> Array | None:
        x, y = left.mean + a * _shape(first), right.mean + b * _shape(second)
        return _quantiles((x[:, None] * y[None]).ravel(), _PAIR_WEIGHTS)

    return Marginal(compute)


def of_mixture(values: list[tuple[float, Value]]) -> Marginal | None:
    """That of tensors joined along an axis, each with its share of the elements."""
    means, powers = [value.mean for _, value in values], [value.power for _, value in values]
    shapes = [alike(value) for _, value in values]
    even = max(means) - min(means) <= 0.1 * math.sqrt(max(powers)) and max(powers) <= 1.2 * min(powers)
    if even and all(shape is None for shape in shapes):
        return None

    def compute() -> Array | None:
        parts = [
            value.mean + math.sqrt(value.variance) * _shape(shape)
            for (_, value), shape in zip(values, shapes, strict=True)
        ]
        return _quantiles(np.concatenate(parts), np.concatenate([share * COARSE_WEIGHTS for share, _ in values]))

    return Marginal(compute)


def coarse_points(value: Value) -> Array:
    """The values of ``value`` at the coarse nodes of the normal variable behind it."""
    if value.base is None or value.function is None:
        return law(value).at(COARSE)
    return np.broadcast_to(value.function.of(law(value.base).at(COARSE)), COARSE.shape)


def _shape(marginal: Marginal | None) -> Array:
    """The standardised quantiles at the coarse nodes."""
    points = marginal.points if marginal is not None else None
    return COARSE if points is None else np.interp(COARSE, NODES, points)


def _quantiles(sample: Array, weights: Array) -> Array | None:
    """The standardised quantile function of a weighted sample; None if it is constant, not finite or about normal."""
    mean = float(weights @ sample)
    centred = sample - mean
    variance = float(weights @ centred**2)
    if not (math.isfinite(variance) and variance > 1e-12 * mean * mean and variance > 1e-280):
        return None
    standard = centred / math.sqrt(variance)
    square = standard * standard  # a general power of an array takes as long as the rest
    if abs(float(weights @ (square * standard))) < _SKEWED and abs(float(weights @ (square * square)) - 3) < _HEAVY:
        return None
    order = np.argsort(standard, kind="stable")
    reached = np.cumsum(weights[order])
    found = np.interp(BELOW, reached - weights[order] / 2, standard[order])
    found = found - float(WEIGHTS @ found)
    return np.asarray(found / math.sqrt(float(WEIGHTS @ found**2)))
