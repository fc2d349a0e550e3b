"""Runs of layers that nothing rescales: what their squashing functions and their weights do to the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.families import ACTIVATIONS, RESHAPES
from stablelint.graph.op import Op, Parameter

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Functions whose largest derivative is far below 1, with that derivative; softmax over n classes is bounded by
#: 1/2 and is near 1/n while its inputs are small.
SQUASHING = {"sigmoid": 0.25, "hardsigmoid": 1 / 6, "softmax": 0.5, "logsigmoid": 1.0}


@dataclass(frozen=True, slots=True)
class Layer:
    """A weighted op with the parameter that it multiplies by.

    ``backward_gain`` is sqrt(outputs per input * E[w^2]): the factor it applies to the rms of the gradient.
    """

    op: Op
    weight: Parameter
    fan_in: int
    fan_out: float
    activation: Op | None

    @property
    def backward_gain(self) -> float:
        """Factor on the gradient's rms, without the activation."""
        return math.sqrt(self.fan_out) * self.weight.rms

    @property
    def forward_gain(self) -> float:
        """Factor on the signal's rms, without the activation."""
        return math.sqrt(self.fan_in) * self.weight.rms


@dataclass(frozen=True, slots=True)
class Chain:
    """Squashing ops in a row on the gradient's best way out, and log10 of the bound on their factor."""

    ops: tuple[Op, ...]
    decades: float


@dataclass(frozen=True, slots=True)
class Run:
    """Layers in a row that nothing rescales; ``rescaled`` says that a norm reads the last one."""

    layers: tuple[Layer, ...]
    rescaled: bool


def find_layers(graph: Graph) -> Mapping[int, Layer]:
    """All weighted ops on the signal path whose weight is a parameter or made of one, by op index.

    Zero-initialised ones are left out: they have no scale yet and stop the gradient for one step only.
    """
    found = {}
    for op in graph:
        if op.index not in graph.flow.signal or not graph.weighted(op) or op.name == "embedding":
            continue
        weight = _weight(graph, op)
        operands = graph.data_inputs(op)
        if weight is None or not operands or not math.isfinite(weight.rms) or weight.rms == 0:
            continue
        fan_in, fan_out = _fans(op, operands[0], weight)
        found[op.index] = Layer(op, weight, fan_in, fan_out, _activation(graph, op))
    return found


def _weight(graph: Graph, op: Op) -> Parameter | None:
    position = op.attrs.get("operands", {}).get("weight")
    candidates = [op.inputs[position]] if isinstance(position, int) else list(op.inputs)
    for index in candidates:
        parameter = graph.behind_reshapes(graph.ops[index]).parameter
        if parameter is not None and not parameter.buffer and len(parameter.shape) >= 2:
            return parameter
    return None


def _fans(op: Op, source: Op, weight: Parameter) -> tuple[int, float]:
    """Inputs per output and outputs per input; for convolutions kernel positions count, strides divide."""
    if op.name in {"conv", "conv_transpose"} and len(source.shape) > 1 and len(op.shape) > 1:
        kernel = math.prod(weight.shape[2:])
        groups = max(1, int(op.attrs.get("groups", 1) or 1))
        places_in, places_out = math.prod(source.shape[2:]) or 1, math.prod(op.shape[2:]) or 1
        fan_in = source.shape[1] // groups * kernel
        fan_out = op.shape[1] / groups * kernel * (places_out / places_in)
        if op.name == "conv_transpose":
            fan_in = max(1, round(fan_in * places_in / places_out))
            fan_out = op.shape[1] / groups * kernel
        return fan_in, fan_out
    return (source.shape[-1] if source.shape else 1), float(op.shape[-1] if op.shape else 1)


def _activation(graph: Graph, op: Op) -> Op | None:
    """The activation that follows, through biases, reshapes and dropout."""
    while True:
        users = [user for user in graph.users(op) if user.index in graph.flow.signal]
        if len(users) != 1:
            return None
        op = users[0]
        if op.name in ACTIVATIONS:
            return op
        biased = op.name == "add" and len(graph.data_inputs(op)) == 1
        if op.name not in RESHAPES | {"dropout"} and not biased:
            return None


def find_squashing_chains(graph: Graph, layers: Mapping[int, Layer]) -> tuple[Chain, ...]:
    """Squashing ops that the gradient cannot avoid, in runs without a norm; worst first, sharing no op.

    One pass from the output to the inputs: of several ways out the gradient takes the least attenuated, so a
    skip connection past a chain shortens it.
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {}
    found: list[tuple[float, tuple[int, ...]]] = []
    signal = graph.flow.signal
    for index in sorted(signal, reverse=True):
        op = graph.ops[index]
        ways = [best[user.index] for user in graph.users(op) if user.index in best]
        decades, chain = max(ways, key=lambda way: way[0]) if ways else (0.0, ())
        if index in graph.norms:
            decades, chain = 0.0, ()
        elif _squashes(graph, op):
            decades, chain = decades + _squash_decades(op), (index, *chain)
            found.append((decades, chain))
        elif chain and index in layers:
            # weights larger than 1/sqrt(fan) win back part of what squashing loses, never more than all
            decades = min(0.0, decades + _log10(layers[index].backward_gain))
        best[index] = (decades, chain)
    taken: set[int] = set()
    chains = []
    for decades, chain in sorted(found, key=lambda item: (-len(item[1]), item[1])):
        if not taken.intersection(chain):
            taken.update(chain)
            chains.append(Chain(tuple(graph.ops[index] for index in chain), decades))
    return tuple(chains)


def find_unscaled_runs(graph: Graph, layers: Mapping[int, Layer]) -> tuple[Run, ...]:
    """Maximal runs of layers on the gradient's shortest way out, ended by a norm, in execution order.

    Like chains, but of weights: where ways meet again (a residual addition, a concatenation) the gradient
    follows the one with the fewest layers, so that a branch beside a skip does not count.
    """
    best: dict[int, tuple[int, ...]] = {}
    rescaled: set[int] = set()
    for index in sorted(graph.flow.signal, reverse=True):
        op = graph.ops[index]
        if graph.muted(op):
            continue  # no way out: what lies behind finds another one or starts anew
        ways = [best[user.index] for user in graph.users(op) if user.index in best]
        run = min(ways, key=len) if ways else ()
        if index in graph.norms:
            run = ()
        elif index in layers:
            if not run and any(_reads_norm(graph, user) for user in graph.users(op)):
                rescaled.add(index)
            run = (index, *run)
        best[index] = run
    taken: set[int] = set()
    runs = []
    starts = {best[index] for index in graph.flow.trunk if index in best}
    for run in sorted(starts, key=lambda run: (-len(run), run)):
        if run and not taken.intersection(run):
            taken.update(run)
            runs.append(Run(tuple(layers[index] for index in run), run[-1] in rescaled))
    return tuple(sorted(runs, key=lambda run: run.layers[0].op.index))


def _reads_norm(graph: Graph, op: Op) -> bool:
    """Whether ``op`` or what follows it without changing the scale is a norm."""
    for _ in range(8):
        if op.index in graph.norms or any(norm.source.index == op.index for norm in graph.norms.values()):
            return True
        users = [user for user in graph.users(op) if user.index in graph.flow.signal]
        if len(users) != 1 or op.name not in RESHAPES | ACTIVATIONS | {"add", "dropout", "max_pool", "avg_pool"}:
            return False
        op = users[0]
    return False


def _squashes(graph: Graph, op: Op) -> bool:
    if op.name not in SQUASHING:
        return False
    return op.name != "softmax" or all(op.index != attention.softmax.index for attention in graph.attentions())


def _squash_decades(op: Op) -> float:
    slope = SQUASHING[op.name]
    if op.name == "softmax" and op.shape:
        slope = 1 / max(2, op.shape[op.attrs.get("dim", -1)])
    return math.log10(slope)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf
