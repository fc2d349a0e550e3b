"""The values of all ops of a loop, computed together on draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stablelint.graph.graph import Graph
from stablelint.graph.op import Op
from stablelint.predict.call import NotModelled, Operand
from stablelint.predict.domain import Value
from stablelint.predict.gaussian import Array
from stablelint.predict.unrolled.loops import Loop
from stablelint.predict.unrolled.operations import OPERATIONS, PRODUCTS, Computed
from stablelint.predict.unrolled.rollout import Rollout
from stablelint.predict.unrolled.tape import Node

#: Draws at most, the multiplications that several of them may cost, and those of one that is too dear.
_DRAWS, _WORK, _TOO_MUCH = 16, 6e8, 3e9
#: Samples of a batch that are drawn.
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class _Batch:
    """The size of the batch and how much of it is drawn."""

    size: int
    drawn: int

    def fewer(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape as it is drawn."""
        return tuple(self.drawn if size == self.size else size for size in shape)

    def all(self, shape: tuple[int, ...], like: tuple[int, ...]) -> tuple[int, ...]:
        """The true shape of what was drawn, with the batch on the axis on which ``like`` has it."""
        return shape if len(shape) != len(like) else tuple(
            self.size if true == self.size else size for size, true in zip(shape, like, strict=True)
        )  # fmt: skip


def unrolled(graph: Graph, loop: Loop, given: Mapping[int, Operand]) -> dict[int, Operand]:
    """The values of the ops of ``loop`` from those of its operands."""
    batch = _batch(graph, loop)
    ops = [replace(graph.ops[index], shape=batch.fewer(graph.ops[index].shape)) for index in loop.ops]
    work = sum(_work(graph, op) for op in ops)
    if work > _TOO_MUCH:
        raise NotModelled("a loop that is too large to draw")
    roll = Rollout(min(max(int(_WORK / work), 1), _DRAWS), batch.size / batch.drawn)
    nodes: dict[int, Computed] = {index: _operand(roll, given[index], batch) for index in loop.operands}
    for op in ops:
        nodes[op.index] = OPERATIONS[op.name](roll.tape, op, [nodes[source] for source in op.inputs])
    parts = {index: _parts(graph.ops[index], nodes[index], batch) for index in loop.ops}
    found = iter(roll.results([part for each in parts.values() for part in each]))
    values: dict[int, Operand] = {}
    for index, each in parts.items():
        own = tuple(next(found) for _ in each)
        for value, (node, _) in zip(own, each, strict=True):
            roll.watch(value, partial(_gradient, node))
        values[index] = own if isinstance(nodes[index], tuple) else own[0]
    return values


def _gradient(node: Node) -> Array | None:
    return node.grad


def _batch(graph: Graph, loop: Loop) -> _Batch:
    """The batch, if one axis of every tensor that depends on data has its size and no other."""
    sizes = {graph.ops[index].shape[0] for index in loop.ops if graph.ops[index].name in PRODUCTS}
    size = sizes.pop() if len(sizes) == 1 else 1
    tensors = [graph.ops[index] for index in (*loop.ops, *loop.operands)]
    # weights have no batch; the state that a loop starts with has one though it depends on no data
    clear = all(
        op.shape.count(size) == 1 if graph.is_data(op) else op.shape.count(size) <= int(op.name != "parameter")
        for op in tensors
    )
    return _Batch(size, min(size, _SAMPLES)) if clear else _Batch(0, 1)


def _operand(roll: Rollout, found: Operand, batch: _Batch) -> Computed:
    if isinstance(found, Value):
        return roll.leaf(found, batch.fewer(found.shape))
    if isinstance(found, np.ndarray):
        return roll.known(found[tuple(slice(size) for size in batch.fewer(found.shape))])
    if isinstance(found, tuple) and found:
        return tuple(roll.leaf(part, batch.fewer(part.shape)) for part in found)
    raise NotModelled("a tensor of unknown content")


def _parts(op: Op, node: Computed, batch: _Batch) -> list[tuple[Node, tuple[int, ...]]]:
    """What an op computed, with its true shape."""
    if isinstance(node, tuple):
        return [(part, batch.all(part.shape, op.shape)) for part in node]
    if node.shape != batch.fewer(op.shape):
        raise ValueError(f"shape {node.shape} instead of {op.shape}")
    return [(node, op.shape)]


def _work(graph: Graph, op: Op) -> float:
    """Multiplications of an op, counting what an element costs besides as a few."""
    if op.name not in PRODUCTS:
        return 10.0 * op.numel
    weights = [source for source in graph.inputs(op) if len(source.shape) == 2 and not graph.is_data(source)]
    rows = op.numel / op.shape[-1]
    return 10.0 * op.numel + rows * sum(math.prod(source.shape) for source in weights)
