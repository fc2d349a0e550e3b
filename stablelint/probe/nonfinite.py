"""The first op of a pass whose result or gradient is not finite."""

from __future__ import annotations

from stablelint.graph import Graph
from stablelint.probe.gauge import Gauge
from stablelint.signals import NonFinite
from stablelint.trace import Trace


def first_nonfinite_forward(recorded: Trace, gauge: Gauge) -> NonFinite | None:
    """The first op that yields NaN, or infinity that is not a mask and reaches the output."""
    graph = recorded.graph
    unwritten = {op.index for readers in graph.unwritten.values() for op in readers}
    for index in sorted(gauge.readings):
        reading, op = gauge.readings[index], graph.ops[index]
        if reading.finite or (index not in graph.flow.signal and index not in unwritten):
            continue
        if reading.nan or op.index == graph.flow.sink:
            what = "NaN" if reading.nan else "infinity"
            beside = tuple(sorted(unwritten - {index}))
            return NonFinite(index, op.name, op.site, "forward", what, beside=beside)
    return None


def first_nonfinite_backward(graph: Graph, gauge: Gauge, *, harmless: bool) -> NonFinite | None:
    """The op in whose backward the gradient stops being finite: gradients arrive finite and leave it not."""
    for index in gauge.backward_order:
        if gauge.readings[index].grad_finite:
            continue
        users = [user for user in graph.users(graph.ops[index]) if user.index in graph.flow.signal]
        culprits = [user for user in users if _finite_gradient(gauge, user.index)] or users or [graph.ops[index]]
        op = culprits[0]
        return NonFinite(op.index, op.name, op.site, "backward", "a gradient that is not finite", harmless)
    return None


def _finite_gradient(gauge: Gauge, index: int) -> bool:
    reading = gauge.readings.get(index)
    return reading is not None and reading.grad_rms is not None and reading.grad_finite
