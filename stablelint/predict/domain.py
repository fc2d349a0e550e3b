"""The abstract value of the prediction: the agreement covariance of a tensor, and how sums over axes act on it.

A tensor x with d axes is described by its mean m = E[x] and a table of 2**d numbers

    C[a_1, ..., a_d] = E[x_i x_j],   a_k = 1 if the indices i and j agree on axis k, 0 if they differ,

as if the indices along every axis were exchangeable. ``C[1, ..., 1]`` is the second moment; ``C[0, 1]`` of a
(batch, feature) tensor is the covariance of one feature between two samples, which batch normalisation needs;
``C[1, 0, 1]`` of a (batch, token, feature) tensor is the similarity of tokens, which attention needs. The gradient
that comes back to the tensor (its cotangent) is described by a table of the same kind. Mean-field theory keeps the
two numbers of a fully connected net (Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017,
arXiv:1611.01232: q and c); a table per axis is what carries them through reshapes, attention and convolutions.

An axis of length 1 has equal entries for "agree" and "differ", so that tables broadcast exactly as tensors do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stablelint.predict import lags as neighbours
from stablelint.predict.lags import Lags
from stablelint.predict.profile import EVEN, Alignment, Profile, aligned, carried_forward, mixed

if TYPE_CHECKING:
    from stablelint.graph.op import Parameter
    from stablelint.predict.gaussian import Function
    from stablelint.predict.marginal import Marginal

Table = npt.NDArray[np.float64]
#: The cotangent table of an operand from that of the result.
Pull = Callable[[Table], Table]
#: E[(g x)(g x)'] of an operand from the cotangent of the result, its own E[(g y)(g y)'] (None if g and y are
#: independent) and the cotangent of the operand; None for "independent".
Joint = Callable[[Table, Table | None, Table], Table | None]
#: How the squared cotangent depends on the value itself: from that of the result (None for "not at all") a factor on
#: the operand's squared cotangent and its own dependence. See :mod:`stablelint.predict.slant`.
Slant = npt.NDArray[np.float64]
Tilt = Callable[[Slant | None], tuple[float, Slant | None]]

#: Second moments are kept below this, so that a product of two is still finite.
LIMIT = 1e140
_ORDER = count()


@dataclass(eq=False, slots=True)
class Value:
    """What is known of one tensor, and of the gradient that comes back to it.

    ``parents`` are the operands that the cotangent is passed on to. Elementwise expressions of one tensor ``base`` are
    kept as ``function(base)`` and send their cotangent straight to the base; ``witnesses`` are the tensors between,
    which only take note of the gradient that passes through them (``observed``).

    - ``profile`` and ``focus``: profiles of values and cotangent along axes (:mod:`stablelint.predict.profile`);
      ``alignments`` say for each parent which axes correspond (by default those of equal size).
    - ``steady``: the axes over which the mean square is the same in every group, as behind a norm, with the share of
      the variance of that mean square which is missing for it (1 for the result of a norm).
    - ``lags``: how much more alike neighbours along an axis are (:mod:`stablelint.predict.lags`).
    - ``marginal``: the shape of the distribution of an element where it is not normal.
    - ``slant`` and ``joint``: how the cotangent depends on the value (:mod:`stablelint.predict.slant`); ``tilts`` and
      ``joints`` say for each parent how that carries over, by default not at all.
    - ``spread``, ``unsure`` and ``alike``: how sure the cotangent is (:mod:`stablelint.predict.spread`). ``mixed``
      names for each parent the axes along which random weights make up its cotangent, ``mask`` the axis that an
      activation masks, the correlation of the masks of two samples and E[f'^2 f'^2'] / E[f'^2]^2 - 1; ``uncertain`` is
      what else the op adds to the variance of ln g^2.
    - ``allowed`` marks the columns that a mask leaves open in each row of attention scores; ``attention`` holds the
      mean peak, uniform peak and entropy of softmax rows.
    - ``reduced`` says that the value is the sum of another value over axes times a factor; ``exponent`` that it is exp
      of another; ``segments`` are the parts that were joined along an axis; ``steps`` the inputs of a recurrent layer
      by time; ``parameter`` the parameter that the tensor is, with statistics that no table holds; ``unmerged`` the
      same tensor before leading axes were merged: batch and tokens in one axis forget which token is whose.
    """

    shape: tuple[int, ...]
    table: Table
    mean: float
    parents: tuple[tuple[Value, Pull], ...] = ()
    base: Value | None = None
    function: Function | None = None
    witnesses: tuple[tuple[Value, Pull], ...] = ()
    allowed: npt.NDArray[np.bool_] | None = None
    reduced: tuple[Value, tuple[int, ...], float] | None = None
    exponent: Value | None = None
    attention: tuple[float, float, float] | None = None
    alignments: tuple[Alignment, ...] = ()
    profile: Profile | None = None
    steady: tuple[tuple[int, ...], float] | None = None
    lags: Lags | None = None
    segments: tuple[int, tuple[Value, ...]] | None = None
    steps: tuple[Value, ...] = ()
    unmerged: Value | None = None
    marginal: Marginal | None = None
    tilts: tuple[Tilt | None, ...] = ()
    joints: tuple[Joint | None, ...] = ()
    mixed: tuple[tuple[int, ...], ...] = ()
    uncertain: float = 0.0
    mask: Callable[[], tuple[int, float, Table]] | None = None
    parameter: Parameter | None = None
    cotangent: Table | None = None
    spread: float = 0.0
    unsure: float = 0.0
    alike: float = 0.0
    slant: Slant | None = None
    joint: Table | None = None
    focus: Profile = field(default_factory=dict)
    observed: Table | None = None
    order: int = field(default_factory=lambda: next(_ORDER))

    def __post_init__(self) -> None:
        self.shape = tuple(int(size) for size in self.shape)
        self.table = settle(self.table, self.shape)
        if self.profile is None:
            self.profile = self._inherited()
        if self.lags is None:
            self.lags = self._neighbours() if any(parent.lags for parent, _ in self.parents) else {}
        bound = math.sqrt(self.power)
        self.mean = min(max(float(self.mean), -bound), bound) if math.isfinite(self.mean) else 0.0

    def _inherited(self) -> Profile:
        if not any(parent.profile for parent, _ in self.parents):
            return EVEN
        parts = [
            (parent.power, carried_forward(parent.profile or EVEN, self.alignment(place)))
            for place, (parent, _) in enumerate(self.parents)
            if parent.profile
        ]
        return mixed(parts, self.shape)

    def _neighbours(self) -> Lags:
        parts: dict[int, list[tuple[float, npt.NDArray[np.float64] | None]]] = {}
        for place, (parent, _) in enumerate(self.parents):
            for axis, own in neighbours.carried(self.alignment(place)).items():
                excess = parent.power - float(np.take(parent.table, 0, own).flat[-1])
                parts.setdefault(axis, []).append((excess, (parent.lags or {}).get(own)))
        found = {axis: neighbours.mixed(of_axis) for axis, of_axis in parts.items()}
        return {axis: lags for axis, lags in found.items() if lags is not None}

    def alignment(self, place: int) -> Alignment:
        """Which axes of the parent at ``place`` correspond to which of this value."""
        if place < len(self.alignments):
            return self.alignments[place]
        return aligned(self.shape, self.parents[place][0].shape)

    @property
    def power(self) -> float:
        """The second moment E[x^2]."""
        return float(self.table.flat[-1])

    @property
    def variance(self) -> float:
        """E[x^2] - E[x]^2."""
        return max(self.power - self.mean * self.mean, 0.0)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def constant(self) -> bool:
        """Whether all elements are (almost) the same number."""
        return self.power > 0 and abs(self.mean * self.mean / self.power - 1) < 1e-3

    def gradient(self) -> Table | None:
        """The cotangent that passes through this tensor, also when composition routed it around."""
        if self.cotangent is None or self.observed is None:
            return self.cotangent if self.observed is None else self.observed
        return self.cotangent + self.observed


def settle(table: Table, shape: Sequence[int]) -> Table:
    """A valid table: finite, no entry beyond the second moment (Cauchy-Schwarz), equal entries on axes of length 1."""
    # called more often than anything else: no pass over the table that is not needed
    wanted = (2,) * len(shape)
    table = np.array(table if table.shape == wanted else np.broadcast_to(table, wanted), dtype=np.float64)
    flat = table.reshape(-1)
    if math.isnan(flat @ flat):
        np.nan_to_num(table, copy=False, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
    if 1 in shape:
        for axis, size in enumerate(shape):
            if size == 1:
                table[(slice(None),) * axis + (0,)] = table[(slice(None),) * axis + (1,)]
    power = min(max(float(flat[-1]), 0.0), LIMIT)
    np.minimum(table, power, out=table)
    np.maximum(table, -power, out=table)
    flat[-1] = power
    return table


def iid(shape: Sequence[int], mean: float, variance: float) -> Value:
    """Independent elements of one distribution."""
    table = np.full((2,) * len(shape), mean * mean)
    table.flat[-1] = mean * mean + variance
    return Value(tuple(shape), table, mean)


def empirical(values: npt.ArrayLike) -> Value:
    """The table of a tensor whose values are known: averages over all pairs of elements."""
    array = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    rank = array.ndim
    table = np.zeros((2,) * rank)
    for pattern in np.ndindex(*table.shape):
        # pairs that agree at least on the axes of the pattern: square of the sum over the others
        differ = tuple(axis for axis in range(rank) if not pattern[axis])
        table[pattern] = float((array.sum(axis=differ) ** 2).sum()) if array.size else 0.0
    for axis, size in enumerate(array.shape):
        moved = np.moveaxis(table, axis, 0)
        moved[0] = (moved[0] - moved[1]) / (size * (size - 1)) if size > 1 else moved[1]
        moved[1] = moved[1] / max(size, 1)
    return Value(array.shape, table, float(array.mean()) if array.size else 0.0)


def pair_sum(table: Table, axis: int, size: float) -> Table:
    """The table after summing the tensor over ``axis``: size pairs agree, size * (size - 1) differ."""
    front: tuple[slice | int, ...] = (slice(None),) * axis
    differ, agree = table[(*front, 0)], table[(*front, 1)]
    return size * agree + (size * max(size - 1, 0)) * differ


def pair_mean(table: Table, axes: Sequence[int], shape: Sequence[int]) -> Table:
    """The table of the mean over ``axes``, kept as axes of length 1."""
    for axis in axes:
        size = max(shape[axis], 1)
        table = repeated(pair_sum(table, axis, size) / (size * size), axis)
    return table


def repeated(table: Table, axis: int) -> Table:
    """Insert an axis of length 1."""
    axis %= table.ndim + 1
    # twice as fast as expand_dims and repeat, and called more often than anything else
    once = table.reshape((*table.shape[:axis], 1, *table.shape[axis:]))
    return np.concatenate((once, once), axis)


def lead(table: Table, rank: int) -> Table:
    """The table with axes of length 1 in front, as broadcasting adds them."""
    return np.broadcast_to(table, (2,) * rank)


def unbroadcast(table: Table, shape: Sequence[int], target: Sequence[int]) -> Table:
    """The cotangent of a tensor of shape ``target`` that was broadcast to ``shape``: sums over the new extents."""
    extra = len(shape) - len(target)
    for size in shape[:extra]:
        table = pair_sum(table, 0, size)
    for axis, (size, own) in enumerate(zip(shape[extra:], target, strict=True)):
        if own == 1 and size > 1:
            table = repeated(pair_sum(table, axis, size), axis)
    return table


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape of tensors that are combined elementwise."""
    return tuple(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))


def same(table: Table) -> Table:
    """The cotangent of an operation that moves nothing."""
    return table


def kept(slant: Slant | None) -> tuple[float, Slant | None]:
    """The dependence of the cotangent on the value, through an operation that moves or scales elements."""
    return 1.0, slant


def copied(value: Value) -> Value:
    """A new value with the same contents, for operations that change nothing."""
    from stablelint.predict.marginal import alike

    return Value(
        value.shape, value.table, value.mean, ((value, same),), allowed=value.allowed, reduced=value.reduced,
        exponent=value.exponent, marginal=alike(value), tilts=(kept,), steady=value.steady,
    )  # fmt: skip
