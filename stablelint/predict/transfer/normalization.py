"""Norms: centre and divide by a statistic of the tensor itself.

    V = average of C over pairs in the normalised axes R,   s^2 = C[1..1] - V[1..1] + eps
    C_y = (C - V) / s^2
    G_x = (G - avg_R G - P) E[1 / s^2] + P E[eps^2 / s^6],     P = C_y avg_R E[(g y)(g y)']

The two subtracted terms are the projections of the backward pass onto the mean and onto y (of which eps leaves a
trace that counts where nothing else is left: a batch of two). The variance s^2 of a group is not the same number in
every group: it is V chi^2_nu / nu with nu, the inverse of avg_R(C_y^2), the effective number of independent terms (of
what differs from a mean m that an RMS norm leaves in: Var x^2 has 2 m^2 C beside C^2). (It
also varies with the weights of the group. That is left out: the layer before multiplies by the same weights again.)
Batch normalisation divides by the variance over samples, C[1, 1] - C[0, 1]: what makes ReLU nets with it grow the
squared gradient by pi / (pi - 1) per layer (Yang et al. 2019, arXiv:1902.08129).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, pair_mean
from stablelint.predict.domain import kept as kept_slant
from stablelint.predict.functions import positive
from stablelint.predict.gaussian import Function
from stablelint.predict.marginal import alike
from stablelint.predict.profile import Along, Array, aligned
from stablelint.predict.slant import summing_to
from stablelint.predict.transfer.arithmetic import add, mul
from stablelint.predict.transfer.elementwise import apply
from stablelint.predict.transfer.shaping import reshaped


def normalized(value: Value, axes: Sequence[int], eps: float, *, centre: bool = True) -> Value:
    """``(x - mean) / sqrt(var + eps)`` over ``axes``, or ``x / sqrt(mean(x^2) + eps)``."""
    axes = sorted(axis % value.rank for axis in axes)

    def average(table: Table) -> Table:
        return pair_mean(table, axes, value.shape)

    centred = value.table - average(value.table) if centre else value.table
    variance = max(float(centred.flat[-1]), 0.0)
    if variance < 1e-13 * value.power:
        variance = 0.0  # rounding: every element of a group is the same
        centred = np.zeros_like(centred)
    scale = max(variance + eps, 1e-280)
    table = centred / scale

    groups = math.prod(value.shape) / max(math.prod(value.shape[axis] for axis in axes), 1)

    def pull(g: Table) -> Table:
        kept = g - average(g) if centre else g
        if variance <= 0:
            return np.asarray(kept / scale)
        joint = g * table if result.joint is None else result.joint
        along = table * average(joint) * (scale / variance)
        common = 0.0 if centre else min(value.mean * value.mean, variance)
        spread = (centred - common) / variance
        missing = value.steady[1] if value.steady is not None and value.steady[0] == tuple(axes) else 0.0
        found = float(average(spread * (spread + 2 * common / variance)).flat[-1]) * (1 - missing)
        terms = 1 / max(found, 1e-12)
        across, rest = inverse_moments(terms, eps / variance, groups)
        return np.asarray(((kept - along) * across + along * rest) / variance)

    alignment, profile = aligned(value.shape, value.shape), dict[int, Array]()
    for axis, along in (value.profile or {}).items():
        if axis in axes:
            profile[axis] = along
        elif variance > 0:  # every index of another axis is divided by its own size
            own = _variances(value, axis, axes, centre=centre)
            spreads = variance * np.maximum(along, 1e-12) if own is None else own
            alignment[axis] = Along(axis, weights=scale / np.maximum(spreads + eps, 1e-12 * scale))
    result = Value(
        value.shape, table, 0.0 if centre else value.mean / math.sqrt(scale), ((value, pull),),
        alignments=(alignment,), profile=profile, marginal=alike(value), tilts=(kept_slant,),
        steady=(tuple(axes), 1.0),
    )  # fmt: skip
    if eps < variance:  # x / |x| does not change with |x|: sum g x over a group is 0, but for eps
        result.joints = (lambda _g, _own, back: summing_to(back * value.table, axes, value.shape, 0.0),)
    return result


@lru_cache(maxsize=1024)
def _inverse_moments(terms: float, eps: float, count: int) -> tuple[float, float]:
    u = np.linspace(-60.0 if terms < 3 else -20.0, 4.0, 4096)  # the logarithm of the variance over its mean
    below = np.cumsum(np.exp(terms / 2 * (u - np.exp(u))))
    variances = np.exp(np.interp((np.arange(count) + 0.5) / count, below / below[-1], u))
    return float((1 / (variances + eps)).mean()), float((eps * eps / (variances + eps) ** 3).mean())


def inverse_moments(terms: float, eps: float, groups: float) -> tuple[float, float]:
    """E[1 / (s^2 + eps)] and E[eps^2 / (s^2 + eps)^3] for s^2 = chi^2_nu / nu with nu ``terms``.

    With few terms the means are those of the smallest variances, so they are taken over as many evenly spaced
    quantiles as there are groups.
    """
    if terms > 200:
        return (1 + 2 / terms) / (1 + eps), eps * eps / (1 + eps) ** 3
    return _inverse_moments(float(f"{terms:.3g}"), float(f"{eps:.2e}"), int(min(max(groups, 8), 512)))


def _variances(value: Value, axis: int, over: Sequence[int], *, centre: bool) -> Array | None:
    """The variance at every index of an axis along which tensors were joined: each has its own mean as well."""
    if value.segments is None or value.segments[0] != axis:
        return None
    found = []
    for part in value.segments[1]:
        table = part.table - pair_mean(part.table, over, part.shape) if centre else part.table
        own = (part.profile or {}).get(axis, np.ones(part.shape[axis]))
        found.append(max(float(table.flat[-1]), 0.0) * own)
    return np.concatenate(found)


def layer_norm(call: Call) -> Result:
    """Over the last axes."""
    value = call.value("input")
    count = _count(call)
    result = normalized(value, range(value.rank - count, value.rank), call.number("eps", 1e-5))
    return _affine(call, result, None)


def rms_norm(call: Call) -> Result:
    """Over the last axes, without centring."""
    value = call.value("input")
    count = _count(call)
    eps = call.number("eps", 1.2e-7)
    return _affine(call, normalized(value, range(value.rank - count, value.rank), eps, centre=False), None)


def batch_norm(call: Call) -> Result:
    """Over all axes but the channels; with the running statistics outside training."""
    value = call.value("input")
    mean, variance = call.optional("running_mean"), call.optional("running_var")
    eps = call.number("eps", 1e-5)
    if call.attr("training", mean is None) or mean is None or variance is None:
        result = normalized(value, [axis for axis in range(value.rank) if axis != 1], eps)
    else:
        shape = _channels(value)
        inverse = apply(variance, Function(("rsqrt", eps), lambda x: 1 / np.sqrt(positive(x) + eps)))
        result = mul(add(value, reshaped(mean, shape), -1.0), reshaped(inverse, shape))
    return _affine(call, result, _channels(value))


def instance_norm(call: Call) -> Result:
    """Over the spatial axes of each sample and channel."""
    value = call.value("input")
    result = normalized(value, range(2, value.rank), call.number("eps", 1e-5))
    return _affine(call, result, _channels(value))


def group_norm(call: Call) -> Result:
    """Over the spatial axes and groups of channels."""
    value, groups = call.value("input"), int(call.attr("groups", 1))
    split = reshaped(value, (value.shape[0], groups, value.shape[1] // groups, *value.shape[2:]))
    result = reshaped(normalized(split, range(2, split.rank), call.number("eps", 1e-5)), value.shape)
    return _affine(call, result, _channels(value))


def normalize(call: Call) -> Result:
    """``x / max(norm(x), eps)`` along ``dim``: an RMS norm with unit length."""
    value = call.value("input")
    dims = call.attr("dim", 1)
    axes = dims if isinstance(dims, tuple) else (dims,)
    size = math.prod(value.shape[axis] for axis in axes)
    result = normalized(value, axes, 1e-24, centre=False)
    return apply(result, Function(("scale", size**-0.5), lambda x: x * size**-0.5))


def weight_norm(call: Call) -> Result:
    """``g v / norm(v)`` over all axes of v but ``dim``: the old form of a reparametrised weight."""
    direction, length = call.value(0), call.value(1)
    kept = call.attr("dim", call.attr("arg2", 0))
    axes = [axis for axis in range(direction.rank) if axis != kept]
    size = math.prod(direction.shape[axis] for axis in axes)
    unit = normalized(direction, axes, 0.0, centre=False)
    return mul(apply(unit, Function(("scale", size**-0.5), lambda x: x * size**-0.5)), length)


def local_response_norm(call: Call) -> Result:
    """``x / (k + alpha * mean of x^2 over neighbours) ** beta``: the divisor is almost a number."""
    value = call.value("input")
    k, alpha, beta = call.number("k", 1.0), call.number("alpha", 1e-4), call.number("beta", 0.75)
    factor = (k + alpha * value.power) ** -beta
    return apply(value, Function(("scale", factor), lambda x: x * factor))


def _count(call: Call) -> int:
    shape = call.attr("normalized_shape", (1,))
    return len(shape) if isinstance(shape, tuple) else 1


def _channels(value: Value) -> tuple[int, ...]:
    return (1, value.shape[1]) + (1,) * (value.rank - 2)


def _affine(call: Call, value: Value, shape: tuple[int, ...] | None) -> Value:
    weight, bias = call.optional("weight"), call.optional("bias")
    if weight is not None:
        value = mul(value, weight if shape is None else reshaped(weight, shape))
    if bias is not None:
        value = add(value, bias if shape is None else reshaped(bias, shape))
    return value
