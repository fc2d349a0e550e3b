"""Attention: the contraction of queries and keys, what scales it, and the softmax over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stablelint.graph.families import RESHAPES
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: What may stand between the scores and the softmax.
_SCORE_PATH = RESHAPES | {"add", "sub", "mul", "div", "masked_fill", "where", "to", "clamp", "neg", "cat", "pad"}
#: What may stand between the softmax and the contraction with the values.
_WEIGHT_PATH = RESHAPES | {"dropout", "to", "masked_fill", "where", "mul", "div", "nan_to_num"}
#: What may stand between a projection and the scores (rotary embeddings add and multiply by tables).
_HEAD_PATH = RESHAPES | {"add", "mul", "div", "neg", "cat", "dropout", "to", "stack", "pad"}
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention: ``softmax(scale * q @ k.T)``.

    ``scores`` is the contraction (or the fused op), ``head_dim`` the number of products in one score, ``keys``
    the length of a softmax row, ``scale`` the product of all constant factors between the projections and the
    softmax. ``learned_scale`` says that a trained factor or a norm of the queries or keys sets the size of the
    scores. ``logit_std`` is the standard deviation of the logits if the projections see unit-variance inputs,
    from the weights where they are known and for unit-variance queries and keys elsewhere (``assumed``).
    """

    scores: Op
    softmax: Op
    head_dim: int
    keys: int
    scale: float
    learned_scale: bool
    logit_std: float
    assumed: bool

    @property
    def scales_scores(self) -> bool:
        """Whether any constant other than 1 scales the scores."""
        return not math.isclose(self.scale, 1.0, rel_tol=1e-6)


@dataclass(frozen=True, slots=True)
class _Side:
    """What is known of the queries or the keys: constant factors, size, whether a norm or weight sets it."""

    scale: float = 1.0
    std: float = 1.0
    known: bool = False
    normalised: bool = False
    learned: bool = False


def find_attentions(graph: Graph) -> tuple[Attention, ...]:
    """All attentions in execution order."""
    found = []
    for op in graph:
        if op.name == "scaled_dot_product_attention" and len(op.inputs) >= 3:
            found.append(_fused(graph, op))
        elif op.name == "softmax" or _handwritten_softmax(graph, op):
            attention = _spelled_out(graph, op)
            if attention is not None:
                found.append(attention)
    return tuple(found)


def _fused(graph: Graph, op: Op) -> Attention:
    query, key = (graph.ops[index] for index in op.inputs[:2])
    head_dim = query.shape[-1] if query.shape else 1
    given = op.attrs.get("scale")
    scale = float(given) if isinstance(given, int | float) else 1 / math.sqrt(max(head_dim, 1))
    keys = key.shape[-2] if len(key.shape) > 1 else 1
    return _attention(graph, op, op, query, key, head_dim, keys, scale, learned=False)


def _spelled_out(graph: Graph, softmax: Op) -> Attention | None:
    if not _weights_values(graph, softmax):
        return None
    scale, learned, op = 1.0, False, graph.ops[softmax.inputs[0]]
    for _ in range(_STEPS):
        operands = graph.data_inputs(op)
        if op.name in {"matmul", "einsum"} and len(op.inputs) >= 2:
            # learned queries or keys do not depend on the data, the other side does; a third operand is a bias
            operands = graph.inputs(op)[:2]
            head_dim = _contracted(op, operands[0])
            if head_dim is None:
                return None
            scale *= float(op.attrs.get("alpha", 1.0))
            dim = softmax.attrs.get("dim", -1)
            keys = softmax.shape[dim] if softmax.shape else 1
            return _attention(graph, op, softmax, operands[0], operands[1], head_dim, keys, scale, learned)
        if op.name == "exp" and op.inputs:
            op = graph.ops[op.inputs[0]]
            continue
        if op.name not in _SCORE_PATH or not operands:
            return None
        factor, trained = _factor(graph, op)
        scale, learned = scale * factor, learned or trained
        op = _towards_contraction(operands)
    return None


def _towards_contraction(operands: tuple[Op, ...]) -> Op:
    """Of the terms of a sum, the one that holds the scores: the largest, and the last computed among equals."""
    return max(operands, key=lambda op: (op.numel, op.name in {"matmul", "einsum", "mul", "div"}, op.index))


def _attention(
    graph: Graph, scores: Op, softmax: Op, query: Op, key: Op, head_dim: int, keys: int, scale: float, learned: bool
) -> Attention:
    q, k = _side(graph, query), _side(graph, key)
    scale *= q.scale * k.scale
    learned = learned or q.learned or k.learned or q.normalised or k.normalised
    std = scale * math.sqrt(head_dim) * q.std * k.std
    return Attention(scores, softmax, head_dim, keys, scale, learned, abs(std), not (q.known and k.known))


def _side(graph: Graph, op: Op) -> _Side:
    """Walk from an operand of the scores back to the projection that made it."""
    side = _Side()
    for _ in range(_STEPS):
        if op.index in graph.norms:
            return replace(side, normalised=True)
        if op.parameter is not None and not op.parameter.buffer and math.isfinite(op.parameter.rms):
            return replace(side, std=op.parameter.rms, known=True)
        if graph.weighted(op):
            std = _projected_std(graph, op)
            return side if std is None else replace(side, std=std, known=True)
        operands = graph.data_inputs(op) or graph.inputs(op)
        if op.name not in _HEAD_PATH or not operands:
            return side
        factor, trained = _factor(graph, op)
        side = replace(side, scale=side.scale * factor, learned=side.learned or trained)
        op = operands[0]
    return side


def _projected_std(graph: Graph, op: Op) -> float | None:
    """Standard deviation of ``x @ W.T`` for unit-variance x: sqrt(fan_in * E[w^2])."""
    for index in op.inputs:
        weight = graph.behind_reshapes(graph.ops[index]).parameter
        if weight is not None and not weight.buffer and len(weight.shape) >= 2:
            operands = graph.data_inputs(op)
            fan_in = operands[0].shape[-1] if op.name in {"linear", "matmul"} and operands else weight.shape[1]
            return math.sqrt(fan_in) * weight.rms if math.isfinite(weight.rms) else None
    return None


def _factor(graph: Graph, op: Op) -> tuple[float, bool]:
    """The constant by which ``op`` multiplies, and whether a trained parameter takes part."""
    if op.name not in {"mul", "div"}:
        return 1.0, False
    value = op.attrs.get("other")
    trained = False
    for index in op.inputs:
        other = graph.ops[index]
        if graph.is_data(other):
            continue
        known = other.known
        if other.numel == 1 and isinstance(known, int | float):
            value = known
        trained = trained or graph.from_parameters(other)
    if not isinstance(value, int | float) or value == 0:
        return 1.0, trained
    return (1 / float(value) if op.name == "div" and not op.attrs.get("reversed") else float(value)), trained


def _weights_values(graph: Graph, softmax: Op) -> bool:
    """Whether the softmax is contracted with values afterwards, which makes it attention."""
    front = [softmax]
    for _ in range(_STEPS):
        users = [user for op in front for user in graph.users(op)]
        if any(user.name in {"matmul", "einsum"} for user in users):
            return True
        front = [user for user in users if user.name in _WEIGHT_PATH]
        if not front:
            return False
    return False


def _handwritten_softmax(graph: Graph, op: Op) -> bool:
    """``exp(x) / exp(x).sum(dim)``."""
    if op.name != "div" or len(op.inputs) != 2:
        return False
    above, below = graph.inputs(op)
    return above.name == "exp" and below.name == "sum" and below.inputs[:1] == (above.index,)


def _contracted(op: Op, left: Op) -> int | None:
    """How many products one element of a contraction sums."""
    if op.name == "matmul":
        return left.shape[-1] if left.shape else None
    equation = str(op.attrs.get("equation", "")).replace(" ", "").replace("...", "")
    if "->" not in equation or equation.count(",") != 1:
        return None
    (first, second), result = equation.split("->")[0].split(","), equation.split("->")[1]
    summed = [letter for letter in first if letter in second and letter not in result]
    if not summed or len(left.shape) < len(first):
        return None
    offset = len(left.shape) - len(first)
    return math.prod(left.shape[offset + first.index(letter)] for letter in summed)
