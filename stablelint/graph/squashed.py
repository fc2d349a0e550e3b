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


@dataclass(frozen=True, eq=False)
class GivenLoss:
    """The ops of a loss, and by input of its graph the op of the model that makes it."""

    graph: Graph
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Squashed:
    """``op`` has results in a range, and ``loss`` reads them as logits.

    ``least`` is what the loss of some sample cannot fall below: of a yes or no -log sigmoid(z) with its z at the better
    end of the range, for the worse of the two answers; of classes -log softmax(z) with one at one end and the others at
    the other. ``one_sided`` says that it is so for one of the two answers. ``chance`` is the loss of knowing nothing.
    Both are None where the loss weighs samples. ``inside`` says that ``op`` is one of the loss that was given.
    """

    op: Op
    loss: Op
    least: float | None
    chance: float | None
    one_sided: bool = False
    inside: bool = False


def find_squashed(graph: Graph) -> tuple[Squashed, ...]:
    """All in the graph, in the loss that was given with it, and between the two."""
    found = [each for reader, source, classes in _read(graph) for each in _judged(source, reader, classes)]
    if graph.loss is None:
        return tuple(found)
    loss, makers = graph.loss.graph, graph.loss.inputs
    given = [op.index for op in loss if op.name == "input"]
    for reader, source, classes in _read(loss):
        if source.index not in given:
            found += _judged(source, reader, classes, inside=True)
        elif len(given) == len(makers):
            output = graph.behind_reshapes(graph.ops[makers[given.index(source.index)]])
            found += _judged(output, reader, classes)
    return tuple(found)


def _read(graph: Graph) -> Iterator[tuple[Op, Op, int]]:
    """The losses of logits in ``graph``, each with the op that makes what it reads, and the number of classes."""
    for op in graph:
        if op.name in _BINARY | _CATEGORICAL and op.inputs:
            operand = graph.ops[op.inputs[0]]
            classes = operand.shape[1] if len(operand.shape) > 1 else operand.shape[-1] if operand.shape else 1
            yield op, graph.behind_reshapes(operand), 2 if op.name in _BINARY else classes


def _judged(op: Op, loss: Op, classes: int, *, inside: bool = False) -> Iterator[Squashed]:
    """``op`` in front of ``loss``, if it squashes."""
    width = _RANGE.get(op.name)
    ends = (op.attrs.get("min", -1.0), op.attrs.get("max", 1.0))
    if width is None or classes < 2 or (op.name == "hardtanh" and ends != (-1.0, 1.0)):
        return
    weighs = {"weight", "pos_weight"} & {*loss.attrs, *loss.attrs.get("operands", {})}
    binary = loss.name in _BINARY
    # a result between 0 and 1 says at most "even" of a negative
    least = math.log1p((classes - 1) * math.exp(-width)) if not binary else math.log1p(math.exp(-width / 2))
    one_sided = binary and width == 1.0
    yield Squashed(
        op,
        loss,
        None if weighs else math.log(2) if one_sided else least,
        None if weighs else math.log(classes),
        one_sided,
        inside,
    )
