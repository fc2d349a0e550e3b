"""Run the rules forward over a graph, then the cotangents back from its sink."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from stablelint.graph.families import ACTIVATIONS
from stablelint.graph.graph import Graph
from stablelint.graph.op import Op
from stablelint.predict.call import Call, Operand, Result
from stablelint.predict.domain import LIMIT, Table, Value, copied, settle
from stablelint.predict.leaves import known_array, leaf, parameter_value
from stablelint.predict.profile import carried_back, mixed
from stablelint.predict.slant import combined
from stablelint.predict.spread import UNKNOWN, of_mask, of_weights
from stablelint.predict.spread import combined as joint_spread
from stablelint.predict.transfer.normalization import normalized
from stablelint.predict.transfer.rules import RULES
from stablelint.predict.transfer.shaping import reshaped


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
        for op in graph:
            if op.index in needed:
                found.values[op.index] = _evaluate(found, op)
        sink = found.values.get(graph.flow.sink) if graph.flow.sink is not None else None
        if isinstance(sink, tuple) and sink:
            sink = sink[0]
        if isinstance(sink, Value):
            failed: list[Value] = []
            backward(sink, failed)
            _note(found, failed)
    return found


def backward(sink: Value, failed: list[Value] | None = None) -> None:
    """Send the gradient of a fixed random projection with unit-variance weights back from ``sink``.

    Values whose cotangent rule fails are added to ``failed``; no gradient goes past them on that way.
    """
    seed = np.zeros(sink.table.shape)
    seed.flat[-1] = 1.0
    sink.cotangent = settle(seed, sink.shape)
    for value in sorted(_ancestors(sink), key=lambda found: found.order, reverse=True):
        if value.cotangent is not None:
            for place, (parent, pull) in enumerate(value.parents):
                back = _pulled(pull, value.cotangent)
                if back is not None:
                    _send(value, parent, settle(back, parent.shape), place)
                elif failed is not None:
                    failed.append(value)
        total = value.gradient()
        if total is not None:
            for witness, pull in value.witnesses:
                seen = _pulled(pull, total)
                if seen is None:
                    continue
                found = settle(seen, witness.shape)
                witness.observed = found if witness.observed is None else witness.observed + found


def _note(found: Interpretation, failed: list[Value]) -> None:
    """Name the ops whose cotangent could not be computed among those that no rule covers."""
    broken = {id(value) for value in failed}
    for index, value in found.values.items():
        parts = value if isinstance(value, tuple) else (value,)
        if any(id(part) in broken for part in parts):
            found.unknown[found.graph.ops[index].name] += 1
            found.reasons[index] = "its cotangent has no finite value"


def _pulled(pull: Callable[[Table], Table], cotangent: Table) -> Table | None:
    """``pull(cotangent)``: the largest number beyond the range of floats, None where a rule fails on its operands."""
    try:
        return pull(cotangent)
    except OverflowError:
        return np.full_like(cotangent, LIMIT)
    except (ArithmeticError, ValueError, IndexError):
        return None


def _send(value: Value, parent: Value, table: Table, place: int) -> None:
    """Add to the cotangent of ``parent``, with its profile along axes and its dependence on the value."""
    scale, focus = carried_back(value.focus, value.alignment(place), value.shape, parent.shape)
    table = np.minimum(table * scale, LIMIT) if scale != 1 else table
    tilt = value.tilts[place] if place < len(value.tilts) else None
    factor, slant = tilt(value.slant) if tilt is not None else (1.0, None)
    if factor != 1:
        table.flat[-1] *= factor
        table = settle(table, parent.shape)
    _join(value, parent, table, place)
    spread, alike = _spread(value, parent, table, place)
    unsure = value.unsure + value.uncertain
    if parent.cotangent is None:
        parent.cotangent, parent.focus, parent.slant = table, focus, slant
        parent.spread, parent.unsure, parent.alike = spread, unsure, alike
        return
    before, more = float(parent.cotangent.flat[-1]), float(table.flat[-1])
    if focus or parent.focus:
        parent.focus = mixed([(before, parent.focus), (more, focus)], parent.shape)
    parent.alike = (before * parent.alike + more * alike) / (before + more) if before + more > 0 else alike
    parent.spread = joint_spread(before, parent.spread, more, spread)
    parent.unsure = joint_spread(before, parent.unsure, more, unsure)
    parent.slant = combined(before, parent.slant, more, slant)
    parent.cotangent = np.minimum(parent.cotangent + table, LIMIT)


def _spread(value: Value, parent: Value, back: Table, place: int) -> tuple[float, float]:
    """The variance of ln g^2 of what ``value`` sends, and how alike its directions are."""
    spread, alike = value.spread, value.alike
    if value.mask is not None and place == 0 and back.ndim > 1:
        axis, correlation, excess = value.mask()
        alike *= correlation**2
        spread += of_mask(back, axis, parent.shape, alike, excess)
    if place < len(value.mixed) and value.mixed[place]:
        added, alike = of_weights(back, value.mixed[place], parent.shape, alike)
        spread += added
    return spread, alike


def _join(value: Value, parent: Value, table: Table, place: int) -> None:
    """Add to E[(g x)(g x)'] of ``parent``, which is kept only where g and x are not independent."""
    rule = value.joints[place] if place < len(value.joints) else None
    assert value.cotangent is not None
    found = rule(value.cotangent, value.joint, table) if rule is not None else None
    if found is None and parent.joint is None:
        return
    before = parent.joint
    if before is None:
        before = 0.0 if parent.cotangent is None else parent.cotangent * parent.table
    more = table * parent.table if found is None else found
    parent.joint = np.clip(np.nan_to_num(before + more), -LIMIT, LIMIT)


def _ancestors(sink: Value) -> list[Value]:
    seen, waiting, found = {id(sink)}, [sink], [sink]
    while waiting:
        value = waiting.pop()
        for parent, _ in (*value.parents, *value.witnesses):
            if id(parent) not in seen:
                seen.add(id(parent))
                waiting.append(parent)
                found.append(parent)
    return found


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


def _evaluate(found: Interpretation, op: Op) -> Operand:
    known = known_array(op)
    if known is not None:
        return known
    if op.name in ("input", "parameter", "constant"):
        return leaf(op)
    if not op.floating:
        return None
    result = _transferred(found, op)
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
    try:
        return _checked(_ruled(call), call)
    except KeyError as error:
        reason = "no rule" if op.name not in RULES else repr(error)
    except Exception as error:  # a rule that fails must not take the other 200 ops with it
        reason = f"{type(error).__name__}: {error}"
    found.unknown[op.name] += 1
    found.reasons[op.index] = reason
    return passed_through(call)


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
