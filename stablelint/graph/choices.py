"""Where data or chance decides which elements get a gradient: what gets none on one batch may get some on the next."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from stablelint.graph.families import CONTRACTIONS, RECTIFIERS, SHAPE_ONLY
from stablelint.graph.flow import JOINS
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Yield numbers that are drawn.
RANDOM = frozenset(
    {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial",
     "normal", "uniform", "exponential", "dropout", "gumbel_softmax", "rrelu"}
)  # fmt: skip

#: Pass gradient to the elements that their own values pick, or that are drawn.
_PICKING = RECTIFIERS | frozenset(
    {"max", "min", "amax", "amin", "maximum", "minimum", "topk", "sort", "kthvalue", "median", "mode", "max_pool",
     "cummax", "cummin", "dropout"}
)  # fmt: skip

#: Multiply the gradient of one operand by the other.
_MULTIPLYING = CONTRACTIONS | {"mul", "div", "addcmul", "lerp"}


def find_varying(graph: Graph) -> frozenset[int]:
    """The ops whose values depend on data or chance; a shape that is taken from data does not."""
    found: set[int] = set()
    for op in graph:
        handed_on = op.name not in SHAPE_ONLY and any(index in found for index in op.inputs)
        if op.name == "input" or op.name in RANDOM or handed_on:
            found.add(op.index)
    return frozenset(found)


def held_back(graph: Graph, starts: Iterable[int], heard: Collection[int]) -> bool:
    """Whether some way from ``starts`` to an output is closed by what data or chance has picked, and by no constant.

    ``heard`` are the ops with a gradient. A way is closed where one of them reads an op without: a product with a mask
    that is drawn, a maximum that another element is; or a value that is put beside others, of which an op behind picks
    (boxes that no object lies in).
    """
    seen, waiting = set(starts), list(starts)
    while waiting:
        source = graph.ops[waiting.pop()]
        for user in graph.users(source):
            if user.index not in graph.flow.signal:
                continue
            if user.index in heard:
                if _picks(graph, user, source) or (_joins(user) and _picked_behind(graph, user)):
                    return True
            elif user.index not in seen:
                seen.add(user.index)
                waiting.append(user.index)
    return False


def _joins(op: Op) -> bool:
    return op.name in JOINS or op.name == "setitem"


def _picks(graph: Graph, op: Op, source: Op) -> bool:
    """Whether data or chance decides what part of ``op``'s gradient ``source`` gets."""
    others = [other for other in graph.inputs(op) if other.index != source.index and other.index in graph.varying]
    return op.name in _PICKING or any(op.name in _MULTIPLYING or not other.floating for other in others)


def _picked_behind(graph: Graph, op: Op) -> bool:
    """Whether elements of ``op`` are picked by something else than their own values, on the way to an output."""
    seen, waiting = {op.index}, [op]
    while waiting:
        source = waiting.pop()
        for user in graph.users(source):
            if user.index not in graph.flow.signal or user.index in seen:
                continue
            if any(not other.floating and other.index in graph.varying for other in graph.inputs(user)):
                return True
            seen.add(user.index)
            waiting.append(user)
    return False
