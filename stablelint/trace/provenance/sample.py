"""A distribution as 4096 numbers: what is known of the values of a tensor that was never allocated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

SIZE = 4096
_SORTED = 1 << 20  # elements of an allocated tensor that are looked at
_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Sample:
    """Equally likely values of the elements of a tensor; a single one when all elements are equal.

    Samples of one ``order`` belong together element by element (a mask and what it was computed from); others are
    independent. ``iid`` says that all elements are alike, whatever their place. Memory that nobody wrote is not
    ``filled``; values that are not known are NaN.
    """

    values: torch.Tensor
    order: int = 0
    iid: bool = True
    filled: bool = True

    @property
    def constant(self) -> bool:
        """Whether all elements are equal."""
        return self.values.numel() == 1

    @property
    def known(self) -> bool:
        """Whether anything is known of the values."""
        return not (self.constant and self.values.is_floating_point() and bool(self.values.isnan()))

    def arranged(self) -> torch.Tensor:
        """The values in the places where they meet those of other samples."""
        return self.values if self.constant or self.order == 0 else self.values[_places(self.order)]

    def moments(self) -> tuple[float, float]:
        """Mean and mean square."""
        values = self.values.abs() if self.values.is_complex() else self.values
        values = values.double()
        return float(values.mean()), float(values.square().mean())

    def fresh(self) -> Sample:
        """The same distribution, drawn again."""
        return self if self.constant else Sample(self.values, next(_numbers), self.iid, self.filled)

    def structured(self) -> Sample:
        """The same values, arranged in a pattern."""
        return self if self.constant else Sample(self.values, self.order, False, self.filled)


def constant(value: float | bool | complex) -> Sample:
    """All elements are ``value``."""
    return Sample(_single(value, type(value).__name__))


@lru_cache(maxsize=1024)
def _single(value: float | bool | complex, kind: str) -> torch.Tensor:  # noqa: ARG001 (True and 1.0 are equal keys)
    return torch.tensor([value])


UNKNOWN = constant(math.nan)
UNFILLED = Sample(torch.tensor([math.nan]), filled=False)


def drawn(distribution: str, *arguments: float) -> Sample:
    """Independent draws; the values are quantiles, so that moments are exact and equal fills share memory."""
    values = quantiles(distribution, *arguments)
    return Sample(values, 0 if values.numel() == 1 else next(_numbers))


@lru_cache(maxsize=512)
def quantiles(distribution: str, *arguments: float) -> torch.Tensor:
    """4096 evenly spaced quantiles of one of torch's random fills, by the name of the fill."""
    grid = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    if distribution == "uniform":
        low, high = arguments
        values = low + (high - low) * grid
    elif distribution in ("normal", "log_normal"):
        mean, std = arguments
        normal = math.sqrt(2) * torch.erfinv(2 * grid - 1)
        values = mean + std * normal / normal.square().mean().sqrt()
        values = values.exp() if distribution == "log_normal" else values
    elif distribution == "exponential":
        values = -torch.log1p(-grid) / arguments[0]
    elif distribution == "cauchy":
        values = arguments[0] + arguments[1] * torch.tan(math.pi * (grid - 0.5))
    elif distribution == "geometric":
        values = torch.ceil(torch.log1p(-grid) / math.log1p(-arguments[0]))
    elif distribution == "bernoulli":
        values = (grid < arguments[0]).double()
    elif distribution == "integers":
        low, high = arguments
        values = torch.floor(low + (high - low) * grid)
    else:
        raise ValueError(f"no such distribution: {distribution}")
    return values.float() if bool((values != values[0]).any()) else values[:1].float()


def combine(function: Callable[..., Any], samples: Sequence[Sample]) -> Sample:
    """Apply an elementwise function; ``function`` gets one tensor for each sample."""
    orders = {sample.order for sample in samples if not sample.constant}
    if len(orders) <= 1:
        order = next(iter(orders), 0)
        found = function(*(sample.values for sample in samples))
    else:
        order = 0
        found = function(*(sample.arranged() for sample in samples))
    iid = all(sample.iid for sample in samples)
    filled = all(sample.filled for sample in samples)
    values = found.detach().reshape(-1)
    return Sample(values, order, iid, filled) if filled else UNFILLED


def mixture(parts: Sequence[tuple[Sample, float]]) -> Sample:
    """One sample for elements of which a share (the weights) follows each of several distributions."""
    parts = [(sample, weight) for sample, weight in parts if weight > 0]
    if not parts:
        return UNKNOWN
    if len(parts) == 1:
        return parts[0][0]
    if not all(sample.filled for sample, _ in parts):
        return UNFILLED
    if not all(sample.known for sample, _ in parts):
        return UNKNOWN
    total = sum(weight for _, weight in parts)
    taken, values = 0.0, []
    for sample, weight in parts:
        count = round(SIZE * (taken + weight) / total) - round(SIZE * taken / total)
        taken += weight
        values.append(spread(sample.values, count))
    dtype = values[0].dtype
    for each in values:
        dtype = torch.promote_types(dtype, each.dtype)
    iid = all(sample.iid for sample, _ in parts)
    return Sample(torch.cat([each.to(dtype) for each in values]), next(_numbers), iid)


def spread(values: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` of the values, evenly spaced in their order by size."""
    if values.numel() == 1:
        return values.expand(count)
    if not values.is_complex():
        values = values.sort().values
    places = (torch.arange(count, dtype=torch.float64) + 0.5) * (values.numel() / max(count, 1))
    return values[places.long().clamp_max(values.numel() - 1)]


def of_tensor(tensor: torch.Tensor, *, iid: bool = False) -> Sample:
    """What an allocated tensor holds; ``iid`` when it holds independent draws."""
    values = tensor.detach().reshape(-1)
    if values.numel() == 0:
        return UNKNOWN
    if values.is_complex():
        equal = bool((values == values[0]).all())
    else:
        low, high = values.aminmax()  # makes no copy
        equal = bool(low == high)
    if equal:
        return Sample(values[:1].clone())
    if values.numel() > _SORTED:  # not every n-th: that would meet the period of a pattern
        values = values[torch.randint(values.numel(), (_SORTED,), generator=_generator(values.numel()))]
    return Sample(spread(values, SIZE).clone(), next(_numbers), iid)


def draw(sample: Sample, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor with values of the distribution; not from torch's global generator."""
    count = math.prod(shape)
    if sample.constant:
        return sample.values.to(dtype).expand(count).clone().reshape(tuple(shape))
    values = sample.values if count > SIZE else spread(sample.values, count)
    places = torch.randperm(values.numel(), generator=_generator(sample.order + 7))
    values = values[places]
    if count > SIZE:
        values = values.repeat(-(-count // SIZE))[:count]
        values = values[torch.randperm(count, generator=_generator(sample.order + 11))]
    return values.to(dtype).reshape(tuple(shape))


@lru_cache(maxsize=64)
def _places(order: int) -> torch.Tensor:
    return torch.randperm(SIZE, generator=_generator(order))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
