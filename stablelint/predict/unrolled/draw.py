"""Draws of a tensor from its table, and the table of draws.

A table is a sum of variance components: with ``C[a] = sum over S of v_S`` for the sets S of axes that agree in a, v_S
is what the tensor owes to the indices on S alone (Moebius inversion; v of no axes is what all elements share).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from stablelint.graph.op import Parameter
from stablelint.predict.domain import LIMIT, Table, Value
from stablelint.predict.gaussian import Array
from stablelint.predict.profile import Profile

#: A profile varies when its largest entry is so many times the smallest.
_UNEVEN = 4.0
#: Elements that are described at once.
_TOGETHER = 1 << 17


def drawn(
    table: Table, mean: float, shape: Sequence[int], draws: int, rng: np.random.Generator, profile: Profile
) -> Array:
    """Normal tensors with these second moments: shape (draws, *shape)."""
    components = np.array(table, dtype=np.float64)
    for axis in range(components.ndim):
        inner = np.moveaxis(components, axis, 0)
        inner[1] -= inner[0]
    components.flat[0] -= mean * mean
    power = float(table.flat[-1])
    components = np.where(components > 1e-12 * power, components, 0.0)
    variance = max(power - mean * mean, 0.0)
    total = float(components.sum())
    result = np.full((draws, *shape), mean)
    for pattern in np.ndindex(*components.shape):
        if components[pattern] > 0:
            part = rng.standard_normal(
                (draws, *(size if agree else 1 for size, agree in zip(shape, pattern, strict=True)))
            )
            result += math.sqrt(components[pattern] * variance / total) * part
    for axis, along in profile.items():
        size = shape[axis]
        own = np.asarray(along)[-size:]
        if own.size == size:
            result *= np.sqrt(own).reshape(-1, *(1,) * (len(shape) - axis - 1))
    return result


def drawn_value(value: Value, shape: Sequence[int], draws: int, rng: np.random.Generator) -> Array:
    """Tensors like ``value`` in a (smaller) shape; a smaller weight keeps the scale of its products."""
    if value.parameter is not None:
        return _parameter(value, value.parameter, shape, draws, rng)
    return drawn(value.table, value.mean, shape, draws, rng, value.profile or {})


def _parameter(value: Value, parameter: Parameter, shape: Sequence[int], draws: int, rng: np.random.Generator) -> Array:
    ratio = value.shape[-1] / shape[-1] if len(shape) > 1 else 1.0
    if len(shape) == 1 and parameter.parts:
        return _gates(parameter, shape[0], draws, rng)
    table, mean = value.table * ratio + value.mean**2 * (ratio**2 - ratio), value.mean * ratio
    if parameter.init is not None and "orthogonal" in parameter.init and len(shape) == 2:
        return _orthogonal(math.sqrt(value.power * ratio), shape, draws, rng)
    if not parameter.diagonals or len(shape) != 2:
        return drawn(table, mean, shape, draws, rng, {})
    extra = np.array(parameter.diagonals)
    # the diagonal is part of the moments of the whole
    rest = max(value.variance - float((extra**2).mean()) / value.shape[1], 0.0) * ratio
    off = (value.mean - float(extra.mean()) / value.shape[1]) * ratio if value.mean else 0.0
    result = off + math.sqrt(rest) * rng.standard_normal((draws, *shape))
    width = shape[1]
    for block, amount in enumerate(extra[: shape[0] // width]):
        result[:, block * width : (block + 1) * width] += amount * np.eye(width)
    return result


def _gates(parameter: Parameter, size: int, draws: int, rng: np.random.Generator) -> Array:
    """A bias in as many parts as leave the least variance inside."""
    parts = min(parameter.parts, key=lambda found: sum(std * std for _, std in found) / len(found))
    count = len(parts)
    pieces = [
        mean + std * rng.standard_normal((draws, (place + 1) * size // count - place * size // count))
        for place, (mean, std) in enumerate(parts)
    ]
    return np.concatenate(pieces, 1)


def _orthogonal(rms: float, shape: Sequence[int], draws: int, rng: np.random.Generator) -> Array:
    """Orthonormal columns times a number: of the whole matrix, or of each square block if that is their size."""
    rows, width = shape
    blocks = rows // width if rows % width == 0 and abs(rms * math.sqrt(width) - 1) < 0.05 else 1
    own = (rows // blocks, width)
    tall = (max(own), min(own))
    frames = np.linalg.qr(rng.standard_normal((draws, blocks, *tall)))[0]
    frames = frames if own == tall else frames.swapaxes(2, 3)
    return np.asarray(frames.reshape(draws, rows, width) * (rms * math.sqrt(tall[0])))


def tables(arrays: Array) -> Array:
    """The table of each of the draws: shape (draws, 2, ..., 2)."""
    rank, draws = arrays.ndim - 1, arrays.shape[0]
    found = np.empty((draws, *(2,) * rank))
    sums: dict[tuple[int, ...], Array] = {(): arrays}
    for pattern in sorted(np.ndindex(*(2,) * rank), key=sum, reverse=True):
        # sums over the axes that differ, one more axis at a time
        differ = tuple(axis + 1 for axis in range(rank) if not pattern[axis])
        if differ:
            sums[differ] = sums[differ[1:]].sum(axis=differ[0], keepdims=True)
        flat = sums[differ].reshape(draws, 1, -1)
        found[(slice(None), *pattern)] = (flat @ flat.swapaxes(1, 2))[:, 0, 0]
    for axis, size in enumerate(arrays.shape[1:]):
        moved = found.swapaxes(0, axis + 1)
        moved[0] = (moved[0] - moved[1]) / (size * (size - 1)) if size > 1 else moved[1]
        moved[1] = moved[1] / max(size, 1)
    return found


def all_tables(arrays: Sequence[Array]) -> list[Array]:
    """The tables of several tensors, those of one shape together: loops have thousands of small ones."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, array in enumerate(arrays):
        places[array.shape].append(place)
    found: list[Array] = [np.empty(0)] * len(arrays)
    for shape, alike in places.items():
        count = max(_TOGETHER // max(math.prod(shape), 1), 1)
        for start in range(0, len(alike), count):
            some = alike[start : start + count]
            whole = tables(np.concatenate([arrays[place] for place in some]))
            for place, part in zip(some, np.split(whole, len(some)), strict=True):
                found[place] = part
    return found


def typical(found: Array) -> Table:
    """One table for gradients from those of the draws.

    Entries relative to the second moment are averaged, and so is its logarithm: after many steps the size of a
    gradient is log-normal over draws, and their mean is that of rare ones.
    """
    powers = found.reshape(found.shape[0], -1)[:, -1]
    if not np.isfinite(powers).all():
        return np.full(found.shape[1:], LIMIT)
    mean = found.mean(0)
    if not (powers > 0).all():
        return np.asarray(mean)
    return np.asarray(mean * (float(np.exp(np.log(powers).mean())) / float(powers.mean())))


def uneven(arrays: Array, shape: Sequence[int], time: int | None = None) -> dict[int, Array]:
    """The profiles of draws along the axes but the last, where they vary and the axis has its true length.

    Of the axis ``time`` the first indices may be missing: there the profile goes on at the same rate.
    """
    found = {}
    for axis, size in enumerate(shape[:-1]):
        missing = size - arrays.shape[axis + 1]
        if size < 2 or (missing and axis != time):
            continue
        others = tuple(other for other in range(1, arrays.ndim) if other != axis + 1)
        with np.errstate(divide="ignore"):
            logs = np.log(np.square(arrays).mean(axis=others)).mean(0)
        if missing and np.isfinite(logs[0]):
            half = logs.size // 2
            rate = max((logs[half] - logs[0]) / half, 0.0)
            logs = np.concatenate([logs[0] - rate * np.arange(missing, 0, -1), logs])
        elif missing:
            logs = np.concatenate([np.full(missing, -np.inf), logs])
        along = np.exp(logs - logs.max())
        if along.min() * _UNEVEN < 1:
            found[axis] = along / along.mean()
    return found
