"""Operations that move, copy, join or cut: reshape, permute, expand, slice, cat, roll, gather.

    merge axes:  agree on the merged axis iff on all parts; otherwise the average over the other patterns
    split axes:  the reverse, every part-agreement that is not full gets the entry "differ"
    expand:      both entries alike; the cotangent is summed over the copies
    slice n/N:   same table; cotangent of the whole: agree G1 n/N, differ G0 n (n-1) / (N (N-1))
    cat:         mixture of the tables weighted by length

as exchangeability along every axis allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stablelint.predict.domain import Table, Value, kept, lead, repeated, same, unbroadcast
from stablelint.predict.marginal import alike, of_mixture
from stablelint.predict.profile import Along, Profile, Regroup, aligned, groups, mixed


def reshape_table(table: Table, shape: Sequence[int], target: Sequence[int]) -> Table:
    """The table of a tensor of shape ``shape`` viewed as ``target``."""
    shape, target = tuple(shape), tuple(target)
    if shape == target:
        return table
    table = table[tuple(1 if size == 1 else slice(None) for size in shape)]
    axis = 0
    for old, new in groups(shape, target):
        if len(old) != 1 or len(new) != 1:
            before, after = table.shape[:axis], table.shape[axis + len(old) :]
            weights = np.ones(1)
            for size in (shape[place] for place in old):
                weights = np.outer(weights, [size - 1, 1]).ravel()
            weights = weights[:-1]
            flat = np.moveaxis(table.reshape((*before, 2 ** len(old), *after)), axis, -1)
            differ = flat[..., :-1] @ (weights / weights.sum())
            split = np.repeat(differ[..., None], 2 ** len(new), -1)
            split[..., -1] = flat[..., -1]
            table = np.moveaxis(split, -1, axis).reshape((*before, *(2,) * len(new), *after))
        axis += len(new)
    for place, size in enumerate(target):
        if size == 1:
            table = repeated(table, place)
    return table


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape."""
    shape, own = tuple(shape), value.shape
    result = Value(
        shape, reshape_table(value.table, own, shape), value.mean,
        ((value, lambda g: reshape_table(g, shape, own)),), alignments=(Regroup(own, shape),),
        attention=value.attention, reduced=value.reduced, marginal=alike(value), tilts=(kept,),
    )  # fmt: skip
    if value.allowed is not None and shape[-2:] == own[-2:]:
        result.allowed = value.allowed
    return result


def kept_apart(own: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape with the new last axis but the old leading ones, when the reshape merges some of those."""
    if not shape:
        return None
    total = math.prod(shape[:-1])
    leading = next((count for count in range(len(own), 0, -1) if math.prod(own[:count]) == total), 0)
    return (*own[:leading], shape[-1]) if leading > len(shape) - 1 else None


def permuted(value: Value, order: Sequence[int]) -> Value:
    """Axes in another order."""
    order = [axis % value.rank for axis in order]
    back = np.argsort(order)
    result = Value(
        tuple(value.shape[axis] for axis in order), value.table.transpose(order), value.mean,
        ((value, lambda g: g.transpose(back)),),
        alignments=({place: Along(axis) for place, axis in enumerate(order)},), marginal=alike(value), tilts=(kept,),
    )  # fmt: skip
    if order[-2:] == [value.rank - 2, value.rank - 1]:
        result.allowed = value.allowed
    return result


def expanded(value: Value, shape: Sequence[int]) -> Value:
    """Copies along axes of length 1 and along new axes in front."""
    shape = tuple(shape)
    if shape == value.shape:
        return value
    own = value.shape
    return Value(
        shape, lead(value.table, len(shape)), value.mean, ((value, lambda g: unbroadcast(g, shape, own)),),
        allowed=value.allowed, marginal=alike(value), tilts=(kept,),
    )  # fmt: skip


def fitted(value: Value, shape: Sequence[int]) -> Value:
    """``value`` in ``shape``: a view if it holds as many elements, copies otherwise."""
    shape = tuple(shape)
    if value.shape == shape:
        return value
    return reshaped(value, shape) if math.prod(value.shape) == math.prod(shape) else expanded(value, shape)


def sliced(value: Value, axis: int, length: int, start: int | None = None) -> Value:
    """``length`` of the indices of one axis from ``start``; without it, which ones does not matter."""
    axis %= value.rank
    whole = value.shape[axis]
    if length == whole:
        return value
    shape = (*value.shape[:axis], length, *value.shape[axis + 1 :])

    def pull(g: Table) -> Table:
        differ, agree = np.take(g, 0, axis), np.take(g, 1, axis)
        if length > whole:  # indices repeat (an index that is gathered several times)
            return np.stack([differ * (length / whole) ** 2, agree * (length / whole)], axis)
        return np.stack([differ * (length * (length - 1) / (whole * (whole - 1))), agree * (length / whole)], axis)

    alignment = aligned(shape, value.shape)
    profile = {other: along for other, along in (value.profile or {}).items() if other != axis}
    table, mean = value.table, value.mean
    if start is not None and length < whole:
        alignment[axis] = Along(axis, start)
        part = (value.profile or {}).get(axis, np.ones(whole))[start : start + length]
        size = float(part.mean()) if part.size else 1.0
        if size != 1:
            table, mean = table * size, mean * math.sqrt(size)
            profile |= {axis: part / size} if size > 0 and length > 1 else {}
    return Value(
        shape,
        table,
        mean,
        ((value, pull),),
        alignments=(alignment,),
        profile=profile,
        marginal=alike(value),
        tilts=(kept,),
    )


def selected(value: Value, axis: int, index: int | None = None) -> Value:
    """One index of an axis, which disappears."""
    axis %= value.rank
    start = None if index is None else index % value.shape[axis]
    return reshaped(sliced(value, axis, 1, start), value.shape[:axis] + value.shape[axis + 1 :])


def joined(values: Sequence[Value], axis: int) -> Value:
    """Tensors one after the other along an axis: a mixture."""
    axis %= values[0].rank
    total = sum(value.shape[axis] for value in values)
    shares = [value.shape[axis] / total for value in values]
    mean = sum(share * value.mean for share, value in zip(shares, values, strict=True))
    agree = sum((share * np.take(value.table, 1, axis) for share, value in zip(shares, values, strict=True)), start=0.0)
    differ: Table | float = 0.0
    inside = 0.0
    for share, value in zip(shares, values, strict=True):
        pairs = share * (value.shape[axis] - 1) / max(total - 1, 1)
        differ = differ + pairs * np.take(value.table, 0, axis)
        inside += pairs
    across = mean * mean - sum((share * value.mean) ** 2 for share, value in zip(shares, values, strict=True))
    between = 1 - sum(share * share for share in shares)
    differ = differ + (1 - inside) * (across / between if between > 1e-12 else 0.0)
    shape = (*values[0].shape[:axis], total, *values[0].shape[axis + 1 :])
    starts = np.cumsum([0, *(value.shape[axis] for value in values)])
    alignments = tuple(
        {**aligned(shape, value.shape), axis: Along(axis, -int(start))}
        for value, start in zip(values, starts[:-1], strict=True)
    )
    return Value(
        shape, np.stack([differ, agree], axis), mean, tuple((value, same) for value in values),
        alignments=alignments, profile=_joined_profile(values, axis, shape), segments=(axis, tuple(values)),
        marginal=of_mixture(list(zip(shares, values, strict=True))),
    )  # fmt: skip


def _joined_profile(values: Sequence[Value], axis: int, shape: Sequence[int]) -> Profile:
    parts = [value.power * (value.profile or {}).get(axis, np.ones(value.shape[axis])) for value in values]
    along = np.concatenate(parts)
    size = float(along.mean())
    others = [
        (
            value.power * value.shape[axis],
            {other: found for other, found in (value.profile or {}).items() if other != axis},
        )
        for value in values
    ]
    return {**mixed(others, shape), **({axis: along / size} if size > 0 else {})}


def stacked(values: Sequence[Value], axis: int) -> Value:
    """Tensors along a new axis."""
    axis %= values[0].rank + 1
    return joined([reshaped(value, (*value.shape[:axis], 1, *value.shape[axis:])) for value in values], axis)


def moved(value: Value) -> Value:
    """The same elements in other places, with the same statistics (roll, flip)."""
    return Value(value.shape, value.table, value.mean, ((value, same),))


def padded(value: Value, shape: Sequence[int], fill: float = 0.0) -> Value:
    """Elements of one number around (or, for smaller shapes, a part cut away)."""
    shape = tuple(shape)
    share = min(math.prod(value.shape) / max(math.prod(shape), 1), 1.0)
    table = value.table * share + (1 - share) * fill * fill
    return Value(shape, table, value.mean * share + (1 - share) * fill, ((value, same),))
