"""Sums, means, variances, norms and extrema over axes.

sum over n:  C = n C[agree] + n (n - 1) C[differ];   cotangent: copied along the axis
variance:    concentrated at the expected within-group variance; d var / d x_i = 2 (x_i - mean) / n
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, pair_mean, pair_sum, repeated
from stablelint.predict.functions import positive
from stablelint.predict.gaussian import Function
from stablelint.predict.transfer.elementwise import apply
from stablelint.predict.transfer.shaping import reshaped
from stablelint.predict.transfer.softmax import overlap

SQUARE = Function("square", lambda x: x * x)
ROOT = Function("sqrt", lambda x: np.sqrt(positive(x)))


def axes_of(call: Call, rank: int) -> tuple[int, ...]:
    """The axes that a reduction runs over, in order."""
    dims = call.attr("dim")
    if dims is None or dims == ():
        return tuple(range(rank))
    return tuple(sorted(axis % rank for axis in (dims if isinstance(dims, tuple) else (dims,))))


def summed(value: Value, axes: Sequence[int], factor: float) -> Value:
    """``factor`` times the sum over ``axes``, which stay as axes of length 1."""
    table, count = value.table, 1
    for axis in axes:
        table = repeated(pair_sum(table, axis, value.shape[axis]), axis)
        count *= value.shape[axis]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    return Value(
        shape, table * factor * factor, value.mean * count * factor, ((value, lambda g: g * factor * factor),),
        reduced=(value, tuple(axes), factor),
    )  # fmt: skip


def reduction(call: Call) -> Result:
    """sum and mean."""
    value = call.value(0)
    axes = axes_of(call, value.rank)
    count = math.prod(value.shape[axis] for axis in axes)
    return reshaped(summed(value, axes, 1 / max(count, 1) if call.op.name == "mean" else 1.0), call.shape)


def variance_over(value: Value, axes: Sequence[int]) -> Value:
    """The variance over ``axes``, which stay as axes of length 1."""
    centred = value.table - pair_mean(value.table, axes, value.shape)
    within = max(float(centred.flat[-1]), 0.0)
    count = max(math.prod(value.shape[axis] for axis in axes), 1)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    # a chi-squared variable of ``terms`` degrees of freedom; groups that agree on less are as correlated as squared
    spread = pair_mean(centred**2, axes, value.shape) * 2
    table = within * within + spread
    return Value(shape, table, within, ((value, lambda g: 4 * g * centred / count**2),))


def variance(call: Call) -> Result:
    """var, std and their variants that return the mean too."""
    value = call.value(0)
    axes = axes_of(call, value.rank)
    result = reshaped(variance_over(value, axes), call.shapes[0] if call.shapes else call.shape)
    if call.op.name.startswith("std"):
        result = apply(result, ROOT)
    if not call.op.name.endswith("_mean"):
        return result
    count = max(math.prod(value.shape[axis] for axis in axes), 1)
    return result, reshaped(summed(value, axes, 1 / count), call.shapes[1] if len(call.shapes) > 1 else result.shape)


def vector_norm(call: Call) -> Result:
    """The Euclidean norm (other orders are taken for it)."""
    value = call.value(0)
    squares = summed(apply(value, SQUARE), axes_of(call, value.rank), 1.0)
    return apply(reshaped(squares, call.shapes[0] if call.shapes else call.shape), ROOT)


def extreme_value(call: Call) -> Result:
    """amax, amin, max, min: the mean moves by the expected maximum of n normals, one element gets the gradient."""
    value = call.value(0)
    axes = axes_of(call, value.rank)
    size = max(math.prod(value.shape[axis] for axis in axes), 1)
    table = value.table
    for axis in axes:
        table = repeated(np.take(table, 0, axis), axis)
    within = max(value.power - float(table.flat[-1]), 0.0)
    sign = -1.0 if call.op.name in {"min", "amin"} else 1.0
    shift = sign * _expected_maximum(size) * math.sqrt(within)
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(value.shape))
    table = table + shift * shift + 2 * shift * value.mean
    # What the winner is differs from row to row: without it a batch norm behind would see a constant.
    table[tuple(slice(None) if axis in axes else 1 for axis in range(value.rank))] += within * _spread_of_maximum(size)

    def pull(g: Table) -> Table:
        back = np.asarray(g / size**2)
        back.flat[-1] = float(g.flat[-1]) / size
        return back

    best = Value(shape, table, value.mean + shift, ((value, pull),))
    out = call.shapes[0] if call.shapes else call.shape
    result = reshaped(best, out)
    if len(call.shapes) > 1:  # values and indices
        return result, Value(call.shapes[1], np.zeros((2,) * len(call.shapes[1])), 0.0)
    return result


#: Of few normals, by numerical integration (Teichroew 1956); of more see below.
_SPREAD_OF_FEW = {1: 1.0, 2: 0.682, 3: 0.559, 4: 0.492}


def _spread_of_maximum(size: int) -> float:
    """The variance of the largest of ``size`` standard normals: pi^2 / (12 ln n), the Gumbel limit."""
    return _SPREAD_OF_FEW.get(size) or math.pi**2 / (12 * math.log(max(size, 2)))


def _expected_maximum(size: int) -> float:
    """Of ``size`` standard normals (Blom's approximation of the top order statistic)."""
    if size <= 1:
        return 0.0
    tail = (1 - 0.375) / (size + 0.25)
    t = math.sqrt(-2 * math.log(tail))  # Abramowitz & Stegun 26.2.23
    return t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3)


def log_sum_exp(call: Call) -> Result:
    """``log sum exp``: about log n + D / 2 above the mean; the gradient is spread as a softmax does."""
    value = call.value(0)
    axes = axes_of(call, value.rank)
    size = max(math.prod(value.shape[axis] for axis in axes), 1)
    table = value.table
    for axis in axes:
        table = repeated(np.take(table, 0, axis), axis)
    within = max(value.power - float(table.flat[-1]), 0.0)
    shift = math.log(size) + min(within / 2, math.sqrt(2 * within * math.log(max(size, 2))))
    table = table + shift * shift + 2 * shift * value.mean
    product = overlap(within, 1.0, size, None, same_row=True).product
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(value.shape))

    def pull(g: Table) -> Table:
        back = np.asarray(g * max(1 - product, 0.0) / max(size * (size - 1), 1))
        back.flat[-1] = float(g.flat[-1]) * product / size
        return back

    return reshaped(Value(shape, table, value.mean + shift, ((value, pull),)), call.shape)


def cumulative(call: Call) -> Result:
    """cumsum: element t is a sum of t terms, on average half the axis."""
    value, axis = call.value(0), call.attr("dim", 0)
    size = value.shape[axis]
    half = (size + 1) / 2
    differ, agree = np.take(value.table, 0, axis), np.take(value.table, 1, axis)

    def total(table_agree: Table, table_differ: Table) -> Table:
        # E over t of [t a + t (t - 1) d], and over pairs t < t' of [t a + t (t' - 1) d]
        square = (size + 1) * (2 * size + 1) / 6
        third = (size + 1) / 3
        return np.stack(
            [
                third * table_agree + (half * half - third) * table_differ,
                half * table_agree + (square - half) * table_differ,
            ],
            axis,
        )

    def pull(g: Table) -> Table:
        return total(np.take(g, 1, axis), np.take(g, 0, axis))

    return Value(value.shape, total(agree, differ), value.mean * half, ((value, pull),))


def sorted_values(call: Call) -> Result:
    """sort and topk: the same elements (topk: some of them) in another order, with their indices."""
    value = call.value(0)
    shape = call.shapes[0] if call.shapes else call.shape
    ratio = math.prod(shape) / max(math.prod(value.shape), 1)
    result = Value(shape, value.table, value.mean, ((value, lambda g: g * ratio),))
    return result, Value(shape, np.zeros((2,) * len(shape)), 0.0)
