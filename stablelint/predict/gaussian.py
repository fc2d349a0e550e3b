"""Elementwise functions of Gaussian tensors: E[f(u) f(u')] for every correlation of u and u' at once.

For u, u' normal with mean m, variance v and correlation rho, and the Hermite coefficients
a_n = E[f(m + sqrt(v) z) He_n(z)] (normalised polynomials), Mehler's formula gives the dual activation

    E[f(u) f(u')] = sum_n a_n^2 rho^n           (Daniely et al. 2016, arXiv:1602.05897)

The same sum with f' in place of f is what the cotangent is multiplied by: for f = phi and rho = 1 it is the
chi = sigma_w^2 E[phi'(u)^2] of Schoenholz et al. 2017 (arXiv:1611.01232), for other rho its two-sample version.

Not every tensor is normal: a residual stream that is rectified after each addition is skewed. Such a variable is
x = m + sqrt(v) q(z) with z normal and q its standardised quantile function (:mod:`stablelint.predict.marginal`); f(x)
is then the function f(m + sqrt(v) q) of z, and rho is translated into the correlation of z that gives x its own (the
"normal to anything" construction: Nataf 1962; Cario & Nelson 1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stablelint.predict.domain import Table

Array = npt.NDArray[np.float64]

_ORDER = 48
NODES: Array = np.linspace(-8.0, 8.0, 801)
WEIGHTS: Array = np.exp(-(NODES**2) / 2)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
_LONGEST = 24


def _hermite() -> Array:
    """Normalised Hermite polynomials at the nodes times the weights, one row per degree."""
    rows = [np.ones_like(NODES), NODES]
    for n in range(1, _ORDER):
        rows.append((NODES * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return np.stack(rows) * WEIGHTS


_PROJECTION = _hermite()
_DEGREES = np.arange(_ORDER + 2)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of one variable; equal keys mean equal functions, so that kernels can be cached."""

    key: Hashable
    of: Callable[[Array], Array] = field(compare=False)
    length: int = field(default=1, compare=False)

    def derivative(self, points: Array) -> Array:
        """Central difference; exact enough for everything that is smooth between kinks."""
        step = _step(points)
        return np.asarray((self.of(points + step) - self.of(points - step)) / (2 * step))

    def slope_at_kinks(self, points: Array) -> Array:
        """The smaller of the slopes on either side, which torch takes for rectifiers at zero."""
        step = _step(points)
        middle = self.of(points)
        before, after = middle - self.of(points - step), self.of(points + step) - middle
        return np.asarray(np.where(np.abs(before) < np.abs(after), before, after) / step)


def _step(points: Array) -> float:
    return 1e-5 * float(np.ptp(points)) + 1e-7 * abs(float(np.mean(points))) + 1e-30


IDENTITY = Function("identity", lambda x: x)


def compose(outer: Function, inner: Function) -> Function | None:
    """``outer(inner(x))``; None when the expression has become too long to be worth keeping."""
    if inner.length + outer.length > _LONGEST:
        return None
    if inner is IDENTITY:
        return outer
    return Function((outer.key, inner.key), lambda x: outer.of(inner.of(x)), outer.length + inner.length)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The power series of E[f(u) f(u')] in the correlation, the mean E[f(u)] and the second moment E[f(u)^2]."""

    series: Array
    mean: float
    power: float

    def __call__(self, correlation: Table) -> Table:
        """E[f(u) f(u')] for a table of correlations."""
        table = (correlation.reshape(-1, 1) ** _DEGREES) @ self.series
        table = np.asarray(table.reshape(correlation.shape))
        table.flat[-1] = self.power
        return table


@dataclass(frozen=True, slots=True)
class Law:
    """The distribution of one element: mean, variance and, where it is not normal, its standardised quantile function
    at the nodes (:class:`stablelint.predict.marginal.Marginal`)."""

    mean: float
    variance: float
    quantiles: Array | None = field(default=None, compare=False)
    key: int = 0

    def points(self) -> Array:
        """The values that the variable takes at the nodes."""
        shape = NODES if self.quantiles is None else self.quantiles
        return self.mean + math.sqrt(self.variance) * shape

    def at(self, latent: Array) -> Array:
        """The values for given normal variables."""
        shape = latent if self.quantiles is None else np.interp(latent, NODES, self.quantiles)
        return self.mean + math.sqrt(self.variance) * shape

    def latent(self, table: Table) -> Table:
        """The correlations of the normal variables behind a table of second moments."""
        found = correlations(table, self.mean, self.variance)
        if self.quantiles is None:
            return found
        return np.asarray(np.interp(found, _response(self), _CORRELATIONS))


_CORRELATIONS = np.linspace(-1.0, 1.0, 129)


@lru_cache(maxsize=1024)
def _response(law: Law) -> Array:
    """The correlation of x for each correlation of z."""
    found = kernel(IDENTITY, Law(0.0, 1.0, law.quantiles, law.key))
    return np.maximum.accumulate((_CORRELATIONS[:, None] ** _DEGREES) @ found.series / max(found.power, 1e-300))


def kernel(function: Function, law: Law, *, derivative: bool = False) -> Kernel:
    """The kernel of ``function`` (or of its derivative) for a variable with the given law."""
    rounded = Law(float(f"{law.mean:.9e}"), float(f"{law.variance:.9e}"), law.quantiles, law.key)
    return _kernel(function, rounded, derivative)


@lru_cache(maxsize=4096)
def _kernel(function: Function, law: Law, derivative: bool) -> Kernel:
    points = law.points()
    values = function.derivative(points) if derivative else function.of(points)
    values = np.clip(np.nan_to_num(np.broadcast_to(values, NODES.shape)), -1e70, 1e70)
    coefficients = _PROJECTION @ values
    power = float(WEIGHTS @ (values * values))
    squares = coefficients * coefficients
    rest = max(power - float(squares.sum()), 0.0)  # what higher degrees hold; it dies with rho first
    return Kernel(np.append(squares, rest), float(coefficients[0]), power)


def correlations(table: Table, mean: float, variance: float) -> Table:
    """The correlation coefficients behind a table of second moments."""
    if variance <= 0:
        return np.ones_like(table)
    return np.clip((table - mean * mean) / variance, -1.0, 1.0)


def degenerate(mean: float, variance: float) -> bool:
    """Whether a variable is a constant as far as floating point can tell."""
    return variance <= 1e-14 * mean * mean or variance <= 1e-290
