"""The rules of binary operators: numbers and known tensors of one element on either side, masks, broadcasting."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, same
from stablelint.predict.functions import sigmoid
from stablelint.predict.gaussian import Function
from stablelint.predict.transfer.arithmetic import add, div, extreme, mul, scaled, shifted
from stablelint.predict.transfer.elementwise import RECIPROCAL, apply
from stablelint.predict.transfer.shaping import expanded, fitted, sliced

#: Additive masks and fill values below this close a position of a softmax row.
CLOSED = -1e4


def addition(call: Call) -> Result:
    """``a + alpha * b`` and ``a - alpha * b``."""
    factor = call.number("alpha", 1.0) * (-1.0 if call.op.name == "sub" else 1.0)
    other = _number(call)
    if other is not None:
        value = call.value(0)
        moved = shifted(scaled(value, factor), other) if call.attr("reversed") else shifted(value, factor * other)
        return fitted(moved, call.shape)
    for place in (0, 1):
        known = call.known(place)
        if known is None:
            continue
        if known.ndim >= 2 and known.dtype.kind == "f" and bool((known < CLOSED).any()):
            value = expanded(call.value(1 - place), call.shape)
            return masked(value, known > CLOSED)
        if known.size == 1:
            number = float(known.reshape(-1)[0])
            value = call.value(1 - place)
            if place == 0 and factor != 1:
                return fitted(shifted(scaled(value, factor), number), call.shape)
            return fitted(shifted(value, number if place == 0 else factor * number), call.shape)
    return add(call.value(0), call.value(1), factor)


def product(call: Call) -> Result:
    """``a * b``."""
    other = _number(call)
    if other is not None:
        return fitted(scaled(call.value(0), other), call.shape)
    for place in (0, 1):
        known = call.known(place)
        if known is not None and known.size == 1:
            return fitted(scaled(call.value(1 - place), float(known.reshape(-1)[0])), call.shape)
    return mul(call.value(0), call.value(1))


def quotient(call: Call) -> Result:
    """``a / b``; a rounding mode cuts the gradient and keeps the size."""
    other, known = _number(call), call.known(1)
    if other is None and known is not None and known.size == 1:
        other = float(known.reshape(-1)[0])
    if other is not None and call.attr("reversed"):
        result = scaled(apply(call.value(0), RECIPROCAL), other)
    elif other is not None:
        result = fitted(scaled(call.value(0), 1 / other if other else math.inf), call.shape)
    else:
        result = div(call.value(0), call.value(1))
    if call.attr("rounding_mode"):
        return Value(result.shape, result.table, result.mean)
    return result


def addcmul(call: Call) -> Result:
    """``input + value * tensor1 * tensor2``."""
    return add(call.value("input"), mul(call.value("tensor1"), call.value("tensor2")), call.number("value", 1.0))


def addcdiv(call: Call) -> Result:
    """``input + value * tensor1 / tensor2``."""
    return add(call.value("input"), div(call.value("tensor1"), call.value("tensor2")), call.number("value", 1.0))


def lerp(call: Call) -> Result:
    """``input + weight * (end - input)``."""
    start, end, weight = call.value("input"), call.value("end"), call.optional("weight")
    if weight is None:
        share = call.number("weight", 0.5)
        return add(scaled(start, 1 - share), scaled(end, share))
    return add(start, mul(weight, add(end, start, -1.0)))


def extremum(call: Call) -> Result:
    """``maximum`` and ``minimum``; a number acts as a clamp."""
    upper = call.op.name == "maximum"
    pick = np.maximum if upper else np.minimum
    other, known = _number(call), call.known(1)
    if other is None and known is not None and known.size == 1:
        other = float(known.reshape(-1)[0])
    if other is not None:
        limit = other
        return fitted(apply(call.value(0), Function((call.op.name, limit), lambda x: pick(x, limit))), call.shape)
    return extreme(call.value(0), call.value(1), upper=upper)


def masked_fill(call: Call) -> Result:
    """Closed positions of attention scores, or elements replaced by a number."""
    value = expanded(call.value("input"), call.shape)
    closed = call.known("mask")
    fill = call.op.attrs.get("value")
    known = call.known("value")
    if known is not None and known.size == 1:
        fill = float(known.reshape(-1)[0])
    number = float(fill) if isinstance(fill, (int, float)) else 0.0
    if number < CLOSED:
        return masked(value, None if closed is None else ~closed.astype(bool))
    share = 1.0 if closed is None else 1 - float(closed.mean())
    if number == 0 and closed is not None and share < 1:
        table = value.table * share * share
        table.flat[-1] = value.power * share
        return Value(value.shape, table, value.mean * share, ((value, lambda g: g * share),))
    return Value(value.shape, value.table, value.mean, ((value, same),), allowed=value.allowed)


def where(call: Call) -> Result:
    """A choice between two tensors: a mask if one side closes positions, a mixture otherwise."""
    condition = call.known("condition")
    sides: list[tuple[Value | None, float | None]] = []
    for key in ("input", "other"):
        known, number = call.known(key), call.op.attrs.get(key)
        if known is not None and known.size == 1:
            sides.append((None, float(known.reshape(-1)[0])))
        else:
            value = call.optional(key)
            sides.append((value, float(number) if isinstance(number, (int, float)) else _closing(value)))
    for place, (_, number) in enumerate(sides):
        value = sides[1 - place][0]
        if number is not None and number < CLOSED and value is not None:
            open_ = None if condition is None else condition.astype(bool) == bool(place)
            return masked(expanded(value, call.shape), open_)
    share = 0.5 if condition is None or not condition.size else float(condition.mean())
    mean, power = 0.0, 0.0
    table = np.zeros((2,) * len(call.shape))
    parents = []
    for part, (side, number) in zip((share, 1 - share), sides, strict=True):
        if side is None:
            mean, power = mean + part * (number or 0.0), power + part * (number or 0.0) ** 2
            continue
        value = expanded(side, call.shape)
        mean, power, table = mean + part * value.mean, power + part * value.power, table + part * part * value.table
        parents.append((value, partial(_portion, part)))
    table.flat[-1] = power
    return Value(call.shape, table, mean, tuple(parents))


def _closing(value: Value | None) -> float | None:
    """The number that a tensor holds everywhere where it is one that closes positions: ``-9e15 * ones_like(x)``."""
    if value is None or value.mean >= CLOSED or value.power > value.mean**2 * (1 + 1e-6):
        return None
    return value.mean


def _portion(share: float, table: Table) -> Table:
    return np.asarray(share * table)


def triangle(call: Call) -> Result:
    """tril and triu: about half of the elements become zero."""
    value = call.value(0)
    rows, columns = value.shape[-2:]
    share = (min(rows, columns) + 1) / (2 * max(rows, columns))
    table = value.table * share * share
    table.flat[-1] = value.power * share
    return Value(value.shape, table, value.mean * share, ((value, lambda g: g * share),))


def dropout(call: Call) -> Result:
    """Zeros with probability p and the rest over 1 - p: only the second moment of one element grows."""
    value = call.value(0)
    p = call.number("p", 0.5)
    keep = 1 - p if call.attr("training", True) and 0 <= p < 1 else 1.0

    return dropped(value, keep)


def dropped(value: Value, keep: float) -> Value:
    """A share ``keep`` of the elements over ``keep``, zeros elsewhere."""

    def drop(table: Table) -> Table:
        table = table.copy()
        table.flat[-1] /= keep
        return table

    return Value(value.shape, drop(value.table), value.mean, ((value, drop),), attention=value.attention)


def glu(call: Call) -> Result:
    """One half of an axis times the sigmoid of the other."""
    value, axis = call.value(0), call.attr("dim", -1)
    half = value.shape[axis] // 2
    return mul(sliced(value, axis, half), apply(sliced(value, axis, half), Function("sigmoid", sigmoid)))


def masked(value: Value, open_: npt.NDArray[np.bool_] | None) -> Value:
    """Scores with the columns that each row may see; a mask with leading axes is judged by its first matrix."""
    allowed = None
    if open_ is not None and open_.ndim >= 2:
        allowed = np.asarray(open_.reshape((-1, *open_.shape[-2:]))[0])
        if allowed.all() or allowed.shape[-1] != value.shape[-1]:
            allowed = None
    return Value(
        value.shape,
        value.table,
        value.mean,
        ((value, same),),
        allowed=allowed if allowed is not None else value.allowed,
    )


def _number(call: Call) -> float | None:
    other = call.attr("other")
    return float(other) if isinstance(other, (int, float)) else None
