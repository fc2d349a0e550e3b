"""Neighbours: how much more alike two elements are that lie close to each other along an axis.

The table of a tensor knows "same place" and "other place". Overlapping pooling windows (the 3x3 pool of stride 2 in
most stems) and images make close places more alike than far ones, and convolutions with random weights keep that:
E[y_p y_{p+d}] of the result is E[x_p x_{p+sd}] of the input times the weights' variance. It matters where a window is
pooled: the variance of an average over 2x2 places with a correlation of 0.25 between neighbours is 1.75 times that
of independent ones.

Lags are a vector per axis: two places d apart behave as ``lags[d]`` "same place" and ``1 - lags[d]`` "other place";
``lags[0]`` is 1, and axes without a vector have 0 at all other distances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stablelint.predict.profile import Alignment, Array, Regroup, groups

Lags = Mapping[int, Array]
#: Places further apart than this are "other places".
FARTHEST = 8
_WHITE: Array = np.eye(1, FARTHEST + 1)[0]


def overlap(size: int, lags: Array | None) -> float:
    """Pairs of taps of one window of ``size`` taps that behave as the same place, out of ``size ** 2``."""
    return float(_box(size, 0, lags))


def near(size: int, lags: Array | None) -> float:
    """The same as a share of the pairs of different taps."""
    return (overlap(size, lags) - size) / (size * (size - 1)) if size > 1 else 0.0


def strided(lags: Array | None, stride: int) -> Array | None:
    """Of a convolution with random weights."""
    if lags is None:
        return None
    found = np.zeros(FARTHEST + 1)
    kept = lags[::stride]
    found[: len(kept)] = kept
    return found if found[1:].any() else None


def pooled(size: int, stride: int, lags: Array | None) -> Array | None:
    """Of windows that overlap or whose input has neighbours alike."""
    if size <= stride and lags is None:
        return None
    whole = _box(size, 0, lags)
    return np.array([_box(size, stride * distance, lags) / whole for distance in range(FARTHEST + 1)])


def _box(size: int, distance: int, lags: Array | None) -> float:
    """Pairs of taps of two windows ``distance`` apart that behave as the same place."""
    own = _WHITE if lags is None else lags
    offsets = np.arange(1 - size, size)
    apart = np.abs(distance + offsets)
    inside = apart <= FARTHEST
    return float(((size - np.abs(offsets)) * np.where(inside, own[np.minimum(apart, FARTHEST)], 0.0)).sum())


def carried(alignment: Alignment) -> dict[int, int]:
    """Which axes of the operand the axes of a result are, place by place."""
    if isinstance(alignment, Regroup):
        kept = (pair for pair in groups(alignment.operand, alignment.shape) if len(pair[0]) == len(pair[1]) == 1)
        return {new: old for (old,), (new,) in kept}
    return {axis: along.axis for axis, along in alignment.items() if along.reach is None}


def mixed(parts: Iterable[tuple[float, Array | None]]) -> Array | None:
    """Those of a sum of tensors, each with what "same place" adds to its second moment."""
    parts = [(max(power, 0.0), lags) for power, lags in parts]
    total = sum(power for power, _ in parts)
    if not total > 0 or all(lags is None for _, lags in parts):
        return None
    return np.asarray(np.sum([power / total * (_WHITE if lags is None else lags) for power, lags in parts], axis=0))
