"""Trainable parameters that no gradient reaches, and the ops that keep it from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.families import NORMS, SHAPE_ONLY
from stablelint.graph.flow import passes_gradient
from stablelint.graph.op import Op
from stablelint.site import Site

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Multiply their operands.
_PRODUCTS = frozenset({"mul", "matmul", "einsum", "linear", "bilinear", "conv", "conv_transpose"}) | NORMS
#: Zero factors that are looked at: along a stream of a thousand blocks each of which starts at zero there are more.
_NEAREST = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """An op that passes values on to the outputs and no gradient back to ``parameters``, which get none elsewhere.

    ``elements`` counts their elements, ``share`` is that of all elements that are to be trained. ``severs`` says that
    the data reaches the outputs only past cuts: all that lies in front is never trained. ``shields`` says that the op
    reads a parameter itself while autograd is off, as code does that means to freeze it; ``aside`` that a loss may
    train the parameters on a way that this run does not take: nothing with a gradient reads the values, or the model
    is in eval mode and the data has another way.
    """

    op: int
    name: str
    site: Site
    parameters: tuple[str, ...]
    elements: int
    share: float
    severs: bool
    shields: bool
    aside: bool


def find_cuts(graph: Graph) -> tuple[Cut, ...]:
    """All cuts in execution order; nothing where no output has a gradient at all."""
    carrying = _carrying(graph)
    heard = _behind(graph, (index for index in graph.outputs if index in carrying), carrying)
    leaves = _leaves(graph)
    lost = {name for name, found in leaves.items() if not heard.intersection(found)}
    if not heard or not lost:
        return ()
    ends = {name: _ends(graph, leaves[name], carrying) for name in lost}
    stops = {index for found in ends.values() for index in found}
    past = _reached(graph, stops)
    starts = [
        index
        for index in graph.flow.signal
        if not any(source in graph.flow.signal for source in graph.ops[index].inputs)
    ]
    severed = bool(starts) and all(index in past for index in starts)
    sizes = {each.name: each.numel for each in graph.parameters if each.trainable and not each.buffer}
    total = sum(sizes.values())
    cuts = []
    for index in sorted(stops):
        op = graph.ops[index]
        names = tuple(name for name in leaves if index in ends.get(name, ()))
        elements = sum(sizes[name] for name in names)
        ahead = _reached(graph, {index})
        shields = not op.differentiable and any(
            graph.behind_reshapes(source).name == "parameter" for source in graph.inputs(op)
        )
        severs = severed and any(start in ahead for start in starts)
        share = elements / max(total, 1)
        aside = heard.isdisjoint(ahead) or not (graph.training or severs)
        cuts.append(Cut(index, op.name, op.site, names, elements, share, severs, shields, aside))
    return tuple(cuts)


def find_readers(graph: Graph) -> Mapping[str, tuple[int, ...]]:
    """The live ops at which each trainable parameter first meets the data, by name."""
    readers: dict[str, tuple[int, ...]] = {}
    for name, leaves in _leaves(graph).items():
        readers[name] = tuple(sorted(_frontier(graph, leaves, lambda user: not graph.is_data(user))))
    return readers


def find_sleepers(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """By name: the nearest all-zero trainable factors that stand between each trainable parameter and the outputs."""
    behind: dict[int, tuple[tuple[int, str], ...]] = {}
    for op in reversed(graph.ops):
        own = graph.behind_reshapes(op).parameter
        found: set[tuple[int, str]] = set()
        for user in graph.users(op):
            factors = {name for name in _zero_factors(graph, user) if own is None or name != own.name}
            found |= {(user.index, name) for name in factors} or set(behind[user.index])
        behind[op.index] = tuple(sorted(found)[:_NEAREST])
    return {
        name: tuple(dict.fromkeys(found for index in leaves for _, found in behind[index] if found != name))
        for name, leaves in _leaves(graph).items()
    }


def _zero_factors(graph: Graph, op: Op) -> Iterable[str]:
    if op.name not in _PRODUCTS:
        return
    added = op.attrs.get("operands", {}).get("bias")
    for place, source in enumerate(graph.inputs(op)):
        if place == added:
            continue
        weight = graph.behind_reshapes(source).parameter
        if weight is not None and weight.trainable and not weight.buffer and weight.rms == 0:
            yield weight.name


def _leaves(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Where each trainable parameter enters, by name; none if it is never read."""
    found: dict[str, tuple[int, ...]] = {
        each.name: () for each in graph.parameters if each.trainable and not each.buffer and each.numel
    }
    for op in graph:
        if op.name == "parameter" and op.parameter is not None and op.parameter.name in found:
            found[op.parameter.name] += (op.index,)
    return found


def _carrying(graph: Graph) -> set[int]:
    """The ops whose result has a gradient with respect to some trainable parameter."""
    found: set[int] = set()
    for op in graph:
        if op.name == "parameter":
            trained = op.parameter is not None and op.parameter.trainable and not op.parameter.buffer
            if trained and op.floating:
                found.add(op.index)
        elif passes_gradient(op) and any(index in found for index in op.inputs):
            found.add(op.index)
    return found


def _behind(graph: Graph, outputs: Iterable[int], carrying: set[int]) -> set[int]:
    """What gradient from ``outputs`` reaches."""
    found = set(outputs)
    waiting = list(found)
    while waiting:
        fresh = {index for index in graph.ops[waiting.pop()].inputs if index in carrying} - found
        found |= fresh
        waiting.extend(fresh)
    return found


def _ends(graph: Graph, leaves: tuple[int, ...], carrying: set[int]) -> set[int]:
    """The live ops that read values which depend on ``leaves`` and through which no gradient passes."""
    return _frontier(graph, leaves, lambda user: user.index in carrying)


def _frontier(graph: Graph, leaves: tuple[int, ...], passes: Callable[[Op], bool]) -> set[int]:
    """The live ops that read values of ``leaves``, or of what these pass on to, and do not pass them on themselves."""
    found: set[int] = set()
    seen, waiting = set(leaves), list(leaves)
    while waiting:
        for user in graph.users(graph.ops[waiting.pop()]):
            if not user.live or user.index in seen or user.name in SHAPE_ONLY:
                continue
            seen.add(user.index)
            if passes(user):
                waiting.append(user.index)
            else:
                found.add(user.index)
    return found


def _reached(graph: Graph, starts: set[int]) -> set[int]:
    """``starts`` and all that depends on them."""
    found = set(starts)
    waiting = list(starts)
    while waiting:
        fresh = {user.index for user in graph.users(graph.ops[waiting.pop()])} - found
        found |= fresh
        waiting.extend(fresh)
    return found
