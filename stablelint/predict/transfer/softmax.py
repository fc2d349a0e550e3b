"""Softmax at its true concentration.

Within a row of n logits only the variance D = C[agree on s] - C[differ on s] matters (a shift of the row cancels),
between two rows the correlation rho of these deviations. Large logits put all weight on few entries, a random
energy model (Giorlandino & Goldt 2025, arXiv:2505.24333), for which no closed form at finite n exists: so

    P = E[sum_s p_s p'_s]      C_y = P / n where s agrees, (1 - P) / (n (n - 1)) where it differs
    T = E[tr J J'],            J = diag(p) - p p^T
    G_x = (G_y[agree] - G_y[differ]) T / n, and -1 / (n - 1) of it where s differs

with P, T, the mean peak and the mean entropy from a small Monte Carlo with a fixed seed, under the true mask.

With large logits T is an average over rare rows: nearly all are one-hot and pass nothing, a row whose two largest
logits are tied passes 1/8. A model has only so many rows, so T is what a sample of that many typically averages to
(the geometric mean over such samples), not the expectation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value
from stablelint.predict.gaussian import Function
from stablelint.predict.profile import aligned
from stablelint.predict.transfer.elementwise import apply

Mask = npt.NDArray[np.bool_]

_CELLS = 60_000
_ROWS = 512
#: The largest variance of a logarithm: beyond 3 decades each way a prediction says nothing.
_UNSURE = 50.0
_CACHE: dict[tuple[object, ...], Overlap] = {}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Expectations over two rows of attention weights p and q (the same row if rho is 1)."""

    product: float  # E[sum p q]
    trace: float  # E[tr J J']
    spread: float  # variance of the logarithm of the mean of tr J J' over the rows of the model
    peak: float  # E[max p]
    uniform_peak: float  # the same for uniform weights
    entropy: float  # E[entropy of p] over the log of the row length


def overlap(
    variance: float, correlation: float, size: int, allowed: Mask | None, *, same_row: bool, rows: float = math.inf
) -> Overlap:
    """Monte Carlo over rows of ``size`` Gaussian logits; rows of ``allowed`` are drawn evenly.

    ``rows`` is the number of independent rows that the model has.
    """
    mask_key = None if allowed is None else (allowed.shape, allowed.tobytes())
    together = 1 << round(math.log2(min(max(rows, 1.0), _ROWS)))
    key = (round(math.log(variance + 1e-30), 2), round(correlation, 3), size, mask_key, same_row, together)
    if key not in _CACHE:
        if len(_CACHE) > 4096:
            _CACHE.clear()
        _CACHE[key] = _sample(variance, correlation, size, allowed, same_row, together)
    return _CACHE[key]


def _sample(
    variance: float, correlation: float, size: int, allowed: Mask | None, same_row: bool, together: int
) -> Overlap:
    generator = np.random.default_rng(0)
    rows = int(np.clip(_CELLS // size, 24, _ROWS))
    first = generator.standard_normal((rows, size))
    second = generator.standard_normal((rows, size))
    second = correlation * first + math.sqrt(max(1 - correlation**2, 0.0)) * second
    logits = [math.sqrt(variance) * first, math.sqrt(variance) * second]
    lengths = np.full(rows, size)
    if allowed is not None:
        height = allowed.shape[0]
        chosen = np.arange(rows) % height if rows >= height else generator.integers(0, height, rows)
        other = chosen if same_row else generator.integers(0, height, rows)
        logits = [np.where(allowed[pick], logit, -1e30) for pick, logit in zip((chosen, other), logits, strict=True)]
        lengths = np.maximum(allowed[chosen].sum(1), 1)
    p, q = (_normalised(logit) for logit in logits)
    product = (p * q).sum(1)
    trace = _trace(p) if correlation == 1 and same_row else product - (p * q * (p + q)).sum(1) + product**2
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    spread = np.where(lengths > 1, entropy / np.log(np.maximum(lengths, 2)), 1.0)
    return Overlap(
        float(product.mean()), *_typical(trace, together), float(p.max(1).mean()), float((1 / lengths).mean()),
        float(spread.mean()),
    )  # fmt: skip


def _trace(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """tr J J^T of rows, without the cancellation that one-hot rows suffer: the largest weight stands apart."""
    rest = p.copy()
    rows = np.arange(len(p))
    top = p.argmax(1)
    rest[rows, top] = 0.0
    largest, squares, missing = p[rows, top], (rest**2).sum(1), rest.sum(1)
    own = (largest * missing) ** 2 + (rest**2 * (1 - rest) ** 2).sum(1)
    return np.asarray(own + 2 * largest**2 * squares + squares**2 - (rest**4).sum(1))


def _typical(values: npt.NDArray[np.float64], together: int) -> tuple[float, float]:
    """What the mean of ``together`` of the values is in the geometric mean, and the variance of its logarithm."""
    count = len(values) // together
    mean = float(values.mean())
    if count < 2:
        return mean, min((float(values.std()) / mean) ** 2 / together, _UNSURE) if mean > 0 else 0.0
    logs = np.log(np.maximum(values[: count * together].reshape(count, together).mean(1), 1e-60))
    return float(np.exp(logs.mean())), min(float(logs.var()), _UNSURE)


def _normalised(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def softmax_of(value: Value, axis: int) -> Value:
    """Softmax over one axis; the rows of a mask lie on the axis before the last."""
    axis %= max(value.rank, 1)
    size = value.shape[axis] if value.shape else 1
    if size == 1:
        return Value(value.shape, np.ones(value.table.shape), 1.0, ((value, np.zeros_like),), attention=(1.0, 1.0, 1.0))
    spread = np.maximum(np.take(value.table, 1, axis) - np.take(value.table, 0, axis), 0.0)
    variance = float(spread.flat[-1])
    allowed = value.allowed if axis == value.rank - 1 else None
    if allowed is not None and (allowed.shape[-1] != size or not allowed.any(1).any()):
        allowed = None
    if allowed is not None:
        allowed = allowed[allowed.any(1)]
    product, trace = np.zeros(spread.shape), np.zeros(spread.shape)
    rows = _independent_rows(spread, [length for place, length in enumerate(value.shape) if place != axis])
    for pattern in np.ndindex(*spread.shape):
        correlation = float(np.clip(spread[pattern] / variance, 0, 1)) if variance > 0 else 0.0
        same_row = allowed is None or bool(pattern[value.rank - 2])
        found = overlap(variance, correlation, size, allowed, same_row=same_row, rows=rows)
        product[pattern], trace[pattern] = found.product, found.trace

    def pull(g: Table) -> Table:
        agree = (np.take(g, 1, axis) - np.take(g, 0, axis)) * trace / size
        return np.stack([-agree / (size - 1), agree], axis)

    found = overlap(variance, 1.0, size, allowed, same_row=True)
    table = np.stack([(1 - product) / (size * (size - 1)), product / size], axis)
    return Value(
        value.shape, table, 1 / size, ((value, pull),),
        alignments=({place: along for place, along in aligned(value.shape, value.shape).items() if place != axis},),
        uncertain=overlap(variance, 1.0, size, allowed, same_row=True, rows=rows).spread,
        profile={}, attention=(found.peak, found.uniform_peak, found.entropy),
    )  # fmt: skip


def _independent_rows(spread: Table, lengths: list[int]) -> float:
    """How many different rows of logits there are: an axis along which they are alike counts less."""
    total = 1.0
    whole = float(spread.flat[-1])
    for axis, length in enumerate(lengths):
        alike = float(np.take(spread, 0, axis).flat[-1]) / whole if whole > 0 else 1.0
        total *= 1 + (length - 1) * (1 - min(alike, 1.0) ** 2)
    return total


def softmax(call: Call) -> Result:
    """softmax, softmin, gumbel_softmax over ``dim``."""
    value = call.value(0)
    axis = call.attr("dim", -1)
    if call.op.name == "softmin":
        value = apply(value, Function("neg", np.negative))
    return softmax_of(value, axis)


def log_softmax(call: Call) -> Result:
    """``x - logsumexp(x)``: the spread of the logits around minus their log partition function.

    The Jacobian is 1 - 1 p^T: what it takes away is G summed over the row times p.
    """
    value, axis = call.value(0), call.attr("dim", -1) % max(call.value(0).rank, 1)
    size = value.shape[axis]
    agree, differ = np.take(value.table, 1, axis), np.take(value.table, 0, axis)
    variance = max(float(agree.flat[-1] - differ.flat[-1]), 0.0)
    row = overlap(variance, 1.0, size, None, same_row=True)
    mean = -math.log(size) - min(variance / 2, math.sqrt(2 * variance * math.log(max(size, 2))))
    spread = np.maximum(agree - differ, 0.0)
    table = np.stack([np.full(agree.shape, mean * mean), spread + mean * mean], axis)

    def pull(g: Table) -> Table:
        same, other = np.take(g, 1, axis), np.take(g, 0, axis)
        total = size * same + size * (size - 1) * other
        # E[(g_i - p_i S)^2] with S = sum_j g_j: the cross term 2 E[g_i S] p_i = 2 total / size^2 on average
        kept = same - 2 * total / size**2 + row.product / size * total
        return np.stack([other - 2 * total / size**2 + (1 - row.product) / (size * (size - 1)) * total, kept], axis)

    return Value(value.shape, table, mean, ((value, pull),))
