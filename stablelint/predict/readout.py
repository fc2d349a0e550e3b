"""From abstract values to the rows that rules and reports read."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from statistics import median

import numpy as np

from stablelint.graph.families import RECTIFIERS, RESHAPES, SATURATING
from stablelint.graph.graph import Graph
from stablelint.graph.op import Op
from stablelint.predict.domain import Table, Value, pair_mean
from stablelint.predict.functions import erf, function
from stablelint.predict.gaussian import NODES, WEIGHTS, Array, kernel
from stablelint.predict.interpreter import Interpretation
from stablelint.predict.marginal import law
from stablelint.predict.spread import deviation, half_width
from stablelint.predict.transfer.elementwise import expression
from stablelint.signals.parameters import ParameterSignal
from stablelint.signals.signals import NonFinite, Signal, Signals

#: The largest finite number of a dtype; half precision is what overflows in practice.
_FEW = 8
_LARGEST = {"float16": 65504.0, "bfloat16": 3.4e38, "float32": 3.4e38}


def signals(found: Interpretation) -> Signals:
    """The rows of all signal ops and the gradients of all parameters."""
    graph = found.graph
    flow = graph.flow
    reference = _reference(found)
    rows, nonfinite = [], None
    with np.errstate(all="ignore"):
        for index in sorted(flow.signal):
            parts = _parts(found, index)
            if not parts:
                continue
            op = graph.ops[index]
            row = _row(found, op, parts, reference)
            rows.append(row)
            if not row.finite and nonfinite is None:
                nonfinite = NonFinite(index, op.name, op.site, "forward", f"values beyond the range of {op.dtype}")
    nonfinite = _unwritten(graph, nonfinite)
    table = Signals("predicted", tuple(rows), _parameters(found), nonfinite, doubts=_doubts(found), cuts=graph.cuts)
    return replace(table, gradient_ratio_band=_band(found, table))


def _band(found: Interpretation, table: Signals) -> tuple[float, float] | None:
    """The ratio of the first to the last block, up and down by what its spread is."""
    ratio = table.gradient_ratio
    if ratio is None or not ratio > 0 or not math.isfinite(ratio):
        return None
    ends = [row for _, row in table.blocks() if row.grad_rms is not None]
    first, last = (
        max((part.spread + part.unsure for part in map(_carrier, _parts(found, row.op))), default=0.0)
        for row in (ends[0], ends[-1])
    )
    width = half_width(max(first - last, 0.0), ratio)
    return ratio * 10**-width, ratio * 10**width


def _unwritten(graph: Graph, found: NonFinite | None) -> NonFinite | None:
    """Memory that nobody has written may hold anything: what reads it before ``found`` is the first without a value.

    Of random bits one float32 in 256 is infinite or NaN and half of the rest overflow when they are squared.
    """
    readers = sorted({op.index for readers in graph.unwritten.values() for op in readers})
    if not readers:
        return found
    if found is not None and found.op < readers[0]:
        return replace(found, beside=tuple(readers))
    op = graph.ops[readers[0]]
    return NonFinite(
        op.index, op.name, op.site, "forward", "what its memory happened to hold", beside=tuple(readers[1:])
    )


def _doubts(found: Interpretation) -> tuple[str, ...]:
    """The ops of the signal path that no rule covers or whose result depends on data that a trace does not have."""
    signal = found.graph.flow.signal
    doubted = {found.graph.ops[index].name for index in found.reasons if index in signal}
    return tuple(sorted(doubted | {op.name for op in found.graph if op.guessed and op.index in signal}))


def _parts(found: Interpretation, index: int) -> tuple[Value, ...]:
    """The values of one op: one, or several parts of which only those of the first's kind count."""
    value = found.values.get(index)
    if isinstance(value, Value):
        return (value,)
    if not isinstance(value, tuple) or not value:
        return ()
    if found.graph.ops[index].name in ("split", "chunk", "unbind"):
        return value
    return value[:1]


def _reference(found: Interpretation) -> tuple[float, int, int] | None:
    """Gradient rms, size and index of the graph's head."""
    index = found.graph.head
    parts = _parts(found, index) if index is not None else ()
    power = _typical(parts[0]) if len(parts) == 1 else None
    return (math.sqrt(power), math.prod(parts[0].shape), index) if power and index is not None else None


def _power(table: Table | None) -> float | None:
    return None if table is None else max(float(table.flat[-1]), 0.0)


def _carrier(value: Value) -> Value:
    """The value that has the cotangent: the same tensor before its axes were merged, where the rules went that way."""
    while value.gradient() is None and value.unmerged is not None:
        value = value.unmerged
    return value


def _typical(value: Value) -> float | None:
    """The squared gradient of a typical network."""
    value = _carrier(value)
    power = _power(value.gradient())
    return None if power is None else power * math.exp(-value.spread / 2)


def _row(found: Interpretation, op: Op, parts: tuple[Value, ...], reference: tuple[float, int, int] | None) -> Signal:
    value = parts[0]
    size = sum(math.prod(part.shape) for part in parts)
    rms = math.sqrt(sum(part.power for part in parts) / len(parts))
    gradients = [_typical(part) for part in parts]
    reached = [power for power in gradients if power is not None]
    grad = math.sqrt(sum(reached) / len(parts)) if reached else None
    sensitivity = None
    # zeros that the output does listen to (a bias at its initial value) have no relative change
    listened = rms == 0 and bool(grad)
    # and the size of a loss behind the output says nothing about the network
    before_loss = reference is not None and op.index <= reference[2]
    if grad is not None and reference is not None and before_loss and not listened:
        sensitivity = rms * (grad / reference[0]) * math.sqrt(size / reference[1])
    attends = op.name != "softmax" or any(attention.softmax is op for attention in found.graph.attentions())
    peak, uniform, entropy = (value.attention if attends else None) or (None, None, None)
    dead, saturated = _activation(found, op)
    moved = op.name in RESHAPES
    return Signal(
        op=op.index,
        name=op.name,
        site=op.site,
        block=found.graph.flow.block.get(op.index),
        place=found.graph.places.get(op.index, ""),
        mean=value.mean,
        rms=rms,
        grad_rms=grad,
        grad_spread=None if grad is None else _deviation(parts, grad, reference),
        sensitivity=sensitivity,
        similarity=None if moved else _similarity(value, 0),
        token_similarity=None if moved else _token_similarity(value),
        unit_similarity=None if moved else _unit_similarity(value),
        dead=dead,
        saturated=saturated,
        retention=_retention(value),
        peak=peak,
        uniform_peak=uniform,
        entropy=entropy,
        finite=rms < _LARGEST.get(op.dtype, math.inf),
    )


def _deviation(parts: tuple[Value, ...], grad: float, reference: tuple[float, int, int] | None) -> float:
    """Standard deviation in decades of a gradient's rms against the one of the head."""
    spread = max(part.spread + part.unsure for part in map(_carrier, parts))
    return deviation(spread, grad / reference[0] if reference is not None else 1.0)


def _retention(value: Value) -> float | None:
    """Median factor on the gradient per step of a recurrent layer, over the first steps on its way back in time."""
    powers = [_power(step.gradient()) for step in value.steps]
    sizes = [math.sqrt(power) for power in powers if power is not None]
    if len(sizes) < 4 or len(sizes) < len(powers) or max(sizes) == 0:
        return None
    way = sizes[: max(range(len(sizes)), key=sizes.__getitem__) + 1]
    if len(way) < 4:
        return None
    return median([before / after if after > 0 else 0.0 for before, after in pairwise(way)][-8:])


def _similarity(value: Value, axis: int) -> float | None:
    """Cosine between indices that differ on one axis and agree on all others."""
    if value.rank < 2 or value.shape[axis] < 2 or value.power <= 0:
        return None
    pattern = tuple(int(other != axis) for other in range(value.rank))
    return float(np.clip(value.table[pattern] / value.power, -1.0, 1.0))


def _token_similarity(value: Value) -> float | None:
    """One minus the variance between tokens of a sample over all variance; axes are batch, token, feature."""
    if value.rank != 3 or min(value.shape[:2]) < 2:
        return None
    within = value.power - float(value.table[1, 0, 1])
    total = value.power - float(value.table[0, 0, 1])
    return float(np.clip(1 - within / total, 0.0, 1.0)) if total > 1e-14 * value.power else None


def _unit_similarity(value: Value) -> float | None:
    """The share of the second moment that all units have in common, of the values or of the gradient."""
    if value.rank < 2 or value.shape[_units(value)] < 2:
        return None
    shares = []
    for table in (value.table, value.gradient()):
        if table is not None and float(table.flat[-1]) > 0:
            common = pair_mean(table, (_units(value),), value.shape)
            shares.append(float(np.clip(common.flat[-1] / table.flat[-1], 0.0, 1.0)))
    return min(shares, default=None)


def _units(value: Value) -> int:
    """Channels are axis 1 of images and volumes and the last axis of everything else."""
    return 1 if value.rank >= 4 else value.rank - 1


def _activation(found: Interpretation, op: Op) -> tuple[float | None, float | None]:
    """Dead share of a rectifier, saturated share of a saturating function, from the distribution of the argument."""
    if (op.name not in RECTIFIERS and op.name not in SATURATING) or not op.inputs:
        return None, None
    source = found.values.get(op.inputs[0])
    outer = function(op.name, op.attrs)
    if not isinstance(source, Value) or outer is None:
        return None, None
    base, inner = expression(source)
    deviation = math.sqrt(base.variance)
    points: Array = np.broadcast_to(inner.of(law(base).points()), NODES.shape)
    if op.name in SATURATING:
        slope = np.abs(outer.derivative(np.array(points)))
        largest = SATURATING[op.name]
        return None, float(WEIGHTS @ (slope < 0.01 * largest))
    if op.name in ("hardshrink", "softshrink"):
        return None, None
    moments = kernel(inner, law(base)) if deviation > 0 else None
    mean = moments.mean if moments else float(points.flat[0])
    return _dead(op, source, mean), None


def _dead(op: Op, source: Value, mean: float) -> float | None:
    """The share of units whose argument is below the threshold for the whole batch.

    The argument of a unit is m + sqrt(c) s + sqrt(v - c) e with s common to the batch and e drawn per place: the
    unit is dead with probability E_s[Phi(-(m + sqrt(c) s) / sqrt(v - c)) ^ places].
    """
    threshold = {"threshold": float(op.attrs.get("threshold", 0.0)), "hardswish": -3.0}.get(op.name, 0.0)
    variance = max(source.power - mean * mean, 0.0)
    if source.rank < 2:
        return None
    feature = _units(source)
    others = [axis for axis in range(source.rank) if axis != feature]
    places = math.prod(source.shape[axis] for axis in others)
    if places < _FEW:  # a unit that was never active says nothing
        return None
    total = weight = 0.0
    for pattern in np.ndindex(*source.table.shape):
        if not pattern[feature] or all(pattern):
            continue
        pairs = math.prod(1 if pattern[axis] else max(source.shape[axis] - 1, 0) for axis in others)
        total += pairs * float(source.table[pattern])
        weight += pairs
    common = min(max(total / weight - mean * mean, 0.0), variance) if weight else variance
    shared = mean - threshold + math.sqrt(common) * NODES
    own = math.sqrt(max(variance - common, 0.0))
    if own <= 1e-9 * math.sqrt(max(source.power, 1e-300)):
        return float(WEIGHTS @ (shared <= 0))
    below = 0.5 * (1 - erf(shared / (own * math.sqrt(2))))
    return float(WEIGHTS @ np.maximum(below, 0.0) ** places)


def _parameters(found: Interpretation) -> tuple[ParameterSignal, ...]:
    powers: dict[str, float] = {}
    for op in found.graph:
        value = found.values.get(op.index)
        if op.parameter is not None and isinstance(value, Value):
            power = _typical(value)
            if power is not None:
                powers[op.parameter.name] = powers.get(op.parameter.name, 0.0) + power
    return tuple(
        ParameterSignal(
            parameter.name,
            parameter.rms,
            math.sqrt(powers[parameter.name]) if parameter.name in powers else None,
            readers=found.graph.readers.get(parameter.name, ()),
            sleepers=found.graph.sleepers.get(parameter.name, ()),
            matrix=len(parameter.shape) > 1,
        )
        for parameter in found.graph.parameters
        if parameter.trainable and not parameter.buffer
    )
