"""Residual additions: what is skipped, what lies on the skip path, what on the branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.families import RESHAPES, SUMS
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Ops between a stream and what is computed from it inside one block.
_NEAR = 64


@dataclass(frozen=True, slots=True)
class Residual:
    """``join = skip(fork) + branch(fork, ...)``.

    ``fork`` is the op whose value is both skipped and transformed, ``skip`` the ops between it and ``join`` on
    the path with fewer weighted layers (empty for an identity), ``branch`` the ops of the other path, both in
    execution order and without fork and join.
    """

    join: Op
    fork: Op
    skip: tuple[Op, ...]
    branch: tuple[Op, ...]


def find_residuals(graph: Graph) -> tuple[Residual, ...]:
    """All residual additions on the signal path, in execution order."""
    signal = graph.flow.signal
    found = []
    for op in graph:
        if op.index not in signal or op.name not in SUMS:
            continue
        operands = [source for source in dict.fromkeys(op.inputs) if source in signal]
        if len(operands) == 2:
            residual = _split(graph, op, operands[0], operands[1])
            if residual is not None:
                found.append(residual)
    return tuple(found)


def _split(graph: Graph, join: Op, left: int, right: int) -> Residual | None:
    """The fork is the latest op that lies on every path into both operands: walk back until the fronts meet.

    Execution order is topological, so always expanding the latest pending op meets a common ancestor when
    only one op is pending on both sides.
    """
    signal = graph.flow.signal
    sides: dict[int, int] = {}
    pending = {left: 1}
    pending[right] = pending.get(right, 0) | 2
    added = {left, right}  # what only additions and moves lie between it and the join
    while pending:
        index = max(pending)
        side = pending.pop(index)
        beside = [other for other in pending if other in added]
        if side == 3 and (index in added or not any(_leads_to(graph, other, index) for other in beside)):
            # what still waits is context that enters the branch from elsewhere (cross-attention)
            return _residual(graph, join, index, sides, set(pending.values()))
        sides[index] = side
        if index in added and graph.ops[index].name in SUMS | RESHAPES:
            added.update(graph.ops[index].inputs)
        sources = [source for source in graph.ops[index].inputs if source in signal]
        if not sources:
            return None
        for source in sources:
            pending[source] = pending.get(source, 0) | side
    return None


def _leads_to(graph: Graph, start: int, end: int) -> bool:
    """Whether ``end`` is computed from ``start``, the stream that passes beside it."""
    found, waiting = {end}, [end]
    while waiting and len(found) < _NEAR:
        for source in graph.ops[waiting.pop()].inputs:
            if source >= start and source not in found:
                found.add(source)
                waiting.append(source)
    return start in found


def _residual(graph: Graph, join: Op, fork: int, sides: dict[int, int], context: set[int]) -> Residual | None:
    left, right, both = (
        tuple(graph.ops[index] for index in sorted(sides) if sides[index] == side) for side in (1, 2, 3)
    )
    if len(context) > 1 or context == {3}:
        return None
    if context == {1} or (not context and _length(graph, left) > _length(graph, right)):
        skip, branch = right, left
    else:
        skip, branch = left, right
    branch = (*both, *branch)  # a norm that both sides read lies beside the stream
    if not any(graph.weighted(op) for op in branch):
        return None
    return Residual(join, graph.ops[fork], skip, branch)


def _length(graph: Graph, path: tuple[Op, ...]) -> tuple[int, int]:
    return sum(graph.weighted(op) for op in path), len(path)
