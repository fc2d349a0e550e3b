"""Where a graph goes through the same weight again and again: recurrent cells in a Python loop, shared layers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from stablelint.graph.graph import Graph
from stablelint.graph.op import Op
from stablelint.predict.unrolled.operations import MOVES, OPERATIONS, PRODUCTS

#: Uses of one weight on one path that make a loop.
_TIMES = 3
_LEAVES = frozenset({"input", "parameter", "constant"})


@dataclass(frozen=True, slots=True)
class Loop:
    """Ops that are computed together, in execution order, and the ops outside that they read."""

    ops: tuple[int, ...]
    operands: tuple[int, ...]


def find_loops(graph: Graph, needed: Collection[int]) -> tuple[Loop, ...]:
    """The loops among the ``needed`` ops of which every op can be drawn.

    The body of a loop is what lies on a path from one use of a weight to a later one. Loops that belong together (two
    layers that take turns, an encoder and a decoder) are one where that is possible, because then they are drawn with
    the same weights and see what their states have in common.
    """
    paths = _Paths(graph, needed)
    bodies = [body for uses in _tied(graph, needed) for body in _bodies(paths, uses)]
    if not bodies:
        return ()
    whole = paths.between(set().union(*bodies))
    merged = [whole] if _drawable(graph, whole) else _overlapping(paths, bodies)
    return tuple(_loop(graph, paths, body) for body in merged if _drawable(graph, body))


class _Paths:
    """What comes before and after ops among those that carry data."""

    def __init__(self, graph: Graph, needed: Collection[int]) -> None:
        self.graph = graph
        self.order = sorted(needed)
        self._sources = {index: graph.ops[index].inputs for index in self.order}

    def after(self, starts: Iterable[int]) -> set[int]:
        """``starts`` and all that depends on them."""
        found = set(starts)
        for index in self.order:
            if any(source in found for source in self._sources[index]):
                found.add(index)
        return found

    def before(self, ends: Iterable[int]) -> set[int]:
        """``ends`` and all that they depend on."""
        found, waiting = set(ends), list(ends)
        while waiting:
            for source in self._sources.get(waiting.pop(), ()):
                if source not in found:
                    found.add(source)
                    waiting.append(source)
        return found

    def between(self, ops: Collection[int]) -> set[int]:
        """All that lies on paths from one of ``ops`` to another."""
        return self.after(ops) & self.before(ops)


def _tied(graph: Graph, needed: Collection[int]) -> list[list[int]]:
    """The products with each weight that is used several times, in execution order."""
    uses: dict[int, list[int]] = defaultdict(list)
    for index in sorted(needed):
        op = graph.ops[index]
        if op.name in PRODUCTS and graph.is_data(op):
            for root in {_root(graph, source) for source in graph.inputs(op)}:
                if root is not None:
                    uses[root].append(index)
    return [found for found in uses.values() if len(found) >= _TIMES]


def _root(graph: Graph, op: Op) -> int | None:
    """The matrix that ``op`` is a view of, if it is a weight."""
    if graph.is_data(op) or not graph.from_parameters(op):
        return None
    while op.name in MOVES and op.parameter is None and op.inputs:
        op = graph.ops[op.inputs[0]]
    return op.index if len(op.shape) > 1 else None


def _bodies(paths: _Paths, uses: list[int]) -> Iterable[set[int]]:
    """One body for each chain of uses that depend on each other."""
    rest = uses
    while len(rest) >= _TIMES:
        behind = paths.after(rest[:1])
        chain = [use for use in rest if use in behind]
        if len(chain) >= _TIMES:
            yield paths.between(chain)
        rest = [use for use in rest if use not in behind]


def _overlapping(paths: _Paths, bodies: list[set[int]]) -> list[set[int]]:
    """The bodies, those that share ops as one."""
    found: list[set[int]] = []
    for body in bodies:
        for other in [other for other in found if other & body]:
            found.remove(other)
            body = paths.between(body | other)
        found.append(body)
    return found


def _drawable(graph: Graph, body: Iterable[int]) -> bool:
    return all(graph.ops[index].name in OPERATIONS and graph.ops[index].floating for index in body)


def _loop(graph: Graph, paths: _Paths, body: set[int]) -> Loop:
    """The body, the rest of the last step, and what every step reads its inputs and weights through."""
    site = _Sites(graph, body)
    behind = paths.after(body)
    for index in sorted(behind - body):  # the last step goes on behind the last product
        op = graph.ops[index]
        ready = all(source in body or source not in behind for source in op.inputs)
        if ready and site.same(op) and _drawable(graph, (index,)):
            body.add(index)
    waiting = [source for index in body for source in graph.ops[index].inputs]
    operands: set[int] = set()
    while waiting:
        index = waiting.pop()
        op = graph.ops[index]
        if index in body or index in operands:
            continue
        if op.parameter is None and op.known is None and _drawable(graph, (index,)) and op.name not in _LEAVES and (
            op.name in MOVES or site.repeated(op)
        ):  # fmt: skip
            body.add(index)
            waiting += op.inputs
        else:
            operands.add(index)
    return Loop(tuple(sorted(body)), tuple(sorted(operands)))


class _Sites:
    """Which ops are written on the same line: steps of one loop."""

    def __init__(self, graph: Graph, body: Collection[int]) -> None:
        self._body = {self._key(graph.ops[index]) for index in body}
        self._count = Counter(self._key(op) for op in graph)

    def same(self, op: Op) -> bool:
        """Whether the loop contains another step of ``op``."""
        return self._key(op) in self._body

    def repeated(self, op: Op) -> bool:
        """Whether ``op`` is in a loop at all."""
        return self._count[self._key(op)] >= _TIMES

    @staticmethod
    def _key(op: Op) -> tuple[object, ...]:
        return (op.name, op.site, op.scope)
