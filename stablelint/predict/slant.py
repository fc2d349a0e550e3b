"""How large the gradient is where a tensor is large: the dependence of the cotangent on the value itself.

A layer of random weights forgets it: behind it the gradient at an element says nothing about the element. On a
residual stream it does not: an element that the next ReLU lets through was probably let through by the last one as
well, so more than the share of active units of the squared gradient passes each mask (0.54 instead of 0.50 in a
ResNet-50, which is a quarter of a decade over its 16 blocks).

A slant is E[g^2 | z] / E[g^2] at the nodes of the normal variable z behind the value
(:class:`stablelint.predict.gaussian.Law`). An elementwise function multiplies it by f'(z)^2; a sum hands it to each
operand averaged over the other one.

A joint is the table of E[(g x)(g x)'], which is G C for independent g and x. A norm subtracts the part of the gradient
along its result, <g, y>: behind a ReLU that part does not average out, since 1(y > 0) y has a mean. It does vanish in
front of a norm, whose result does not change with the size of its argument, and so in front of a depthwise convolution
(which keeps sum g x over a channel) before a norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stablelint.predict.domain import Joint, Slant, Table, Tilt, Value, pair_mean
from stablelint.predict.gaussian import NODES, WEIGHTS, Array, Function, kernel
from stablelint.predict.marginal import BELOW, COARSE, COARSE_WEIGHTS, coarse_points, law


@dataclass(frozen=True, slots=True)
class Edge:
    """From y = f(x) to x, both functions of the tensor ``base``: ``slope`` is f'(x), ``argument`` x, ``result`` y."""

    base: Value
    slope: Function
    argument: Function
    result: Function


def through_function(edge: Edge) -> Tilt:
    """That of the argument of an elementwise function."""

    def tilt(slant: Slant | None) -> tuple[float, Slant | None]:
        slopes = np.nan_to_num(_over_nodes(edge.slope, law(edge.base).points()), posinf=0, neginf=0)
        squares = np.minimum(slopes * slopes, 1e140)
        plain = float(WEIGHTS @ squares)
        if not plain > 0:
            return 1.0, None
        if slant is None and float(np.ptp(squares)) <= 1e-6 * plain:
            return 1.0, None
        found = squares if slant is None else squares * slant
        power = float(WEIGHTS @ found)
        return power / plain, found / power if power > 0 else None

    return tilt


def _over_nodes(function: Function, points: Array) -> Array:
    return np.broadcast_to(np.asarray(function.of(points), dtype=np.float64), NODES.shape)


def through_pair(left: Value, right: Value, total: Value, of: Callable[[Array, Array], Array]) -> tuple[Tilt, Tilt]:
    """Those of the operands of ``total = of(left, right)``, a sum or product of independent tensors."""

    def tilts(slant: Slant | None, axis: int) -> tuple[float, Slant | None]:
        if slant is None:
            return 1.0, None
        results = of(coarse_points(left)[:, None], coarse_points(right)[None])
        latent = np.interp(results, law(total).points(), NODES)
        dependence = np.interp(latent, NODES, slant)
        own: Array = dependence @ COARSE_WEIGHTS if axis == 0 else COARSE_WEIGHTS @ dependence
        size = float(COARSE_WEIGHTS @ own)
        return 1.0, np.interp(NODES, COARSE, own) / size if size > 0 else None

    return lambda slant: tilts(slant, 0), lambda slant: tilts(slant, 1)


def of_winners(places: float) -> Slant:
    """That of the argument of a maximum over ``places`` independent elements: the largest of them is at z with the
    probability Phi(z) ** (places - 1), ``places`` times what it is on average."""
    return np.asarray(places * BELOW ** (places - 1))


def joint_through_function(edge: Edge) -> Joint:
    """E[(f'(x) x)(f'(x') x')] G.

    Of f'(x) x the part a f(x), all of it for a ReLU, is a times what is known of g f(x); the rest is independent.
    """
    slope, argument, value = edge.slope, edge.argument, edge.result

    def joint(g: Table, own: Table | None, _back: Table) -> Table:
        distribution = law(edge.base)
        share = 0.0
        if own is not None:
            x = distribution.points()
            y = np.nan_to_num(_over_nodes(value, x))
            power = float(WEIGHTS @ (y * y))
            moment = np.nan_to_num(_over_nodes(slope, x) * _over_nodes(argument, x) * y)
            share = float(WEIGHTS @ moment) / power if power > 0 else 0.0
        rest = Function(
            ("moment", value.key, argument.key, round(share, 9)),
            lambda x: slope.of(x) * argument.of(x) - share * value.of(x),
            value.length,
        )
        found = np.asarray(g * kernel(rest, distribution)(distribution.latent(edge.base.table)))
        return found if own is None else found + share * share * own

    return joint


def same_joint(_g: Table, own: Table | None, _back: Table) -> Table | None:
    """Through a factor or an operation that moves elements: g x does not change."""
    return own


def summing_to(independent: Table, axes: Sequence[int], shape: Sequence[int], mean: Table | float) -> Table:
    """What it is for independent g and x, but with a known mean over ``axes``."""
    return np.asarray(independent - pair_mean(independent, axes, shape) + mean)


def combined(power: float, slant: Slant | None, more: float, other: Slant | None) -> Slant | None:
    """That of a sum of two cotangents with their second moments."""
    if (slant is None and other is None) or power + more <= 0:
        return None
    one = np.ones_like(NODES)
    first, second = one if slant is None else slant, one if other is None else other
    return np.asarray((power * first + more * second) / (power + more))
