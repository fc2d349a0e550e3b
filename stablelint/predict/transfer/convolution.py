"""Convolution: a contraction over channels and taps.

A spatial axis h is unfolded into (tap d, position p): two unfolded elements agree on h iff they agree on d and on p.
The contraction then runs over channel and taps as in :mod:`stablelint.predict.transfer.contraction`, with the
effective number of taps where zero padding cuts some off. The cotangent is contracted with the weight and folded:
an input element takes part in r = taps * out / in outputs.

    G[agree] = r T[same tap, same position] + r (r - 1) T[differ, differ]
    G[differ] = (r^2 - e) (T[same tap, other position] / k + (1 - 1/k) T[differ, differ])
                + e T[other tap, same position]

with e the expected number of windows that hold both of two input elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, pair_mean, pair_sum, settle
from stablelint.predict.gaussian import Array
from stablelint.predict.lags import near, strided
from stablelint.predict.profile import Along
from stablelint.predict.slant import summing_to
from stablelint.predict.transfer.arithmetic import add
from stablelint.predict.transfer.contraction import Count, contract_tables
from stablelint.predict.transfer.shaping import permuted, reshape_table, reshaped


@dataclass(frozen=True, slots=True)
class Window:
    """One spatial axis: ``size`` taps, of which ``taps`` fall into the input on average, each weighted with the
    input's profile, and ``count`` without it; ``pairs`` counts pairs of different taps of one window, ``same`` is the
    share of taps that two positions have in common; ``near`` is how far different taps behave as one place.
    ``profile`` is that of the result, ``reach`` how outputs spread over inputs (see :class:`Along`)."""

    size: int
    taps: float
    pairs: float
    count: float
    same: float
    inside: int
    outside: int
    profile: Array | None = None
    reach: Array | None = None
    near: float = 0.0

    @property
    def uses(self) -> float:
        """How many outputs one input element takes part in."""
        return self.count * self.outside / max(self.inside, 1)

    @property
    def both(self) -> float:
        """How many windows hold both of two input elements."""
        others = self.inside * max(self.inside - 1, 1)
        return min(self.outside * self.count * max(self.count - 1, 0) / max(others, 1), self.uses**2)


_LARGEST = 1 << 20


@lru_cache(maxsize=512)
def _incidence(inside: int, outside: int, size: int, stride: int, padding: int, dilation: int) -> tuple[Array, float]:
    """How often each input (row) is a tap of each output (column), and the share of taps that positions share."""
    places = np.arange(outside)[:, None] * stride - padding + np.arange(size)[None] * dilation
    hit = (places >= 0) & (places < inside)
    found = np.zeros((inside, outside))
    outputs = np.broadcast_to(np.arange(outside)[:, None], places.shape)
    np.add.at(found, (places[hit], outputs[hit]), 1.0)
    share = hit.mean(0)
    return found, float((share**2).sum() / max(share.sum(), 1e-12))


def window(
    inside: int,
    outside: int,
    size: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    profile: Array | None = None,
    lags: Array | None = None,
) -> Window:
    """Count the taps that fall into the input."""
    if size == 1 and stride == 1 and padding == 0:
        return Window(1, 1.0, 0.0, 1.0, 1.0, inside, outside, profile)
    if inside * outside > _LARGEST:  # long signals have next to no border
        return Window(size, float(size), size * (size - 1.0), float(size), 1.0, inside, outside)
    found, same = _incidence(inside, outside, size, stride, padding, dilation)
    taps = found.sum(0) if profile is None else profile @ found
    roots = found.sum(0) if profile is None else np.sqrt(profile) @ found
    pairs = max(float((roots**2 - taps).mean()), 0.0)
    weighted, count = float(taps.mean()), float(found.sum() / max(outside, 1))
    if count <= 0 or weighted <= 0:
        return Window(size, 1e-12, 0.0, 1e-12, same, inside, outside)
    reach = found * (inside / found.sum())
    return Window(size, weighted, pairs, count, same, inside, outside, taps / weighted, reach, near(size, lags))


def convolve(x: Value, weight: Value, groups: int, windows: Sequence[Window]) -> Value:
    """``weight`` is (out, in / groups, *taps); ``x`` (batch, channels, *space)."""
    count = len(windows)
    taps, positions = "DEF"[:count], "PQR"[:count]
    out, kept = weight.shape[0] // groups, weight.shape[1]
    sizes: dict[str, Count] = {"B": x.shape[0], "G": groups, "K": kept, "O": out}
    for tap, position, w in zip(taps, positions, windows, strict=True):
        sizes[tap] = (w.pairs, w.taps)
        sizes[position] = w.outside * w.taps / w.size
    in_axes = "BGK" + "".join(a + b for a, b in zip(taps, positions, strict=True))
    weight_axes, out_axes = "GOK" + taps, "BGO" + positions
    space = tuple(w.outside for w in windows)
    grouped_in = (x.shape[0], groups, kept, *x.shape[2:])
    grouped_weight = (groups, out, kept, *weight.shape[2:])
    grouped_out = (x.shape[0], groups, out, *space)
    shape = (x.shape[0], weight.shape[0], *space)
    kernel = reshape_table(weight.table, weight.shape, grouped_weight)
    patches = _unfold(reshape_table(x.table, x.shape, grouped_in), windows)
    table = settle(contract_tables(patches, in_axes, kernel, weight_axes, out_axes, sizes), grouped_out)

    def to_input(g: Table) -> Table:
        spread = contract_tables(reshape_table(g, shape, grouped_out), out_axes, kernel, weight_axes, in_axes, sizes)
        return reshape_table(settle(_fold(spread, windows), grouped_in), grouped_in, x.shape)

    def to_weight(g: Table) -> Table:
        found = contract_tables(reshape_table(g, shape, grouped_out), out_axes, patches, in_axes, weight_axes, sizes)
        return reshape_table(settle(found, grouped_weight), grouped_weight, weight.shape)

    def joint(_g: Table, own: Table | None, back: Table) -> Table | None:
        # depthwise: y is linear in the one channel that it reads, so sum g x = sum g y over batch and space
        if own is None or kept > 1:
            return None
        axes = [0, *range(2, x.rank)]
        ratio = math.prod(space) / math.prod(x.shape[2:])
        total = pair_mean(reshape_table(own, shape, grouped_out), [0, *range(3, x.rank + 1)], grouped_out)
        return summing_to(back * x.table, axes, x.shape, pair_sum(total, 2, out) * ratio * ratio)

    mean = x.mean * weight.mean * kept * math.prod(w.taps for w in windows)
    space_axes = {2 + place: w for place, w in enumerate(windows) if w.outside > 1}
    return Value(
        shape, reshape_table(table, grouped_out, shape), mean, ((x, to_input), (weight, to_weight)),
        alignments=({0: Along(0), **{axis: Along(axis, reach=w.reach) for axis, w in space_axes.items()}}, {}),
        profile={axis: w.profile for axis, w in space_axes.items() if w.profile is not None},
        joints=(joint, None), mixed=((1,), ()),
    )  # fmt: skip


def _unfold(table: Table, windows: Sequence[Window]) -> Table:
    for number, w in enumerate(windows):
        axis = 3 + 2 * number
        differ, agree = np.take(table, 0, axis), np.take(table, 1, axis)
        if w.size == 1:
            pairs = np.stack([np.stack([differ, agree]), np.stack([differ, agree])])
        else:
            close = differ + w.near * (agree - differ)
            pairs = np.stack([np.stack([differ, close]), np.stack([differ, agree])])
        pairs[:, 0] = pairs[:, 0] * w.same
        if w.outside == 1:
            pairs[:, 0] = pairs[:, 1]
        table = np.moveaxis(pairs, [0, 1], [axis, axis + 1])
    return table


def _fold(table: Table, windows: Sequence[Window]) -> Table:
    for number, w in enumerate(windows):
        axis = 3 + number
        pairs = np.moveaxis(table, [axis, axis + 1], [0, 1])
        r = w.uses
        agree = r * pairs[1, 1] + max(r * (r - 1), 0) * pairs[0, 0]
        differ = (r * r - w.both) * (pairs[1, 0] / w.size + (1 - 1 / w.size) * pairs[0, 0]) + w.both * pairs[0, 1]
        table = np.moveaxis(np.stack([differ, agree]), 0, axis)
    return table


def conv(call: Call) -> Result:
    """conv1d, conv2d, conv3d, with or without a batch axis."""
    x, weight = call.value("input"), call.value("weight")
    count = weight.rank - 2
    shape = call.shape
    if x.rank == count + 1:
        x, shape = reshaped(x, (1, *x.shape)), (1, *shape)
    stride, dilation = spread(call.attr("stride", 1), count), spread(call.attr("dilation", 1), count)
    given = call.attr("padding", 0)
    if isinstance(given, str):
        sizes = zip(weight.shape[2:], dilation, strict=True)
        padding = tuple((size - 1) * step // 2 if given == "same" else 0 for size, step in sizes)
    else:
        padding = spread(given, count)
    windows = [
        window(
            x.shape[2 + i],
            shape[2 + i],
            weight.shape[2 + i],
            stride[i],
            padding[i],
            dilation[i],
            (x.profile or {}).get(2 + i),
            (x.lags or {}).get(2 + i),
        )
        for i in range(count)
    ]
    result = convolve(x, weight, int(call.attr("groups", 1)), windows)
    kept = {2 + i: strided((x.lags or {}).get(2 + i), stride[i]) for i in range(count)}
    result.lags = {axis: lags for axis, lags in kept.items() if lags is not None}
    return _with_bias(call, result)


def conv_transpose(call: Call) -> Result:
    """The transposed map: an output gathers k * in / out taps per axis; the weight is (in, out / groups, *taps)."""
    x, weight = call.value("input"), call.value("weight")
    count = weight.rank - 2
    shape, groups = call.shape, int(call.attr("groups", 1))
    if x.rank == count + 1:
        x, shape = reshaped(x, (1, *x.shape)), (1, *shape)
    windows = []
    for i in range(count):
        size = weight.shape[2 + i]
        taps = min(size * x.shape[2 + i] / max(shape[2 + i], 1), float(size))
        windows.append(Window(size, taps, taps * max(taps - 1, 0), taps, taps / size, x.shape[2 + i], shape[2 + i]))
    inside, out = weight.shape[0] // groups, weight.shape[1]
    split = reshaped(weight, (groups, inside, out, *weight.shape[2:]))
    turned = permuted(split, [0, 2, 1, *range(3, split.rank)])
    flat = reshaped(turned, (groups * out, inside, *weight.shape[2:]))
    return _with_bias(call, convolve(x, flat, groups, windows))


def _with_bias(call: Call, result: Value) -> Value:
    bias = call.optional("bias")
    if bias is not None:
        result = add(result, reshaped(bias, (1, result.shape[1]) + (1,) * (result.rank - 2)))
    return reshaped(result, call.shape) if result.shape != call.shape else result


def spread(value: object, count: int) -> tuple[int, ...]:
    """An argument per spatial axis from one number or a sequence."""
    numbers = tuple(int(number) for number in value) if isinstance(value, (tuple, list)) else (int(str(value)),)
    return numbers * count if len(numbers) == 1 else numbers
