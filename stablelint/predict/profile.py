"""Profiles: how the second moment varies along an axis, where "exchangeable" is too coarse.

A class token is one index of the token axis: all gradient that comes back from the head sits on it, and its values
may be much smaller than those of the patches. A profile is a vector of mean 1 per axis; the second moment at index
i is ``power * profile[i]``. Values carry one forward (:attr:`Value.profile`) and their cotangents carry one back
(:attr:`Value.focus`). Axes without one are even.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Profile = Mapping[int, Array]
EVEN: Profile = {}


@dataclass(frozen=True, slots=True)
class Along:
    """Index i of an axis of a result is index ``i + offset`` of ``axis`` of its operand.

    ``weights`` multiply the cotangent's profile on the way back (a norm divides every token by its own size).
    ``reach`` says instead how much of the cotangent at each index of the result (columns) arrives at each index of
    the operand (rows), so that even profiles keep their mean (a convolution reaches the border less often).
    """

    axis: int
    offset: int = 0
    weights: Array | None = None
    reach: Array | None = None


@dataclass(frozen=True, slots=True)
class Regroup:
    """A reshape: profiles of merged axes are multiplied, those of split axes averaged over the others."""

    operand: tuple[int, ...]
    shape: tuple[int, ...]


#: By axis of the result; axes that are not named are even in the operand.
Alignment = Mapping[int, Along] | Regroup


def aligned(shape: Sequence[int], operand: Sequence[int]) -> dict[int, Along]:
    """The usual case: axes of equal size are the same axis, where there are as many."""
    if len(shape) != len(operand):
        return {}
    return {axis: Along(axis) for axis, size in enumerate(shape) if size == operand[axis] and size > 1}


def carried_back(
    focus: Profile, alignment: Alignment, shape: Sequence[int], operand: Sequence[int]
) -> tuple[float, Profile]:
    """The profile of an operand's cotangent, and the factor by which its size differs from that of even profiles."""
    if isinstance(alignment, Regroup):
        return 1.0, regrouped(focus, alignment.shape, alignment.operand)
    scale = 1.0
    found: dict[int, Array] = {}
    for axis, along in alignment.items():
        size, whole = shape[axis], operand[along.axis]
        if axis not in focus and along.weights is None and along.reach is None and size == whole:
            continue
        own = focus[axis] if axis in focus else np.ones(size)
        if along.reach is not None:
            spread = along.reach @ own
            arrived = _mean(spread)
            scale *= arrived
            if arrived > 0:
                found[along.axis] = spread / arrived
            continue
        if along.offset == 0 and size == whole:
            part = spread = own
        else:
            start, stop = max(along.offset, 0), min(size + along.offset, whole)
            part = own[start - along.offset : stop - along.offset]
            spread = np.zeros(whole)
            spread[start:stop] = part
        if along.weights is not None:
            spread = spread * along.weights
            scale *= _mean(spread)
        elif part.size < size:  # one of several that were joined: what the others get is not its own
            scale *= _mean(part)
        mean = _mean(spread)
        if mean > 0:
            found[along.axis] = spread / mean
    return scale, found


def carried_forward(profile: Profile, alignment: Alignment) -> Profile:
    """The profile that a result takes over from an operand of the same extent."""
    if isinstance(alignment, Regroup):
        return regrouped(profile, alignment.operand, alignment.shape)
    return {
        axis: profile[along.axis]
        for axis, along in alignment.items()
        if along.axis in profile and along.offset == 0 and along.weights is None and along.reach is None
    }


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The smallest runs of axes of two shapes that hold the same number of elements, without axes of length 1."""
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = [left[i]], [right[j]]
        i, j = i + 1, j + 1
        before, after = old[a[0]], new[b[0]]
        while before != after:
            if before < after:
                a.append(left[i])
                before *= old[left[i]]
                i += 1
            else:
                b.append(right[j])
                after *= new[right[j]]
                j += 1
        found.append((tuple(a), tuple(b)))
    return found


def regrouped(profile: Profile, old: Sequence[int], new: Sequence[int]) -> Profile:
    """The profile of a tensor of shape ``old`` viewed as ``new``."""
    if not profile:
        return EVEN
    found: dict[int, Array] = {}
    for before, after in groups(old, new):
        if not any(axis in profile for axis in before):
            continue
        whole = np.ones(1)
        for axis in before:
            whole = np.multiply.outer(whole, profile.get(axis, np.ones(old[axis]))).ravel()
        spread = whole.reshape([new[axis] for axis in after])
        for place, axis in enumerate(after):
            others = tuple(other for other in range(len(after)) if other != place)
            found[axis] = np.asarray(spread.mean(axis=others))
    return found


def mixed(parts: Iterable[tuple[float, Profile]], shape: Sequence[int]) -> Profile:
    """The profile of a sum of independent tensors, each with its second moment."""
    parts = [(power, profile) for power, profile in parts if power > 0]
    total = sum(power for power, _ in parts)
    axes = {axis for _, profile in parts for axis in profile}
    if not axes or not total > 0:
        return EVEN
    found = {axis: np.zeros(shape[axis]) for axis in axes}
    for power, profile in parts:
        for axis, whole in found.items():
            whole += power / total * profile[axis] if axis in profile else power / total
    return found


def _mean(values: Array) -> float:
    """The mean of a few numbers, for which ``values.mean()`` takes five times as long."""
    return float(np.add.reduce(values)) / values.size if values.size else math.nan
