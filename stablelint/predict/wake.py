"""Give zero-initialised parameters a small value, as the first optimiser steps do, so that what lies behind them shows.

The counterpart of the probe's wake: a zero last layer or gate stops the gradient at step 0 on purpose, while two
zero factors of one product or an all-zero network stay dead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from stablelint.graph.graph import Graph
from stablelint.graph.op import Op, Parameter
from stablelint.signals.signals import Signals

#: As in :mod:`stablelint.probe.wake`: relative to a LeCun-initialised layer, and how many zero factors in a row.
STEP = 0.1
ROUNDS = 3


def awakened(graph: Graph, predict: Callable[[Graph], Signals]) -> Signals:
    """``predict(graph)``, again with woken parameters as long as no gradient reaches some op of the trunk."""
    signals = predict(graph)
    woken = 0
    for _ in range(ROUNDS):
        if all(row.grad_rms != 0 for row in signals.trunk):
            break
        gradients = {parameter.name: parameter.grad_rms for parameter in signals.parameters}
        new = {
            parameter.name: _woken(parameter)
            for parameter in graph.parameters
            if _stops_gradient(parameter) and gradients.get(parameter.name)
        }
        if not new:
            break
        woken += len(new)
        graph = _with(graph, new)
        signals = predict(graph)
    return replace(signals, awakened=woken)


def _stops_gradient(parameter: Parameter) -> bool:
    """All zero, trained, and a factor: a zero bias stops nothing."""
    factor = len(parameter.shape) > 1 or "bias" not in parameter.name.rsplit(".", 1)[-1]
    return parameter.trainable and not parameter.buffer and parameter.rms == 0 and factor


def _woken(parameter: Parameter) -> Parameter:
    fan_in = math.prod(parameter.shape[1:]) if len(parameter.shape) > 1 else 1
    size = STEP / math.sqrt(fan_in)
    return replace(parameter, std=size, rms=size)


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
