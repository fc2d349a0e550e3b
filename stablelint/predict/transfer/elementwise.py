"""Every elementwise function: activations, roots, powers, clamps.

    C_y = sum_n a_n^2 rho^n       (a_n: Hermite coefficients of f, rho: correlation of the two arguments)
    G_x = G_y sum_n b_n^2 rho^n   (b_n: those of f')

(:mod:`stablelint.predict.gaussian`). A chain of such functions stays one function of the Gaussian tensor at its
start, so that tanh(relu(x)) or x * sigmoid(x) are not taken for functions of a normal variable again and again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable

import numpy as np

from stablelint.predict.call import Call, NotModelled, Result
from stablelint.predict.domain import Pull, Table, Value, same
from stablelint.predict.functions import function, power, reciprocal
from stablelint.predict.gaussian import IDENTITY, Array, Function, Kernel, Law, compose, degenerate, kernel
from stablelint.predict.lags import Lags
from stablelint.predict.marginal import law
from stablelint.predict.slant import Edge, joint_through_function, through_function
from stablelint.predict.transfer.shaping import fitted

#: Slopes with heavier tails (an exponential of a wide argument) have no mean that a few hundred units would show.
_HEAVIEST = 10.0
RECIPROCAL = Function("reciprocal", reciprocal)


def apply(value: Value, outer: Function) -> Value:
    """``outer`` of every element."""
    if value.base is not None and value.function is not None and not _straight(value):
        return _behind_junction(value, value.base, value.function, outer)
    base, inner = expression(value)
    total = compose(outer, inner)
    if total is None:
        base, inner, total = value, IDENTITY, outer
    result = _of_base(base, total)
    if base is not value:
        result.witnesses = ((value, factor_of(base, _slope_behind(outer, inner))),)
    return result


def _behind_junction(value: Value, base: Value, inner: Function, outer: Function) -> Value:
    """A function of a function that has another parent as well (a zero branch, a slope): the cotangent must pass it."""
    total = compose(outer, inner)
    if total is None:
        return _of_base(value, outer)
    result = _of_base(base, total)
    local = _slope_behind(outer, inner)
    result.parents = ((value, factor_of(base, local)),)
    _attach(result, Edge(base, local, inner, total))
    return result


def _slope_behind(outer: Function, inner: Function) -> Function:
    """outer'(inner(x)): a stretch of x that ``inner`` sends to one number (a ReLU to zero) may lie on a kink."""

    def slope(x: Array) -> Array:
        y = np.broadcast_to(inner.of(x), x.shape)
        return np.where(inner.derivative(x) == 0, outer.slope_at_kinks(y), outer.derivative(y))

    return Function(("slope", outer.key, inner.key), slope, outer.length + inner.length)


def _attach(result: Value, edge: Edge) -> None:
    """Say what the only edge back from ``result`` does to what depends on the value, and to the spread."""
    result.tilts, result.joints = (through_function(edge),), (joint_through_function(edge),)
    result.mask = functools.partial(_mask, edge)


def expression(value: Value) -> tuple[Value, Function]:
    """The tensor that ``value`` is a function of, and the function; itself where others join in on the way there."""
    if value.base is not None and value.function is not None and _straight(value):
        return value.base, value.function
    return value, IDENTITY


def _straight(value: Value) -> bool:
    """Whether the cotangent of ``value`` goes to the tensor that it is a function of and nowhere else."""
    return len(value.parents) == 1 and value.parents[0][0] is value.base


def _of_base(base: Value, total: Function) -> Value:
    if degenerate(base.mean, base.variance):
        number = float(np.nan_to_num(total.of(np.array([base.mean])))[0])
        return Value(
            base.shape, np.full(base.table.shape, number * number), number, ((base, _slope(base, total)),),
            base=base, function=total,
        )  # fmt: skip
    distribution = law(base)
    found = kernel(total, distribution)
    table = found(distribution.latent(base.table))
    result = Value(
        base.shape, table, found.mean, ((base, _slope(base, total)),), base=base, function=total,
        lags=_neighbours(base, distribution, found),
    )  # fmt: skip
    _attach(result, Edge(base, Function(("derivative", total.key), total.derivative, total.length), IDENTITY, total))
    return result


def _neighbours(base: Value, distribution: Law, found: Kernel) -> Lags:
    """Between places d apart the argument has the covariance C_differ + lags[d] (C_agree - C_differ)."""
    lags = {}
    for axis, own in (base.lags or {}).items():
        apart = float(np.take(base.table, 0, axis).flat[-1])
        between = found(distribution.latent(np.append(apart + own * (base.power - apart), [apart, base.power])))
        rest = float(found.power - between[-2])
        if rest > 0:
            lags[axis] = np.append(1.0, np.clip((between[1:-2] - between[-2]) / rest, -1.0, 1.0))
    return lags


def _mask(edge: Edge) -> tuple[int, float, Table]:
    """The axis of the units, the correlation of f'(u) and f'(u') of two samples, and by agreement of the other axes
    E[f'^2 f'^2'] / E[f'^2]^2 - 1."""
    base, distribution = edge.base, law(edge.base)
    unit = 1 if base.rank >= 4 else max(base.rank - 1, 0)
    slopes = kernel(edge.slope, distribution)
    if not 1e-140 < slopes.power < 1e140:
        return unit, 1.0, np.zeros(base.table.shape)
    latent = distribution.latent(base.table)
    apart = tuple(int(axis == unit) for axis in range(base.rank))
    between = float(slopes(np.append(latent[apart], 1.0))[0])

    def square(x: Array) -> Array:
        return np.minimum(np.nan_to_num(edge.slope.of(x) ** 2 / slopes.power, posinf=1e70), 1e70)

    key = ("square", edge.slope.key, slopes.power)
    excess = kernel(Function(key, square, edge.slope.length), distribution)(latent) - 1
    return unit, min(max(between / slopes.power, 0.0), 1.0), np.clip(excess, 0.0, _HEAVIEST)


def _slope(base: Value, total: Function) -> Pull:
    """Multiply the cotangent by E[f'(u) f'(u')]."""
    if total is IDENTITY:
        return same

    def pull(g: Table) -> Table:
        if degenerate(base.mean, base.variance):
            return np.asarray(g * float(np.nan_to_num(total.derivative(np.array([base.mean])))[0]) ** 2)
        distribution = law(base)
        found = kernel(total, distribution, derivative=True)
        return np.asarray(g * found(distribution.latent(base.table)))

    return pull


def factor_of(base: Value, factor: Function) -> Pull:
    """Multiply the cotangent by E[h(u) h(u')] for a function h of the base."""

    def pull(g: Table) -> Table:
        if degenerate(base.mean, base.variance):
            return np.asarray(g * float(np.nan_to_num(factor.of(np.array([base.mean])))[0]) ** 2)
        distribution = law(base)
        return np.asarray(g * kernel(factor, distribution)(distribution.latent(base.table)))

    return pull


def compose_pair(
    left: Value,
    right: Value,
    key: tuple[Hashable, ...],
    of: Callable[[Array, Array], Array],
    partials: Callable[[Array, Array], tuple[Array | float, Array | float]],
) -> Value | None:
    """An elementwise function of two expressions of one Gaussian tensor; None when they have different ones."""
    base, first = expression(left)
    other, second = expression(right)
    if base is not other:
        return None
    length = first.length + second.length + 1
    if length > 24:
        return None
    name = (*key, first.key, second.key)
    result = _of_base(base, Function(name, lambda x: of(first.of(x), second.of(x)), length))

    def partial(place: int) -> Function:
        def slope(x: Array) -> Array:
            return np.broadcast_to(np.asarray(partials(first.of(x), second.of(x))[place], dtype=np.float64), x.shape)

        return Function(("partial", place, name), slope, length)

    result.witnesses = tuple(
        (value, factor_of(base, partial(place))) for place, value in enumerate((left, right)) if value is not base
    )
    return result


def elementwise(call: Call) -> Result:
    """One function from the table."""
    found = function(call.op.name, call.op.attrs)
    if found is None:
        raise NotModelled(call.op.name)
    value = call.value(0)
    result = apply(value, found)
    if call.op.name == "exp":
        result.exponent = value
    if call.op.name in {"neg", "clamp"}:
        result.allowed = value.allowed
    return result


def step(call: Call) -> Result:
    """Round, sign and the like: values without a gradient."""
    found = function(call.op.name, call.op.attrs)
    if found is None:
        raise NotModelled(call.op.name)
    result = apply(call.value(0), found)
    return Value(result.shape, result.table, result.mean)


def prelu(call: Call) -> Result:
    """A leaky ReLU whose slope is a parameter: its root mean square stands for all channels."""
    value, weight = call.value("input"), call.value("weight")
    slope = math.copysign(math.sqrt(weight.power), weight.mean)
    result = apply(value, Function(("leaky_relu", slope), lambda x: np.where(x > 0, x, slope * x)))
    negative = Function("negative", lambda x: np.minimum(x, 0))
    base, inner = expression(value)
    part = compose(negative, inner) or negative
    count = math.prod(value.shape) / max(math.prod(weight.shape), 1)
    pull = factor_of(base, part)
    result.parents += ((weight, lambda g: np.full(weight.table.shape, count * float(pull(g).flat[-1]))),)
    return result


def powered(call: Call) -> Result:
    """``x ** p`` for a number p."""
    exponent = call.attr("other")
    known = call.known(1)
    if exponent is None and known is not None and known.size == 1:
        exponent = known.reshape(-1)[0]
    if exponent is None or call.attr("reversed"):
        raise NotModelled("a power with a tensor as exponent")
    p = float(exponent)
    return fitted(apply(call.value(0), Function(("pow", p), lambda x: power(x, p))), call.shape)
