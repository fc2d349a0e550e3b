"""Sums, extremes and products of many independent elements, as distributions of their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from stablelint.trace.provenance.sample import SIZE, UNKNOWN, Sample, constant, drawn
from stablelint.trace.signatures import words

REDUCTIONS = words("sum mean norm linalg_vector_norm var std amax amin max min any all prod norm_except_dim")
PRODUCTS = words("mm mv bmm dot addmm addmv matmul baddbmm")


def reduction(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], sample: Sample, count: int) -> Sample:
    """The result of reducing ``count`` elements of ``sample`` to one."""
    if not sample.known or count < 1 or sample.values.is_complex():
        return UNKNOWN
    values = sample.values.double()
    if name in ("any", "all"):
        return constant(bool(sample.values.bool().any() if name == "any" else sample.values.bool().all()))
    if name in ("sum", "mean"):
        return _sum(values, count, 1.0 / count if name == "mean" else 1.0)
    if name in ("norm", "linalg_vector_norm"):
        power = kwargs.get("p", kwargs.get("ord", args[1] if len(args) > 1 and args[1] is not None else 2))
        if power == math.inf:
            return _extreme(values.abs(), count, largest=True)
        total = _sum(values.abs() ** float(power), count, 1.0)
        return Sample(total.values.clamp_min(0.0) ** (1.0 / float(power)), total.order)
    if name in ("var", "std"):
        centred = values - values.mean()
        total = _sum(centred.square(), count, 1.0 / count)
        found = total.values.clamp_min(0.0)
        return Sample(found.sqrt() if name == "std" else found, total.order)
    if name in ("amax", "amin", "max", "min"):
        return _extreme(values, count, largest=name.endswith("max"))
    return UNKNOWN


def product(name: str, args: Sequence[Any], sample_of: Callable[[torch.Tensor], Sample]) -> Sample:
    """An entry of a matrix product of independent factors."""
    base = None
    if name in ("addmm", "addmv", "baddbmm"):
        base, args = args[0], args[1:]
    first, second = sample_of(args[0]), sample_of(args[1])
    if not (first.known and second.known):
        return UNKNOWN
    count = args[0].shape[-1]
    (mean, square), (other_mean, other_square) = first.moments(), second.moments()
    centre = count * mean * other_mean
    variance = count * max(square * other_square - (mean * other_mean) ** 2, 0.0)
    if base is not None:
        own_mean, own_square = sample_of(base).moments()
        centre += own_mean
        variance += max(own_square - own_mean**2, 0.0)
    return drawn("normal", centre, math.sqrt(variance)) if math.isfinite(centre + variance) else UNKNOWN


def _sum(values: torch.Tensor, count: int, scale: float) -> Sample:
    mean = float(values.mean()) * count
    variance = float(values.var(correction=0)) * count if values.numel() > 1 else 0.0
    if variance == 0.0:
        return constant(mean * scale)
    return drawn("normal", mean * scale, math.sqrt(variance) * scale)


def _extreme(values: torch.Tensor, count: int, *, largest: bool) -> Sample:
    """Quantiles of the largest of ``count`` draws: those of one draw at u ** (1 / count)."""
    if values.numel() == 1:
        return Sample(values)
    grid = ((torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE) ** (1.0 / count)
    places = (grid * values.numel()).long().clamp_max(values.numel() - 1)
    ordered = values.sort(descending=not largest).values
    found = ordered[places]
    return Sample(found[:1] if bool((found == found[0]).all()) else found, drawn("uniform", 0.0, 1.0).order)
