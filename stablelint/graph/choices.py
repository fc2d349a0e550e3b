"""Where data or chance decides which elements get a gradient: what gets none on one batch may get some on the next."""

from __future__ import annotations

from collections.abc import Collection
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
        if op.name == "input" or op.name in RANDOM or _hands_on(op, found):
            found.add(op.index)
    return frozenset(found)


def held_back(graph: Graph, heard: Collection[int], zero: Collection[int]) -> frozenset[int]:
    """The ops from which some way to an output is closed by what data or chance has picked, and by no constant.

    ``heard`` are the ops with a gradient, ``zero`` those whose values are 0 in all draws. A way is closed where one of
    the former reads an op without: a product with a mask that is drawn, a maximum that another element is; or a value
    that is put beside others, of which an op behind picks (boxes that no object lies in).
    """
    picked = _picked_behind(graph)
    drawn = _drawn(graph)
    found: set[int] = set()
    for op in reversed(graph.ops):
        for user in graph.users(op):
            if user.index not in graph.flow.signal:
                continue
            if user.index not in heard:
                closed = user.index in found
            else:
                closed = _picks(graph, user, op, drawn, zero) or (_joins(user) and user.index in picked)
            if closed:
                found.add(op.index)
    return frozenset(found)


def _hands_on(op: Op, found: Collection[int]) -> bool:
    return op.name not in SHAPE_ONLY and any(index in found for index in op.inputs)


def _drawn(graph: Graph) -> set[int]:
    """The ops whose values depend on chance, or on whole numbers and comparisons that depend on data."""
    found: set[int] = set()
    for op in graph:
        counted = not op.floating and op.index in graph.varying
        if counted or op.name in RANDOM or _hands_on(op, found):
            found.add(op.index)
    return found


def _joins(op: Op) -> bool:
    return op.name in JOINS or op.name == "setitem"


def _picks(graph: Graph, op: Op, source: Op, drawn: Collection[int], zero: Collection[int]) -> bool:
    """Whether data or chance decides what part of ``op``'s gradient ``source`` gets."""
    if op.name in _PICKING:
        return True
    for other in graph.inputs(op):
        if other.index == source.index or other.index not in graph.varying:
            continue
        # what is 0 for all data, and no mask, is a constant
        if not other.floating or (op.name in _MULTIPLYING and (other.index in drawn or other.index not in zero)):
            return True
    return False


def _picked_behind(graph: Graph) -> set[int]:
    """The ops of which elements are picked by something else than their own values, on the way to an output."""
    found: set[int] = set()
    for op in reversed(graph.ops):
        for user in graph.users(op):
            chosen = any(not other.floating and other.index in graph.varying for other in graph.inputs(user))
            if user.index in graph.flow.signal and (chosen or user.index in found):
                found.add(op.index)
    return found
