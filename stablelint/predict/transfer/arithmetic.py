"""Sums and products of two tensors, with broadcasting.

    add:  C = C_a + C_b + 2 m_a m_b          cotangent: G, summed over broadcast axes
    mul:  C = C_a C_b                        cotangent: G C_other, summed over broadcast axes

for operands that are independent given their means (residual branches: Yang & Schoenholz 2017, arXiv:1712.08969).
Operands that are functions of one Gaussian tensor are composed instead (x * sigmoid(x) is one function). A tensor
minus its own mean is known exactly: cov(x, mean x) = var(mean x), so hand-written norms centre as they should. A
quotient exp(x) / sum(exp(x)) is a softmax.
"""

from __future__ import annotations

import math

import numpy as np

from stablelint.predict.domain import Table, Value, broadcast, copied, lead, pair_mean, unbroadcast
from stablelint.predict.gaussian import IDENTITY, Function
from stablelint.predict.marginal import of_product, of_sum
from stablelint.predict.profile import EVEN, aligned, carried_forward, mixed
from stablelint.predict.slant import same_joint, through_pair
from stablelint.predict.transfer.elementwise import RECIPROCAL, apply, compose_pair
from stablelint.predict.transfer.softmax import softmax_of

#: A share of the second moment that changes no distribution.
_NOTHING = 1e-12
#: A factor whose values have this share of their second moment in common is of one sign, as a gate or gain is.
_ONE_SIGN = 0.5


def add(left: Value, right: Value, factor: float = 1.0) -> Value:
    """``left + factor * right``."""
    together = compose_pair(left, right, ("add", factor), lambda a, b: a + factor * b, lambda _a, _b: (1.0, factor))
    if together is not None:
        return together
    shape = broadcast(left.shape, right.shape)
    if shape == left.shape and _is_mean(left, right):
        return _shifted_by_mean(left, right, factor)
    if shape == right.shape and factor and _is_mean(right, left):
        return scaled(_shifted_by_mean(right, left, 1 / factor), factor)
    if shape == left.shape and factor**2 * right.power <= _NOTHING * left.power:
        return _beside(left, right, factor)
    if shape == right.shape and factor == 1 and left.power <= _NOTHING * right.power:
        return _beside(right, left, 1.0)
    rank = len(shape)
    table = lead(left.table, rank) + factor**2 * lead(right.table, rank) + 2 * factor * left.mean * right.mean
    result = Value(
        shape, table, left.mean + factor * right.mean,
        (
            (left, lambda g: unbroadcast(g, shape, left.shape)),
            (right, lambda g: factor**2 * unbroadcast(g, shape, right.shape)),
        ),
    )  # fmt: skip
    if left.profile or right.profile:
        parts = ((left, left.power), (right, factor**2 * right.power))
        result.profile = mixed(
            [(power, carried_forward(part.profile or EVEN, aligned(shape, part.shape))) for part, power in parts], shape
        )
    result.allowed = left.allowed if left.allowed is not None else right.allowed
    result.marginal = of_sum(left, right, factor)
    result.tilts = through_pair(left, right, result, lambda a, b: a + factor * b)
    result.steady = _steady(left, right, factor, result)
    # where one operand is next to nothing (a zero bias), g times the other is g times the sum
    result.joints = tuple(
        same_joint if scale * other.power <= _NOTHING * part.power else None
        for part, other, scale in ((left, right, factor**2), (right, left, 1.0))
    )
    return result


def _steady(left: Value, right: Value, factor: float, total: Value) -> tuple[tuple[int, ...], float] | None:
    """Of the mean square of x + b, with shares p and 1 - p, the variance lacks p^2 if the mean square of x is fixed."""
    found = [
        (part.steady[0], part.steady[1] * (scale * part.power / total.power) ** 2)
        for part, scale in ((left, 1.0), (right, factor**2))
        if part.steady is not None and part.shape == total.shape and total.power > 0
    ]
    if not found or len({axes for axes, _ in found}) > 1:
        return None
    return found[0][0], min(sum(share for _, share in found), 1.0)


def _beside(whole: Value, nothing: Value, factor: float) -> Value:
    """``whole + factor * nothing``: a zero bias or branch gets its gradient and changes nothing."""
    base, function = whole.base or whole, whole.function or IDENTITY
    result = copied(whole)
    result.base, result.function = base, function
    result.joints = (same_joint,)
    result.parents += ((nothing, lambda g: factor**2 * unbroadcast(g, whole.shape, nothing.shape)),)
    if result.allowed is None:
        result.allowed = nothing.allowed
    return result


def _is_mean(whole: Value, part: Value) -> bool:
    """Whether ``part`` is the mean of ``whole`` over some axes, in a shape that broadcasts against it."""
    if part.reduced is None or part.reduced[0] is not whole:
        return False
    _, axes, factor = part.reduced
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(whole.shape))
    return part.shape == kept and math.isclose(factor * math.prod(whole.shape[axis] for axis in axes), 1.0)


def _shifted_by_mean(whole: Value, part: Value, factor: float) -> Value:
    """``x + factor * mean(x)``: a symmetric map (a projection for -1), so the cotangent is transformed alike."""
    assert part.reduced is not None
    axes = part.reduced[1]
    extra = factor**2 + 2 * factor

    def shift(table: Table) -> Table:
        return np.asarray(table + extra * pair_mean(table, axes, whole.shape))

    note = (part, lambda g: factor**2 * unbroadcast(g, whole.shape, part.shape))
    return Value(
        whole.shape, shift(whole.table), whole.mean * (1 + factor), ((whole, shift),),
        witnesses=(note,), allowed=whole.allowed,
    )  # fmt: skip


def mul(left: Value, right: Value) -> Value:
    """``left * right``."""
    together = compose_pair(left, right, ("mul",), lambda a, b: a * b, lambda a, b: (b, a))
    if together is not None:
        return together
    shape = broadcast(left.shape, right.shape)
    first, second = lead(left.table, len(shape)), lead(right.table, len(shape))

    def back(g: Table, other: Table, own: Table, target: Value) -> Table:
        # where g depends on the product, g * other is (g * product) / own factor; exact for a factor of one sign
        joint = result.joint
        found = g * other if joint is None or own.min() < _ONE_SIGN * own.max() else joint / own
        return unbroadcast(found, shape, target.shape)

    result = Value(
        shape, first * second, left.mean * right.mean,
        ((left, lambda g: back(g, second, first, left)), (right, lambda g: back(g, first, second, right))),
        marginal=of_product(left, right), joints=(same_joint, same_joint),
    )  # fmt: skip
    result.tilts = through_pair(left, right, result, np.multiply)
    if left.steady is not None and right.constant and left.shape == shape:  # a gain that is the same everywhere
        result.steady = left.steady
    return result


def div(left: Value, right: Value) -> Value:
    """``left / right``; a sum over many elements is almost deterministic, so its reciprocal is tame."""
    if right.reduced is not None and right.reduced[0] is left and left.exponent is not None:
        _, axes, _ = right.reduced
        if len(axes) == 1:
            result = softmax_of(left.exponent, axes[0])
            result.witnesses = ((left, lambda g: g / max(right.power, 1e-280)),)
            return result
    return mul(left, apply(right, RECIPROCAL))


def scaled(value: Value, factor: float) -> Value:
    """``factor * value``; masks stay recognisable."""
    result = apply(value, Function(("scale", factor), lambda x: factor * x))
    result.allowed = value.allowed
    return result


def shifted(value: Value, amount: float) -> Value:
    """``value + amount``; a tiny amount (an epsilon) leaves a sum recognisable."""
    result = apply(value, Function(("shift", amount), lambda x: x + amount))
    result.allowed = value.allowed
    if abs(amount) < 1e-3 * abs(value.mean):
        result.reduced = value.reduced
    return result


def extreme(left: Value, right: Value, *, upper: bool) -> Value:
    """``max(left, right)`` or ``min``: independent operands share the gradient evenly."""
    name = "maximum" if upper else "minimum"
    pick = np.maximum if upper else np.minimum
    sign = 1.0 if upper else -1.0
    together = compose_pair(
        left, right, (name,), lambda a, b: pick(a, b),
        lambda a, b: ((sign * a > sign * b).astype(float), (sign * a <= sign * b).astype(float)),
    )  # fmt: skip
    if together is not None:
        return together
    shape = broadcast(left.shape, right.shape)
    # E max(a, b) of two independent normals of one mean is m + sqrt((va + vb) / (2 pi))
    shift = sign * math.sqrt((left.variance + right.variance) / (2 * math.pi))
    table = (lead(left.table, len(shape)) + lead(right.table, len(shape))) / 2
    return Value(
        shape, table, (left.mean + right.mean) / 2 + shift,
        (
            (left, lambda g: unbroadcast(g / 2, shape, left.shape)),
            (right, lambda g: unbroadcast(g / 2, shape, right.shape)),
        ),
    )  # fmt: skip
