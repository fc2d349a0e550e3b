"""The rules of ops that only move elements, on top of :mod:`stablelint.predict.transfer.shaping`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stablelint.predict.call import Call, NotModelled, Result
from stablelint.predict.domain import Pull, Table, Value, copied, iid, same
from stablelint.predict.transfer.contraction import equal_ids, lookup
from stablelint.predict.transfer.shaping import (
    expanded,
    fitted,
    joined,
    kept_apart,
    moved,
    padded,
    permuted,
    reshaped,
    selected,
    sliced,
    stacked,
)


def reshape(call: Call) -> Result:
    """view, flatten, squeeze, unsqueeze and the like: the shape of the result says it all."""
    value = call.value(0)
    source = value.unmerged or value
    apart = kept_apart(source.shape, call.shape)
    if apart is None:
        return reshaped(source, call.shape)
    whole = source if apart == source.shape else reshaped(source, apart)
    result = reshaped(whole, call.shape)
    result.unmerged = whole
    return result


def identity(call: Call) -> Result:
    """contiguous, clone, casts: nothing changes; integers of unknown content become zeros and ones."""
    if call.operand(0) is None:
        return iid(call.shape, 0.5, 0.25)
    return fitted(copied(call.value(0)), call.shape)


def detach(call: Call) -> Result:
    """The values without the gradient."""
    value = call.value(0)
    return Value(value.shape, value.table, value.mean, allowed=value.allowed)


def permute(call: Call) -> Result:
    """permute, transpose and movedim."""
    value = call.value(0)
    order = list(range(value.rank))
    if call.op.name == "transpose":
        first, second = call.attr("dim0", 0), call.attr("dim1", 1)
        if order:
            order[first], order[second] = order[second], order[first]
    elif call.op.name == "movedim":
        sources, targets = _tuple(call.attr("source")), _tuple(call.attr("destination"))
        order = [axis for axis in order if axis not in sources]
        for target, source in sorted(zip(targets, sources, strict=True)):
            order.insert(target, source)
    else:
        order = list(_tuple(call.attr("dims")))
    return permuted(value, order)


def expand(call: Call) -> Result:
    """expand, broadcast_to."""
    return expanded(call.value(0), call.shape)


def repeat(call: Call) -> Result:
    """Copies of the whole along axes."""
    value = call.value(0)
    rank = len(call.shape)
    own = (1,) * (rank - value.rank) + value.shape
    times = [out // size for out, size in zip(call.shape, own, strict=True)]
    single = reshaped(value, tuple(size for own_size in own for size in (1, own_size)))
    copies = expanded(single, tuple(size for pair in zip(times, own, strict=True) for size in pair))
    return reshaped(copies, call.shape)


def repeat_interleave(call: Call) -> Result:
    """Copies of each element along one axis."""
    value, axis = call.value(0), call.attr("dim")
    if axis is None:
        value, axis = reshaped(value, (math.prod(value.shape),)), 0
    times, rest = divmod(call.shape[axis], max(value.shape[axis], 1))
    if rest:
        return sliced(value, axis, call.shape[axis])
    single = reshaped(value, (*value.shape[: axis + 1], 1, *value.shape[axis + 1 :]))
    copies = expanded(single, (*value.shape[: axis + 1], times, *value.shape[axis + 1 :]))
    return reshaped(copies, call.shape)


def move(call: Call) -> Result:
    """roll and flip."""
    return moved(call.value(0))


def cat(call: Call) -> Result:
    """cat along an existing axis; empty tensors do not count."""
    values = [value for value in call.several("tensors") if math.prod(value.shape)]
    return joined(values, call.attr("dim", 0)) if len(values) > 1 else fitted(copied(values[0]), call.shape)


def stack(call: Call) -> Result:
    """stack along a new axis."""
    return stacked(call.several("tensors"), call.attr("dim", 0))


def split(call: Call) -> Result:
    """split and chunk: parts of one axis."""
    value, axis = call.value(0), call.attr("dim", 0)
    size = call.attr("size", call.attr("sizes"))
    whole = value.shape[axis]
    if call.op.name == "chunk":
        size = -(-whole // int(call.attr("chunks", 1)))
    if isinstance(size, tuple):
        lengths = [int(length) for length in size]
    elif isinstance(size, int) and size > 0:
        lengths = [min(size, whole - start) for start in range(0, whole, size)]
    else:
        raise NotModelled("split into unknown sizes")
    starts = np.cumsum([0, *lengths])
    return tuple(sliced(value, axis, length, int(start)) for length, start in zip(lengths, starts[:-1], strict=True))


def unbind(call: Call) -> Result:
    """All slices of one axis."""
    value, axis = call.value(0), call.attr("dim", 0)
    return tuple(selected(value, axis, index) for index in range(value.shape[axis]))


def select(call: Call) -> Result:
    """One index of one axis."""
    return selected(call.value(0), call.attr("dim", 0), _whole(call.attr("index")))


def cut(call: Call) -> Result:
    """narrow, and every slice along the one axis whose length changes."""
    value = call.value(0)
    for axis, (own, out) in enumerate(zip(value.shape, call.shape, strict=True)):
        if own != out:
            value = sliced(value, axis, out, _whole(call.attr("start")))
    return value


def getitem(call: Call) -> Result:
    """``x[...]`` with numbers, slices, None, ... and index tensors; or one part of several results."""
    whole, item = call.operand(0), call.op.attrs.get("item")
    if isinstance(item, int):
        return copied(whole[item] if isinstance(whole, tuple) else call.value(0))
    index, value = call.attr("index"), call.value(0)
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    if index is None or any(isinstance(part, (tuple, list, bool)) for part in parts):
        return gathered(value, call.shape)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts = (*parts, Ellipsis)
    place = parts.index(Ellipsis)
    parts = (*parts[:place], *(slice(None),) * (value.rank - used), *parts[place + 1 :])
    if sum(isinstance(part, str) for part in parts) > 1:
        return gathered(value, call.shape)
    axis, tensors = 0, 1
    for part in parts:
        if part is None:
            value = reshaped(value, (*value.shape[:axis], 1, *value.shape[axis:]))
            axis += 1
        elif isinstance(part, int):
            value = selected(value, axis, part)
        elif isinstance(part, str):
            extra = len(call.shape) - (value.rank - 1) - sum(later is None for later in parts[parts.index(part) :])
            value = picked(value, axis, call.known(tensors), call.shape[axis : axis + extra])
            axis += extra
        else:
            if axis < len(call.shape) and call.shape[axis] != value.shape[axis]:
                value = sliced(value, axis, call.shape[axis], _start(part, value.shape[axis]))
            axis += 1
    return copied(value) if value.shape == call.shape else gathered(call.value(0), call.shape)


def picked(value: Value, axis: int, ids: Any, shape: tuple[int, ...]) -> Value:
    """The slices of one axis at the places of an index tensor."""
    order = [axis, *(other for other in range(value.rank) if other != axis)]
    front = permuted(value, order)
    found = lookup(
        front, equal_ids(ids if ids is not None and ids.shape == shape else None, shape, value.shape[axis]), shape
    )
    places = list(range(len(shape)))
    rest = list(range(len(shape), found.rank))
    return permuted(found, rest[:axis] + places + rest[axis:])


def index_select(call: Call) -> Result:
    """Slices of one axis by index."""
    axis = call.attr("dim", 0)
    return picked(call.value("input"), axis, call.known("index"), (call.shape[axis],))


def gather(call: Call) -> Result:
    """Elements picked by an index tensor of the result's shape."""
    return gathered(call.value(0), call.shape)


def gathered(value: Value, shape: tuple[int, ...]) -> Value:
    """Some elements in some order: the common axes at the end keep their meaning, the others are one heap."""
    tail = 0
    while tail < min(value.rank, len(shape)) and value.shape[-1 - tail] == shape[-1 - tail]:
        tail += 1
    kept = shape[len(shape) - tail :]
    heap = reshaped(value, (math.prod(value.shape[: value.rank - tail]), *kept))
    return reshaped(sliced(heap, 0, math.prod(shape[: len(shape) - tail])), shape)


def pad(call: Call) -> Result:
    """Padding with a constant; reflections and copies of the border change no statistic."""
    value = call.value(0)
    if call.attr("mode", "constant") != "constant":
        return Value(call.shape, value.table, value.mean, ((value, same),))
    return padded(value, call.shape, call.number("value", 0.0))


def setitem(call: Call) -> Result:
    """``x[...] = y`` and copy_: a mixture by the share of elements that are replaced."""
    value = call.value(0)
    source = call.optional("value") or call.optional("source")
    if source is None and call.op.name == "setitem" and len(call.operands) > 1:
        written = call.operands[1]  # a view of x that was written into
        source = written if isinstance(written, Value) else None
    if call.op.name == "copy" and source is not None:
        return fitted(copied(source), call.shape)
    if source is None:
        fill = call.number("value", 0.0)
        return Value(value.shape, value.table, value.mean if fill == 0 else (value.mean + fill) / 2, ((value, same),))
    share = min(math.prod(source.shape) / max(math.prod(value.shape), 1), 1.0)
    diagonal = np.full(value.table.shape, source.mean**2)
    shared = min(source.rank, value.rank)
    if shared:
        # what is written to other indices of a leading axis is independent: images of a batch
        tail = source.table[(1,) * (source.rank - shared)] if source.rank > shared else source.table
        diagonal[(1,) * (value.rank - shared)] = tail

    def replace(g: Table) -> Table:
        rank = source.rank
        if rank > g.ndim:
            g = np.broadcast_to(g, (2,) * rank)
        return np.asarray(g[(1,) * (g.ndim - rank)] if g.ndim > rank else g)

    return Value(
        value.shape, (1 - share) * value.table + share * diagonal, (1 - share) * value.mean + share * source.mean,
        ((value, lambda g: (1 - share) * g), (source, replace)),
    )  # fmt: skip


def scatter(call: Call) -> Result:
    """scatter, scatter_add, index_add: a tensor whose elements are put among those of another."""
    value = call.value("input")
    source = next((found for name in ("src", "source", "value") if (found := call.optional(name)) is not None), None)
    if source is None:
        return copied(value)
    share = math.prod(source.shape) / max(math.prod(value.shape), 1)
    table = value.table + min(share, 1.0) * np.full(value.table.shape, source.mean**2)
    table.flat[-1] = value.power + share * source.power
    return Value(value.shape, table, value.mean + share * source.mean, ((value, same), (source, _diagonal(source))))


def _diagonal(target: Value) -> Pull:
    """Each element of ``target`` receives the gradient of one place."""

    def pull(g: Table) -> Table:
        back = np.zeros(target.table.shape)
        back.flat[-1] = float(g.flat[-1])
        return back

    return pull


def unfold(call: Call) -> Result:
    """Windows along an axis, or image patches as columns: every element is copied about equally often."""
    value = call.value(0)
    copies = math.prod(call.shape) / max(math.prod(value.shape), 1)
    table = np.full((2,) * len(call.shape), value.mean**2)
    table.flat[-1] = value.power
    if value.rank and call.shape and value.shape[0] == call.shape[0]:
        table[1] = np.maximum(table[1], float(value.table[(1, *(0,) * (value.rank - 1))]))

    def pull(g: Table) -> Table:
        back = np.zeros(value.table.shape)
        back.flat[-1] = copies * float(g.flat[-1])
        return back

    return Value(call.shape, table, value.mean, ((value, pull),))


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _start(part: Any, size: int) -> int | None:
    """Where a slice begins, if it takes neighbours."""
    if isinstance(part, slice) and part.step in (None, 1) and isinstance(part.start, (int, type(None))):
        return part.indices(size)[0] if isinstance(part.stop, (int, type(None))) else part.start
    return None
