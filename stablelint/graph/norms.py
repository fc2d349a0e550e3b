"""Normalisations: the library's and those spelled out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.families import NORMS, REDUCTIONS, RESHAPES
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: What may stand between a statistic and the division by it, as in ``x / (x.std(-1) + eps).sqrt()``.
_FINISHING = RESHAPES | {"sqrt", "rsqrt", "add", "clamp", "reciprocal", "pow", "abs", "maximum", "mul", "div"}
#: What may stand between the value and its statistic, as in ``(x - x.mean(-1)).pow(2).mean(-1)``.
_MOMENTS = RESHAPES | {"pow", "square", "abs", "sub", "mul", "identity"}


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation: ``op`` yields the normalised values of ``source``.

    ``frozen`` marks one by stored statistics, which stand for those of the data that a model was pretrained on.
    """

    op: Op
    source: Op
    handwritten: bool = False
    frozen: bool = False


def find_norms(graph: Graph) -> dict[int, Norm]:
    """All normalisations by the index of the op that yields the result (before a hand-written gain)."""
    found = {}
    for op in graph:
        if op.name in NORMS and op.inputs:
            found[op.index] = Norm(op, graph.ops[op.inputs[0]])
        elif op.name in {"div", "mul"} and len(op.inputs) == 2:
            source, frozen = _normalised(graph, op), _frozen(graph, op)
            if source is not None or frozen is not None:
                found[op.index] = Norm(op, source or frozen or op, handwritten=True, frozen=source is None)
    return found


def _normalised(graph: Graph, op: Op) -> Op | None:
    """What ``op`` normalises if it divides a value by a statistic of that same value."""
    sides = [(op.inputs[0], op.inputs[1])]
    if op.name == "mul":
        sides.append((op.inputs[1], op.inputs[0]))
    for value, divisor in sides:
        if graph.ops[value].name == "exp":
            continue  # exp(x) / sum(exp(x)) is a softmax
        origins = {value} | _back(graph, value, frozenset({"sub", "mul", "to"}), 3)
        for statistic in _back(graph, divisor, _FINISHING, 10) | {divisor}:
            reduced = graph.ops[statistic]
            if reduced.name not in REDUCTIONS or not reduced.inputs:
                continue
            base = reduced.inputs[0]
            shared = {index for index in origins & ({base} | _back(graph, base, _MOMENTS, 4)) if _sized(graph, index)}
            if op.name == "mul" and not _inverts(graph, divisor, statistic):
                continue
            if shared:
                return graph.ops[min(shared)]
    return None


def _sized(graph: Graph, index: int) -> bool:
    """Whether the size of a value is the network's doing: it is signal or made of weights, and no mask."""
    return index in graph.flow.depth or graph.from_parameters(graph.ops[index])


def _frozen(graph: Graph, op: Op) -> Op | None:
    """What ``op`` scales by stored statistics: a batch norm whose statistics are frozen, as detectors have it."""
    for value, factor in (op.inputs, op.inputs[::-1]):
        if not graph.is_data(graph.ops[value]) or graph.is_data(graph.ops[factor]):
            continue
        behind = (graph.ops[index].parameter for index in _back(graph, factor, _FINISHING, 10) | {factor})
        if any(weight is not None and weight.buffer and weight.name.endswith("running_var") for weight in behind):
            return graph.ops[value]
    return None


def _back(graph: Graph, start: int, through: frozenset[str] | set[str], limit: int) -> set[int]:
    """The ops behind ``start`` that are reached through the families ``through`` in at most ``limit`` steps."""
    found: set[int] = set()
    front = {start}
    for _ in range(limit):
        front = {source for index in front if graph.ops[index].name in through for source in graph.ops[index].inputs}
        front -= found
        if not front:
            break
        found |= front
    return found


def _inverts(graph: Graph, divisor: int, statistic: int) -> bool:
    """Whether ``divisor`` falls when ``statistic`` grows, as a factor must to normalise."""
    between = {index for index in _back(graph, divisor, _FINISHING, 10) | {divisor} if index > statistic}
    for index in between:
        op = graph.ops[index]
        exponent = op.attrs.get("exponent", op.attrs.get("other"))
        if op.name in {"rsqrt", "reciprocal"}:
            return True
        if op.name == "pow" and isinstance(exponent, int | float) and exponent < 0:
            return True
        if op.name == "div" and op.attrs.get("reversed"):
            return True
    return False
