"""Bounded values that a loss takes for logits, and squashes once more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: The largest difference between two results.
_RANGE = {
    "sigmoid": 1.0,
    "hardsigmoid": 1.0,
    "softmax": 1.0,
    "tanh": 2.0,
    "softsign": 2.0,
    "hardtanh": 2.0,
    "erf": 2.0,
}
#: Losses whose first operand is unbounded, and of how many classes each probability is: of one yes or no, or of all
#: along the axis behind the batch.
_BINARY = frozenset({"bce_with_logits", "multilabel_soft_margin_loss"})
_CATEGORICAL = frozenset({"cross_entropy"})


@dataclass(frozen=True, slots=True)
class Squashed:
    """``op`` has results in a range, and ``loss`` reads them as logits.

    ``least`` is what the loss of some sample cannot fall below: of a yes or no -log sigmoid(z) with its z at the better
    end of the range, for the worse of the two answers; of classes -log softmax(z) with one at one end and the others at
    the other. ``chance`` is the loss of knowing nothing.
    """

    op: Op
    loss: Op
    least: float
    chance: float


def find_squashed(graph: Graph) -> tuple[Squashed, ...]:
    """All in the graph, in the loss that was given with it, and between the two."""
    found = [*_inside(graph)]
    if graph.loss is not None:
        found += _inside(graph.loss)
        returned = [graph.ops[index] for index in dict.fromkeys(graph.outputs) if graph.ops[index].floating]
        given = [op.index for op in graph.loss if op.name == "input"]
        for reader, source in _read(graph.loss):
            if source.index in given and given.index(source.index) < len(returned):
                output = graph.behind_reshapes(returned[given.index(source.index)])
                found += _judged(output, reader)
    return tuple(found)


def _inside(graph: Graph) -> Iterator[Squashed]:
    for reader, source in _read(graph):
        yield from _judged(source, reader)


def _read(graph: Graph) -> Iterator[tuple[Op, Op]]:
    """The losses of logits in ``graph``, each with the op that makes what it reads."""
    for op in graph:
        if op.name in _BINARY | _CATEGORICAL and op.inputs:
            yield op, graph.behind_reshapes(graph.ops[op.inputs[0]])


def _judged(op: Op, loss: Op) -> Iterator[Squashed]:
    """``op`` in front of ``loss``, if it squashes."""
    width = _RANGE.get(op.name)
    if width is None or (
        op.name == "hardtanh" and (op.attrs.get("min", -1.0), op.attrs.get("max", 1.0)) != (-1.0, 1.0)
    ):
        return
    if loss.name in _BINARY:
        # a result between 0 and 1 says at most "even" of a negative
        least = math.log(2) if width == 1 else math.log1p(math.exp(-width / 2))
        yield Squashed(op, loss, least, math.log(2))
    else:
        classes = op.shape[1] if len(op.shape) > 1 else op.shape[-1] if op.shape else 1
        yield Squashed(op, loss, math.log1p((classes - 1) * math.exp(-width)), math.log(max(classes, 1)))
