"""Where the gradient can flow: the signal ops, the trunk and its blocks."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.families import SHAPE_ONLY
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Ops through which no gradient passes whatever comes in.
CUTS = SHAPE_ONLY | {"detach", "sign", "round", "floor", "ceil", "trunc", "bernoulli", "multinomial", "histc"}


def passes_gradient(op: Op) -> bool:
    """Whether gradient can go through ``op``."""
    return op.floating and op.differentiable and op.name not in CUTS


#: Put values side by side, each with elements of its own in the result.
JOINS = frozenset({"cat", "stack"})
#: Weighted layers in a row that make a path more than the block beside a skip.
_IN_SERIES = 2


@dataclass(frozen=True, slots=True)
class Flow:
    """The part of a graph that carries the signal from the inputs to the deepest output.

    ``signal`` holds the ops on a differentiable path from the data to ``sink``; ``depth`` the number of signal
    ops on the longest path that leads to each. ``trunk`` holds the ops that every path from ``source`` to
    ``sink`` must pass (its dominators), ``block`` their number along the trunk: a block ends where parallel paths
    with weights meet (a residual addition, a concatenation) or, where there are none, begins with a weighted layer.
    A skip that is concatenated past layers in series (U-Net, dense lists) is no such path: the trunk leads through the
    layers, for the channels that they make know no other way.
    """

    sink: int | None
    source: int | None
    signal: frozenset[int]
    depth: dict[int, int]
    trunk: tuple[int, ...]
    block: dict[int, int]


def find_flow(graph: Graph) -> Flow:
    """Find the signal ops, the trunk and its blocks of ``graph``."""
    edges = _edges(graph)
    depth: dict[int, int] = {}
    for index, sources in edges.items():
        depth[index] = 1 + max((depth[source] for source in sources), default=0)
    outputs = [index for index in dict.fromkeys(graph.outputs) if index in depth]
    if not outputs:
        return Flow(None, None, frozenset(), depth, (), {})
    sink = max(outputs, key=lambda index: depth[index])
    signal = _ancestors(edges, sink)
    deep = _without_lateral(graph, edges, signal)
    way = _ancestors(deep, sink)
    length = _lengths(deep, way)
    starts = [index for index in sorted(way) if not deep[index]]
    # biases that are gathered by expert or position start paths, too, but the data comes in elsewhere
    starts = [index for index in starts if graph.ops[index].name in {"input", "embedding"}] or starts
    longest = max(length[index] for index in starts)
    # of the sources far from the sink the trunk has most ops; a side input that comes in late is none
    paths = {start: _dominators(deep, way, start, sink) for start in starts if 2 * length[start] >= longest}
    source = max(paths, key=lambda start: (len(paths[start]), -start))
    trunk = paths[source]
    return Flow(sink, source, frozenset(signal), depth, trunk, _blocks(graph, _reached(deep, way, source), trunk))


def _edges(graph: Graph) -> dict[int, tuple[int, ...]]:
    """Signal inputs of every signal op: floating ops that depend on the data and through which gradient flows."""
    data: set[int] = set()
    carries: set[int] = set()
    edges: dict[int, tuple[int, ...]] = {}
    for op in graph:
        if op.name == "parameter":
            if op.parameter is not None and not op.parameter.buffer:
                carries.add(op.index)
            continue
        if op.name == "input" or any(index in data for index in op.inputs):
            data.add(op.index)
        if op.name == "constant" or not passes_gradient(op):
            continue
        if op.name == "input" or any(index in carries for index in op.inputs):
            carries.add(op.index)
            if op.index in data:
                edges[op.index] = tuple(dict.fromkeys(index for index in op.inputs if index in edges))
    return edges


def _ancestors(edges: dict[int, tuple[int, ...]], sink: int) -> set[int]:
    found, waiting = {sink}, [sink]
    while waiting:
        for source in edges[waiting.pop()]:
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _without_lateral(graph: Graph, edges: dict[int, tuple[int, ...]], signal: set[int]) -> dict[int, tuple[int, ...]]:
    """The edges but for those into a concatenation from operands that lie layers in series behind its deepest one.

    One layer is not enough: a dense layer beside its own input is a block of a growing stream. Zero-initialised layers
    count for none: behind them there is no signal yet, and the skip is the way.
    """
    layers: dict[int, int] = {}
    deep = dict(edges)
    for index in sorted(signal):
        op, sources = graph.ops[index], edges[index]
        layers[index] = max((layers[source] for source in sources), default=0)
        if op.name in JOINS:
            deep[index] = tuple(source for source in sources if layers[index] - layers[source] < _IN_SERIES)
        elif graph.muted(op):
            layers[index] = 0
        elif graph.weighted(op):
            layers[index] += 1
    return deep


def _lengths(edges: dict[int, tuple[int, ...]], way: set[int]) -> dict[int, int]:
    """Ops on the longest path from each op to the sink."""
    length = dict.fromkeys(way, 1)
    for index in sorted(way, reverse=True):
        for source in edges[index]:
            length[source] = max(length[source], length[index] + 1)
    return length


def _reached(edges: dict[int, tuple[int, ...]], way: set[int], start: int) -> set[int]:
    """The ops of ``way`` that ``start`` leads to, and itself."""
    found = {start}
    for index in sorted(way):
        if any(source in found for source in edges[index]):
            found.add(index)
    return found


def _dominators(edges: dict[int, tuple[int, ...]], way: set[int], start: int, sink: int) -> tuple[int, ...]:
    """The ops on every path from ``start`` to ``sink``, in order.

    Execution order is topological, so an op is passed by every path exactly if no edge between ops that lie on
    such paths jumps over it: one sweep.
    """
    reached = _reached(edges, way, start)
    last_use: dict[int, int] = {}
    for index in sorted(reached):
        for source in edges[index]:
            if source in reached:
                last_use[source] = index
    found, horizon = [], start
    for index in sorted(reached):
        if horizon <= index:
            found.append(index)
        horizon = max(horizon, last_use.get(index, index))
        if index == sink:
            break
    return tuple(found)


def _blocks(graph: Graph, reached: set[int], trunk: tuple[int, ...]) -> dict[int, int]:
    """Number the blocks: a weighted layer of the trunk opens one, the end of parallel weighted paths closes one."""
    weighted = [index for index in sorted(reached) if graph.weighted(graph.ops[index])]
    block: dict[int, int] = {}
    number, closed, filled = 0, False, False
    previous = -1
    for index in trunk:
        beside = bisect(weighted, index - 1) - bisect(weighted, previous)
        opens = graph.weighted(graph.ops[index])
        if closed or (filled and (opens or (beside and previous >= 0))):
            number, filled = number + 1, False
        closed = bool(beside) and previous >= 0
        filled = filled or opens or closed
        block[index] = number
        previous = index
    return block
