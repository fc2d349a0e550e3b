"""What the memory of a tensor on meta would hold: samples by region."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stablelint.trace.bindings import overlap
from stablelint.trace.provenance.sample import UNFILLED, Sample, mixture

_MOST_REGIONS = 512


class Region:
    """A strided box of elements of a storage; answers what :func:`overlap` asks of a tensor."""

    __slots__ = ("dense", "numel", "offset", "shape", "steps")

    def __init__(self, shape: tuple[int, ...], steps: tuple[int, ...], offset: int) -> None:
        kept = [(size, step) for size, step in zip(shape, steps, strict=True) if size != 1 and step != 0]
        self.shape = tuple(size for size, _ in kept)
        self.steps = tuple(step for _, step in kept)
        self.offset = offset
        self.numel = math.prod(self.shape)
        self.dense = self.numel == 1 + sum((size - 1) * step for size, step in kept)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Region:
        """The elements of ``tensor``."""
        return cls(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    def stride(self) -> tuple[int, ...]:
        """Elements between neighbours, per axis."""
        return self.steps

    def storage_offset(self) -> int:
        """The first element."""
        return self.offset

    def common(self, other: Region) -> int:
        """How many elements both have, at most; exact for intervals and disjoint or equal boxes."""
        if self.dense and other.dense:
            end = min(self.offset + self.numel, other.offset + other.numel)
            return max(0, end - max(self.offset, other.offset))
        first: Any = self
        second: Any = other
        return min(self.numel, other.numel) if overlap(first, second) else 0

    def same(self, other: Region) -> bool:
        """Whether both are the same elements."""
        if self.dense and other.dense:
            return (self.offset, self.numel) == (other.offset, other.numel)
        return (self.offset, sorted(zip(self.steps, self.shape, strict=True))) == (
            other.offset,
            sorted(zip(other.steps, other.shape, strict=True)),
        )


@dataclass(slots=True)
class Patch:
    """One write: ``left`` of the region's elements still hold it."""

    region: Region
    sample: Sample
    left: int


class Contents:
    """The patches of one storage, oldest first."""

    __slots__ = ("patches", "size")

    def __init__(self, size: int, sample: Sample = UNFILLED) -> None:
        self.size = size
        self.patches = [Patch(Region((size,), (1,), 0), sample, size)]

    def write(self, region: Region, sample: Sample) -> None:
        """All elements of ``region`` get new values."""
        if region.numel == 0:
            return
        if region.numel >= self.size:
            self.patches = [Patch(region, sample, self.size)]
            return
        remaining = region.numel
        for patch in reversed(self.patches):
            if remaining <= 0:
                break
            taken = min(patch.left, remaining, patch.region.common(region))
            patch.left -= taken
            remaining -= taken
        self.patches = [patch for patch in self.patches if patch.left > 0]
        last = self.patches[-1] if self.patches else None
        if last is not None and _continues(last, region, sample):
            joined = Region((last.region.numel + region.numel,), (1,), last.region.offset)
            self.patches[-1] = Patch(joined, last.sample, joined.numel)
        else:
            self.patches.append(Patch(region, sample, region.numel))
        if len(self.patches) > _MOST_REGIONS:
            self._merge()

    def _merge(self) -> None:
        """One patch for all that is filled; what is not stays above it, for further writes go there first."""
        filled = [patch for patch in self.patches if patch.sample.filled]
        mixed = mixture([(patch.sample, patch.left) for patch in filled])
        whole = Patch(Region((self.size,), (1,), 0), mixed, sum(patch.left for patch in filled))
        self.patches = [whole, *(patch for patch in self.patches if not patch.sample.filled)]

    def parts(self, region: Region) -> list[tuple[Sample, float]]:
        """The distributions inside ``region``, with the number of elements of each."""
        if region.numel >= self.size:
            return [(patch.sample, patch.left) for patch in self.patches]
        for patch in reversed(self.patches):
            common = patch.region.common(region)
            if common and (patch.region.same(region) or common == region.numel == patch.region.numel):
                return [(patch.sample, 1.0)]
            if common == region.numel and patch.region.dense and patch.left == patch.region.numel:
                return [(patch.sample, 1.0)]
            if common:
                break
        return [
            (patch.sample, patch.region.common(region) * patch.left / patch.region.numel)
            for patch in self.patches
            if patch.region.common(region)
        ]

    def read(self, region: Region) -> Sample:
        """The values inside ``region`` as one sample."""
        return mixture(self.parts(region))

    def change(self, region: Region, function: Callable[[Sample], Sample]) -> None:
        """Replace the values in ``region`` by a function of them."""
        inside = [patch for patch in self.patches if patch.region.common(region)]
        if region.numel >= self.size or (len(inside) == 1 and inside[0].region.same(region)):
            for patch in inside:
                patch.sample = function(patch.sample)
        else:
            self.write(region, function(self.read(region)))


def moments(parts: Sequence[tuple[Sample, float]]) -> tuple[float, float, float]:
    """Mean, population standard deviation and rms of a mixture; NaN where a part is unknown."""
    total = sum(weight for _, weight in parts)
    first = second = 0.0
    for sample, weight in parts:
        mean, square = sample.moments()
        first += mean * weight / total
        second += square * weight / total
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.nan, math.nan, math.nan
    return first, math.sqrt(max(second - first * first, 0.0)), math.sqrt(second)


def _continues(patch: Patch, region: Region, sample: Sample) -> bool:
    """Whether a write goes on where the last one ended, with the same distribution: experts that are filled in turn."""
    return (
        patch.sample.values is sample.values
        and patch.sample.iid == sample.iid
        and patch.left == patch.region.numel
        and patch.region.dense
        and region.dense
        and patch.region.offset + patch.region.numel == region.offset
    )
