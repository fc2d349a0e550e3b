"""Give zero-initialised parameters a small value, as the first optimiser steps do, so that what lies behind them shows.

The counterpart of the probe's wake (:mod:`stablelint.probe.wake`): a zero or tiny last layer, gate or layer scale stops
the gradient at step 0 on purpose, while two zero factors of one product or an all-zero network stay dead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from stablelint.graph.graph import Graph
from stablelint.graph.op import Op, Parameter
from stablelint.signals.signals import Signals
from stablelint.signals.waking import FAINT, ROUNDS, STEP, TINY, hidden, moves, seen_behind


def awakened(graph: Graph, predict: Callable[[Graph], Signals]) -> Signals:
    """``predict(graph)``, again with woken parameters as long as (almost) no gradient reaches some op of the trunk.

    Where the gradient is small and not zero, and waking does not help, something else is the matter: the first
    prediction stands. Where only parameters beside the trunk get no gradient, only theirs are those of a second one.
    """
    first = predict(graph)
    if _weak(first):
        found = _woken(graph, predict, first, _weak)
        return first if _faint(found) and not _stopped(first) else found
    return seen_behind(first, _woken(graph, predict, first, hidden)) if hidden(first) else first


def _woken(
    graph: Graph, predict: Callable[[Graph], Signals], signals: Signals, asleep: Callable[[Signals], bool]
) -> Signals:
    """The prediction after up to :data:`ROUNDS` rounds of waking, while ``asleep(signals)``."""
    woken = 0
    for _ in range(ROUNDS):
        if not asleep(signals):
            break
        gradients = {parameter.name: parameter.grad_rms or 0.0 for parameter in signals.parameters}
        new = {
            parameter.name: _with_size(parameter)
            for parameter in graph.parameters
            if _stops_gradient(parameter) and moves(parameter.rms, gradients.get(parameter.name, 0.0))
        }
        if not new:
            break
        woken += len(new)
        graph = _with(graph, new)
        signals = predict(graph)
    return replace(signals, awakened=woken)


def _weak(signals: Signals) -> bool:
    return _stopped(signals) or _faint(signals)


def _stopped(signals: Signals) -> bool:
    return any(row.grad_rms == 0 for row in signals.trunk)


def _faint(signals: Signals) -> bool:
    return any(row.sensitivity is not None and row.sensitivity < FAINT for row in signals.trunk)


def _stops_gradient(parameter: Parameter) -> bool:
    """All zero or next to it, trained, and a factor: a zero bias stops nothing."""
    factor = len(parameter.shape) > 1 or "bias" not in parameter.name.rsplit(".", 1)[-1]
    return parameter.trainable and not parameter.buffer and factor and parameter.rms * _root(parameter) <= TINY


def _root(parameter: Parameter) -> float:
    """The root of the fan-in."""
    return math.sqrt(math.prod(parameter.shape[1:])) if len(parameter.shape) > 1 else 1.0


def _with_size(parameter: Parameter) -> Parameter:
    size = STEP / max(_root(parameter), 1.0)
    return replace(parameter, mean=0.0, std=size, rms=size, row_similarity=None)


def _with(graph: Graph, parameters: Mapping[str, Parameter]) -> Graph:
    def new(op: Op) -> Op:
        known = op.parameter and parameters.get(op.parameter.name)
        return replace(op, parameter=known) if known else op

    return Graph(
        ops=tuple(new(op) for op in graph.ops),
        outputs=graph.outputs,
        training=graph.training,
        parameters=tuple(parameters.get(parameter.name, parameter) for parameter in graph.parameters),
    )
