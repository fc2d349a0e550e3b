"""Pooling and resampling over spatial axes.

average:  a depthwise convolution with weights 1 / k
maximum:  Monte Carlo over windows of the Gaussian tensor, with what the window has in common drawn once;
          the gradient goes to one element per window, times E[f'(u*) f'(u'*)] at the winners
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, iid
from stablelint.predict.gaussian import Array, Function
from stablelint.predict.lags import Lags, overlap, pooled
from stablelint.predict.marginal import alike, law
from stablelint.predict.slant import of_winners
from stablelint.predict.transfer.convolution import convolve, spread, window
from stablelint.predict.transfer.elementwise import expression
from stablelint.predict.transfer.reduction import summed
from stablelint.predict.transfer.shaping import reshaped

_DRAWS = 3000


def avg_pool(call: Call) -> Result:
    """Fixed windows, or the windows that give a wanted size."""
    value, shape = call.value(0), call.shape
    count = int(call.attr("spatial", 2))
    if value.shape == shape:
        return value
    if value.rank == count + 1:
        value, shape = reshaped(value, (1, *value.shape)), (1, *shape)
    axes = tuple(range(2, value.rank))
    if all(shape[axis] == 1 for axis in axes):
        size = math.prod(value.shape[axis] for axis in axes)
        return reshaped(summed(value, axes, 1 / size), call.shape)
    kernel, stride, padding = _windows(call, value, shape, count)
    weight = iid((value.shape[1], 1, *kernel), 1 / math.prod(kernel), 0.0)
    windows = [
        window(
            value.shape[2 + i], shape[2 + i], kernel[i], stride[i], padding[i], 1,
            (value.profile or {}).get(2 + i), (value.lags or {}).get(2 + i),
        )
        for i in range(count)
    ]  # fmt: skip
    result = convolve(value, weight, value.shape[1], windows)
    result.lags = _pooled_lags(value, kernel, stride)
    return reshaped(result, call.shape)


def _pooled_lags(value: Value, kernel: Sequence[int], stride: Sequence[int]) -> Lags:
    first = value.rank - len(kernel)
    found = {first + i: pooled(kernel[i], stride[i], (value.lags or {}).get(first + i)) for i in range(len(kernel))}
    return {axis: lags for axis, lags in found.items() if lags is not None}


def _windows(
    call: Call, value: Value, shape: Sequence[int], count: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if call.attr("adaptive") or "kernel_size" not in call.op.attrs:
        kernel = tuple(-(-value.shape[2 + i] // max(shape[2 + i], 1)) for i in range(count))
        stride = tuple(max(value.shape[2 + i] // max(shape[2 + i], 1), 1) for i in range(count))
        return kernel, stride, (0,) * count
    kernel = spread(call.attr("kernel_size"), count)
    stride = spread(call.attr("stride") or kernel, count)
    return kernel, stride, spread(call.attr("padding", 0), count)


def max_pool(call: Call) -> Result:
    """The largest of every window."""
    value, shape = call.value(0), call.shapes[0] if call.shapes else call.shape
    count = int(call.attr("spatial", 2))
    out = shape
    if value.rank == count + 1:
        value, shape = reshaped(value, (1, *value.shape)), (1, *shape)
    kernel, stride, _ = _windows(call, value, shape, count)
    base, function = expression(value)
    first = value.rank - count
    found = _Windows(base, function, kernel)
    table, slopes = np.zeros(value.table.shape), np.zeros(value.table.shape)
    mean = 0.0
    for pattern in np.ndindex(*value.table.shape):
        table[pattern], mean, slopes[pattern] = found(pattern)
    ratios = [shape[axis] / value.shape[axis] for axis in range(first, value.rank)]

    def route(g: Table) -> Table:
        back = np.array(g)
        for pattern in np.ndindex(*back.shape):
            for ratio, agree in zip(ratios, pattern[first:], strict=True):
                back[pattern] *= ratio if agree else ratio * ratio
        return back

    def joint(g: Table, own: Table | None, _back: Table) -> Table:
        # the gradient goes to the largest element, so g x there is g y
        return route(g * largest.table if own is None else own)

    largest = Value(
        shape, table, mean, ((base, lambda g: route(g) * slopes),), joints=(joint,),
        lags=_pooled_lags(value, kernel, stride),
    )  # fmt: skip
    if base is not value:
        largest.witnesses = ((value, route),)
    else:  # behind a function of another tensor the slopes are those of the winners already
        places = 1 + (math.prod(kernel) - 1) * (1 - found.common)
        largest.tilts = (lambda _: (1.0, of_winners(places)),)
    result = reshaped(largest, out)
    if len(call.shapes) > 1:  # values and indices
        return result, Value(out, np.zeros((2,) * len(out)), 0.0)
    return result


class _Windows:
    """Pairs of windows by the agreement of their elements, drawn as standard normal variables with a fixed seed."""

    def __init__(self, base: Value, function: Function, kernel: Sequence[int]) -> None:
        self.law, self.function, self.first = law(base), function, base.rank - len(kernel)
        self.correlation = self.law.latent(base.table)
        self.space = (0,) * len(kernel)
        self.base, self.kernel = base, kernel
        self.common = min(max(self._inside((1,) * self.first), 0.0), 1.0)
        draw = np.random.default_rng(1).standard_normal((4, _DRAWS, math.prod(kernel)))
        self.shared, self.own = (draw[0][:, :1], draw[1][:, :1]), (draw[2], draw[3])
        self.cache: dict[tuple[float, float], tuple[float, float, float]] = {}

    def _inside(self, lead: tuple[int, ...]) -> float:
        """The correlation of different elements of one window, in tensors that agree as ``lead`` says: its mean."""
        inside, size = self.correlation[lead], math.prod(self.kernel)
        whole = float(inside.flat[-1])
        for axis, taps in enumerate(self.kernel):
            same = overlap(taps, (self.base.lags or {}).get(self.first + axis)) / taps**2
            inside = same * inside[1] + (1 - same) * inside[0]
        return (float(inside) - whole / size) / (1 - 1 / size) if size > 1 else whole

    def __call__(self, pattern: tuple[int, ...]) -> tuple[float, float, float]:
        """E[y y'], E[y] and E[f'(u*) f'(u'*)]."""
        lead = pattern[: self.first]
        if all(pattern[self.first :]):  # neighbours are alike within a window, and so between two at the same place
            shared, whole = self._inside(lead), float(self.correlation[(*lead, *(1,) * len(self.space))])
        else:
            shared = whole = float(self.correlation[lead + self.space])
        key = (round(shared, 6), round(whole - shared, 6))
        if key not in self.cache:
            self.cache[key] = self._draw(shared, whole - shared)
        return self.cache[key]

    def _draw(self, shared: float, own: float) -> tuple[float, float, float]:
        rest = max(1 - self.common, 0.0)
        a = float(np.clip(shared / self.common, -1, 1)) if self.common > 1e-12 else 0.0
        b = float(np.clip(own / rest, -1, 1)) if rest > 0 else 0.0
        windows = (
            self._window(self.shared[0], self.own[0], rest),
            self._window(
                a * self.shared[0] + math.sqrt(1 - a * a) * self.shared[1],
                b * self.own[0] + math.sqrt(1 - b * b) * self.own[1],
                rest,
            ),
        )
        (u, du), (v, dv) = windows
        return float((u * v).mean()), float(u.mean()), float((du * dv).mean())

    def _window(self, shared: Array, own: Array, rest: float) -> tuple[Array, Array]:
        points = self.law.at(math.sqrt(self.common) * shared + math.sqrt(rest) * own)
        values = self.function.of(points)
        winners = values.argmax(1)
        rows = np.arange(len(points))
        return values[rows, winners], self.function.derivative(points[rows, winners])


#: Per axis, of an enlarged tensor: the sum of the squared weights that one output gives its inputs, averaged over where
#: it lies between them. Copies: 1. Linear: the mean of w^2 + (1 - w)^2. Cubic: that of Keys' kernel with a = -0.75.
_CONCENTRATION = {"linear": 2 / 3, "bilinear": 2 / 3, "trilinear": 2 / 3, "bicubic": 0.857}


def interpolate(call: Call) -> Result:
    """Resampling: copies or weighted means of neighbours when it enlarges, a selection when it shrinks.

    With s the sum of the squared weights of an output and r outputs per input along an axis,

        C[agree] = s C[agree] + (1 - s) C[differ],      G[agree] = r s G[agree] + (r^2 - r s) G[differ]
    """
    value, shape = call.value(0), call.shape
    first = 2
    ratios = [shape[axis] / value.shape[axis] for axis in range(first, value.rank)]
    softness = _CONCENTRATION.get(str(call.attr("mode", "nearest")), 1.0)
    # of one input there is nothing to average
    weights = [
        softness if value.shape[axis] > 1 and ratio > 1 else 1.0 for axis, ratio in enumerate(ratios, start=first)
    ]

    def pull(g: Table) -> Table:
        back = np.array(g)
        for axis, (ratio, concentration) in enumerate(zip(ratios, weights, strict=True), start=first):
            differ, agree = np.take(back, 0, axis), np.take(back, 1, axis)
            own = ratio * concentration
            rest = ratio * ratio - own if ratio > 1 else 0.0
            back = np.stack([ratio * ratio * differ, own * agree + rest * differ], axis)
        return back

    table = value.table
    for axis, concentration in enumerate(weights, start=first):
        if concentration < 1:
            differ, agree = np.take(table, 0, axis), np.take(table, 1, axis)
            table = np.stack([differ, concentration * agree + (1 - concentration) * differ], axis)
    return Value(shape, table, value.mean, ((value, pull),), marginal=alike(value))
