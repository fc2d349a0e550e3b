"""The ops that loops are written with, on a tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stablelint.graph.op import Op
from stablelint.predict.call import NotModelled
from stablelint.predict.functions import UNARY, function
from stablelint.predict.unrolled.cells import CELL_INPUTS, cell_step
from stablelint.predict.unrolled.tape import Node, Tape

#: What an op computes: one tensor or several.
Computed = Node | tuple[Node, ...]
Operation = Callable[[Tape, Op, Sequence[Computed]], Computed]


def _one(given: Sequence[Computed], place: int = 0) -> Node:
    found = given[place]
    return found[0] if isinstance(found, tuple) else found


def _named(op: Op, given: Sequence[Computed], name: str, default: int | None = None) -> Node | None:
    """The operand of this name in the signature."""
    place = op.attrs.get("operands", {}).get(name, default)
    return _one(given, place) if isinstance(place, int) and place < len(given) else None


def _required(op: Op, given: Sequence[Computed], name: str, default: int) -> Node:
    found = _named(op, given, name, default)
    if found is None:
        raise NotModelled(f"{op.name} without {name}")
    return found


def _several(op: Op, given: Sequence[Computed], name: str) -> list[Node]:
    places = op.attrs.get("operands", {}).get(name, ())
    return [_one(given, place) for place in ((places,) if isinstance(places, int) else places)]


def _axis(op: Op, name: str = "dim", default: int = 0) -> int:
    """An axis of the array: behind the draws."""
    axis = op.attrs.get(name)
    axis = default if axis is None else axis
    if not isinstance(axis, int):
        raise NotModelled(f"{op.name} along {axis!r}")
    return axis + 1 if axis >= 0 else axis


def _apply(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    found = function(op.name, op.attrs)
    if found is None:
        raise NotModelled(op.name)
    return tape.apply(_one(given), found)


def _add(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    factor = float(op.attrs.get("alpha") or 1.0) * (-1.0 if op.name == "sub" else 1.0)
    other = op.attrs.get("other")
    if not isinstance(other, (int, float)):
        return tape.add(_one(given), _one(given, 1), factor)
    return tape.affine(_one(given), factor, other) if op.attrs.get("reversed") else tape.affine(
        _one(given), 1.0, factor * other
    )  # fmt: skip


def _mul(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    other = op.attrs.get("other")
    if isinstance(other, (int, float)):
        return tape.affine(_one(given), float(other))
    return tape.mul(_one(given), _one(given, 1))


def _div(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    other = op.attrs.get("other")
    if not isinstance(other, (int, float)) or not other or op.attrs.get("reversed") or op.attrs.get("rounding_mode"):
        raise NotModelled("division by a tensor")
    return tape.affine(_one(given), 1.0 / other)


def _lerp(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    start, end, weight = _required(op, given, "input", 0), _required(op, given, "end", 1), _named(op, given, "weight")
    way = tape.add(end, start, -1.0)
    share = float(op.attrs.get("weight", 0.5)) if weight is None else 0.0
    return tape.add(start, tape.affine(way, share) if weight is None else tape.mul(weight, way))


def _linear(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    x, weight = _required(op, given, "input", 0), _required(op, given, "weight", 1)
    return tape.linear(x, weight, _named(op, given, "bias"))


def _matmul(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    left, right = _required(op, given, "input", 0), _required(op, given, "other", 1)
    if min(len(left.shape), len(right.shape)) < 2:
        raise NotModelled("a product with a vector")
    if len(right.shape) == 2:
        product = tape.linear(left, tape.view(right, lambda array: array.swapaxes(1, 2)))
    else:
        product = tape.matmul(left, right)
    bias = _named(op, given, "bias")
    alpha, beta = (float(op.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    product = tape.affine(product, alpha) if alpha != 1 else product
    return product if bias is None or beta == 0 else tape.add(product, bias, beta)


def _layer_norm(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    shape = op.attrs.get("normalized_shape")
    axes = len(shape) if isinstance(shape, (tuple, list)) else 1
    result = tape.normalize(_one(given), axes, float(op.attrs.get("eps") or 1e-5))
    weight, bias = _named(op, given, "weight"), _named(op, given, "bias")
    result = result if weight is None else tape.mul(result, weight)
    return result if bias is None else tape.add(result, bias)


def _cell(tape: Tape, op: Op, given: Sequence[Computed]) -> Computed:
    own = {name: node for name in CELL_INPUTS if (node := _named(op, given, name)) is not None}
    state = cell_step(tape, op, own, tuple(_several(op, given, "hx")))
    return state if op.name == "lstm_cell" else state[0]


def _reduce(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    x, dims = _one(given), op.attrs.get("dim")
    rank = len(x.shape)
    chosen = range(rank) if dims is None else (dims,) if isinstance(dims, int) else dims
    axes = tuple(axis % rank + 1 for axis in chosen)
    total = tape.sum(x, axes)
    if op.name == "mean":
        total = tape.affine(total, total.array[0].size / x.array[0].size)
    return tape.reshape(total, op.shape)


def _softmax(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    return tape.softmax(_one(given), _axis(op, default=-1))


def _dropout(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    """One mask for all draws, another one at each use."""
    kept = 1 - float(op.attrs.get("p", 0.5))
    if not op.attrs.get("training", True) or not 0 < kept < 1:
        return _one(given)
    mask = np.random.default_rng(op.index).random((1, *op.shape)) < kept
    return tape.mul(_one(given), tape.leaf(mask / kept))


def _same(_tape: Tape, _op: Op, given: Sequence[Computed]) -> Node:
    return _one(given)


def _reshape(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    return tape.reshape(_one(given), op.shape)


def _expand(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    return tape.add(_one(given), tape.leaf(np.zeros((1, *op.shape))))


def _permute(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    x = _one(given)
    if op.name == "transpose":
        first, second = _axis(op, "dim0"), _axis(op, "dim1", 1)
        return tape.view(x, lambda array: array.swapaxes(first, second))
    order = (0, *(axis % len(x.shape) + 1 for axis in op.attrs["dims"]))
    return tape.view(x, lambda array: array.transpose(order))


def _part(tape: Tape, x: Node, axis: int, start: int, length: int) -> Node:
    def of(array: Any) -> Any:
        return np.moveaxis(np.moveaxis(array, axis, 0)[start : start + length], 0, axis)

    return tape.view(x, of)


def _index(tape: Tape, x: Node, axis: int, place: int) -> Node:
    return tape.view(x, lambda array: np.moveaxis(array, axis, 0)[place])


def _split(tape: Tape, op: Op, given: Sequence[Computed]) -> Computed:
    x, axis = _one(given), _axis(op)
    whole = x.array.shape[axis]
    size = op.attrs.get("size", op.attrs.get("sizes"))
    if op.name == "chunk":
        size = -(-whole // int(op.attrs.get("chunks", 1)))
    if isinstance(size, int) and size > 0:
        size = tuple(min(size, whole - start) for start in range(0, whole, size))
    if not isinstance(size, (tuple, list)):
        raise NotModelled("split into unknown sizes")
    starts = np.cumsum([0, *size])[:-1]
    return tuple(_part(tape, x, axis, int(start), int(length)) for start, length in zip(starts, size, strict=True))


def _unbind(tape: Tape, op: Op, given: Sequence[Computed]) -> Computed:
    x, axis = _one(given), _axis(op)
    return tuple(_index(tape, x, axis, place) for place in range(x.array.shape[axis]))


def _select(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    place = op.attrs.get("index")
    if not isinstance(place, int):
        raise NotModelled("an index that depends on data")
    return _index(tape, _one(given), _axis(op), place)


def _getitem(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    item, whole = op.attrs.get("item"), given[0]
    if isinstance(item, int) and isinstance(whole, tuple):
        return whole[item]
    index = op.attrs.get("index")
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(
        part is None or part is Ellipsis or (isinstance(part, (int, slice)) and not isinstance(part, bool))
        for part in parts
    )
    if index is None or not plain:
        raise NotModelled("an index that depends on data")
    return tape.view(_one(given), lambda array: array[(slice(None), *parts)])


def _join(tape: Tape, op: Op, given: Sequence[Computed]) -> Node:
    parts, axis = _several(op, given, "tensors"), int(op.attrs.get("dim") or 0)
    return tape.cat(parts, axis) if op.name == "cat" else tape.stack(parts, axis)


#: The ops that only move elements: loops read their inputs and weights through them.
MOVES: Mapping[str, Operation] = {
    **dict.fromkeys(("contiguous", "clone", "identity", "alias"), _same),
    **dict.fromkeys(("reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("transpose", "permute"), _permute),
    **dict.fromkeys(("split", "chunk"), _split),
    "expand": _expand,
    "unbind": _unbind,
    "select": _select,
    "getitem": _getitem,
}

#: Multiply by a weight.
PRODUCTS: Mapping[str, Operation] = {
    "linear": _linear,
    "matmul": _matmul,
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_cell"), _cell),
}

OPERATIONS: Mapping[str, Operation] = {
    **dict.fromkeys(sorted(UNARY), _apply),
    **dict.fromkeys(("add", "sub"), _add),
    **dict.fromkeys(("cat", "stack"), _join),
    **MOVES,
    **PRODUCTS,
    "mul": _mul,
    "div": _div,
    "lerp": _lerp,
    "layer_norm": _layer_norm,
    "dropout": _dropout,
    "softmax": _softmax,
    **dict.fromkeys(("mean", "sum"), _reduce),
}
