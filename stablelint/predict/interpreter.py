"""Run the rules forward over a graph, then the cotangents back from its sink."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from stablelint.graph.families import ACTIVATIONS
from stablelint.graph.graph import Graph
from stablelint.graph.op import Op
from stablelint.predict.backward import backward
from stablelint.predict.call import Call, Operand, Result
from stablelint.predict.domain import Table, Value, copied
from stablelint.predict.leaves import known_array, leaf, parameter_value
from stablelint.predict.spread import UNKNOWN
from stablelint.predict.transfer.normalization import normalized
from stablelint.predict.transfer.rules import RULES
from stablelint.predict.transfer.shaping import reshaped
from stablelint.predict.unrolled.loops import Loop, find_loops
from stablelint.predict.unrolled.region import unrolled


@dataclass(eq=False)
class Interpretation:
    """Abstract values by op index, and what no rule covered.

    ``values`` holds one value per op, or one per part for ops with several results. ``unknown`` counts the ops that
    were passed through, by canonical name; ``reasons`` says why.
    """

    graph: Graph
    values: dict[int, Operand] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, str] = field(default_factory=dict)


def run(graph: Graph) -> Interpretation:
    """Interpret ``graph``. Overflow is part of the subject (exploding models): tables are clamped, never raised on."""
    found = Interpretation(graph)
    with np.errstate(all="ignore"):
        needed = _needed(graph)
        loops = {index: loop for loop in find_loops(graph, needed) for index in loop.ops}
        for op in graph:
            if op.index in loops and op.index not in found.values:
                _unroll(found, loops[op.index])
            if op.index in needed and op.index not in found.values:
                found.values[op.index] = _evaluate(found, op)
        sink = found.values.get(graph.flow.sink) if graph.flow.sink is not None else None
        if isinstance(sink, tuple) and sink:
            sink = sink[0]
        if isinstance(sink, Value):
            failed: list[Value] = []
            backward(sink, failed)
            _note(found, failed)
    return found


def _note(found: Interpretation, failed: list[Value]) -> None:
    """Name the ops whose cotangent could not be computed among those that no rule covers."""
    broken = {id(value) for value in failed}
    for index, value in found.values.items():
        parts = value if isinstance(value, tuple) else (value,)
        if any(id(part) in broken for part in parts):
            found.unknown[found.graph.ops[index].name] += 1
            found.reasons[index] = "its cotangent has no finite value"


def _needed(graph: Graph) -> set[int]:
    """What the sink depends on; ops beside that get no gradient and cost nothing."""
    if graph.flow.sink is None:
        return set()
    needed, waiting = {graph.flow.sink}, [graph.flow.sink]
    while waiting:
        for source in graph.ops[waiting.pop()].inputs:
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    return needed


def _unroll(found: Interpretation, loop: Loop) -> None:
    """Compute a loop as a whole, after all that it reads; where that fails its ops are taken one by one."""
    waiting, missing = list(loop.operands), set()
    while waiting:
        index = waiting.pop()
        if index not in found.values and index not in missing:
            missing.add(index)
            waiting += found.graph.ops[index].inputs
    for index in sorted(missing):
        found.values[index] = _evaluate(found, found.graph.ops[index])
    try:
        found.values |= unrolled(found.graph, loop, found.values)
    except Exception:  # as for a rule that fails
        return


def _evaluate(found: Interpretation, op: Op) -> Operand:
    known = known_array(op)
    if known is not None:
        return known
    if op.name in ("input", "parameter", "constant"):
        return leaf(op)
    if not op.floating:
        return None
    result = _transferred(found, op)
    if not op.differentiable and isinstance(result, Value):
        result = Value(result.shape, result.table, result.mean, allowed=result.allowed)
    if op.parameter is not None and isinstance(result, Value):  # a weight that is computed from others
        _rescale(result, parameter_value(op.parameter))
    return result


def _rescale(derived: Value, true: Value) -> None:
    """Give a derived weight its true second moment; what its elements have in common keeps its share."""
    if derived.power > 0:
        ratio = true.power / derived.power
        derived.table, derived.mean = derived.table * ratio, derived.mean * math.sqrt(ratio)
    else:
        derived.table, derived.mean = true.table, true.mean


def _transferred(found: Interpretation, op: Op) -> Result:
    operands = tuple(found.values.get(index) for index in op.inputs)
    call = Call(op, operands, _shapes(found.graph, op))
    frozen = _frozen_norm(found, op)
    if frozen is not None:
        return frozen
    doubt = _wild(call)
    if doubt is not None:
        found.reasons[op.index] = doubt
    try:
        return _checked(_ruled(call), call)
    except KeyError as error:
        reason = "no rule" if op.name not in RULES else repr(error)
    except Exception as error:  # a rule that fails must not take the other 200 ops with it
        reason = f"{type(error).__name__}: {error}"
    found.unknown[op.name] += 1
    found.reasons[op.index] = reason
    return passed_through(call)


#: Standard deviations of an argument beyond which E[exp(2 u)] / E[exp(u)]^2 = exp(s^2) passes 1e10: the moments are
#: those of values that no sample holds, and what bounds the argument (a sum of negative terms, a shift by the maximum)
#: is not in a table.
_WIDE = 5.0


#: Standard deviations from zero within which a divisor has no moments to speak of: 1 / x of a normal x has none at all.
#: A sum of positive terms that is taken for one of any sign (linear attention) looks like that.
_NEAR_ZERO = 3.0


def _wild(call: Call) -> str | None:
    """Why the result of an op is decided by values that no table holds; None if it is not."""
    source = call.operands[0] if call.operands else None
    if call.op.name in {"exp", "exp2", "expm1"} and isinstance(source, Value) and source.variance > _WIDE**2:
        return "an exponential of an argument so wide that its rarest values decide"
    divisor = call.operands[1] if call.op.name == "div" and len(call.operands) > 1 else None
    if isinstance(divisor, Value) and divisor.variance * _NEAR_ZERO**2 > divisor.mean**2:
        return "a quotient whose divisor comes close to zero"
    return None


def _frozen_norm(found: Interpretation, op: Op) -> Value | None:
    """A batch norm by stored statistics is taken to fit the data, as it does with the weights it belongs to."""
    norm = found.graph.norms.get(op.index)
    source = found.values.get(norm.source.index) if norm is not None and norm.frozen else None
    if not isinstance(source, Value) or source.rank < 2 or source.shape != op.shape:
        return None
    return normalized(source, [axis for axis in range(source.rank) if axis != 1], 1e-5)


#: Ops that act on the last axis or on single elements: merged leading axes can be kept apart through them.
_POINTWISE = ACTIVATIONS | {
    "linear",
    "layer_norm",
    "rms_norm",
    "dropout",
    "add",
    "sub",
    "mul",
    "div",
    "to",
    "contiguous",
}


def _ruled(call: Call) -> Result:
    """The rule of the op; on the tensor before its leading axes were merged, where that is possible."""
    rule = RULES[call.op.name]
    first = call.operands[0] if call.operands else None
    whole = first.unmerged if isinstance(first, Value) and call.op.name in _POINTWISE else None
    if whole is None or not isinstance(first, Value) or first.shape[:-1] != call.shape[:-1]:
        return rule(call)
    operands: list[Operand] = []
    for operand in call.operands:
        apart = operand.unmerged if isinstance(operand, Value) else None
        if apart is not None and apart.shape[:-1] == whole.shape[:-1]:
            operands.append(apart)
        elif isinstance(operand, Value) and operand.rank >= first.rank and call.op.name != "linear":
            return rule(call)  # another tensor with the merged axis
        else:
            operands.append(operand)
    shape = (*whole.shape[:-1], call.shape[-1])
    result = rule(Call(replace(call.op, shape=shape), tuple(operands)))
    if not isinstance(result, Value):
        return rule(call)
    merged = reshaped(result, call.shape)
    merged.unmerged = result
    return merged


def _checked(result: Result, call: Call) -> Result:
    if isinstance(result, tuple):
        return result
    if result.shape != call.shape:
        raise ValueError(f"shape {result.shape} instead of {call.shape}")
    if any(result is operand for operand in call.operands):
        return copied(result)
    return result


def _shapes(graph: Graph, op: Op) -> tuple[tuple[int, ...], ...]:
    """The shapes of the parts of an op with several results; empty for one result."""
    parts = {user.attrs["item"]: user.shape for user in graph.users(op) if isinstance(user.attrs.get("item"), int)}
    if not parts:
        return ()
    return tuple(parts.get(number, op.shape) for number in range(max(parts) + 1))


def passed_through(call: Call) -> Value:
    """What is assumed of an op without a rule: the statistics of its first floating operand in the new shape."""
    source = next((operand for operand in call.operands if isinstance(operand, Value)), None)
    rank = len(call.shape)
    if source is None:
        table = np.zeros((2,) * rank)
        table.flat[-1] = 1.0
        return Value(call.shape, table, 0.0)
    if source.shape == call.shape:
        same = copied(source)
        same.uncertain = UNKNOWN
        return same
    table = np.full((2,) * rank, source.mean**2)
    table.flat[-1] = source.power
    ratio = float(np.prod(call.shape, dtype=float) / max(np.prod(source.shape, dtype=float), 1.0))
    given = source

    def pull(g: Table) -> Table:
        back = np.zeros(given.table.shape)
        back.flat[-1] = float(g.flat[-1]) * ratio
        return back

    return Value(call.shape, table, source.mean, ((source, pull),), uncertain=UNKNOWN)
