"""How the values that processes hold of one activation fit together: as copies, as parts of a batch, along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from stablelint.probe.tensor_statistics import thinned
from stablelint.trace import shards

if TYPE_CHECKING:
    from stablelint.probe.gauge import Reading

#: Elements by which copies are known, and how far apart those may be, as a share of the rms.
_COMPARED, _EQUAL = 64, 1e-5
#: What is averaged over elements, or over rows of attention.
_MEANS = ("mean", "saturated", "peak", "entropy", "uniform_peak")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one process holds of an activation: so many elements, a few of them, and the axis it is a shard along.

    A ``scalar`` over the batch is a loss: that of the whole batch is the mean over its parts.
    """

    numel: int
    few: tuple[float, ...]
    axis: int | None
    scalar: bool

    @classmethod
    def of(cls, value: torch.Tensor, axis: int | None) -> Piece:
        """The piece that ``value`` is."""
        flat = value.reshape(-1)
        few = flat[:: max(1, flat.numel() // _COMPARED)][:_COMPARED].double().tolist()
        return cls(flat.numel(), tuple(few), axis, value.dim() == 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """``split``: its first axis is the batch, in parts; ``axis``: where shards are put together, None for copies.

    An axis is followed from the layers that make shards; where none was, copies are known by being equal.
    """

    split: bool
    axis: int | None


def sample(value: torch.Tensor, room: int) -> torch.Tensor:
    """At most ``room`` elements on a regular grid, all axes kept; the value itself where it is small."""
    return thinned(value, tuple(range(value.dim())), room).detach().clone()


def merge(table: Sequence[Sequence[tuple[Reading, Piece]]], reading: Reading, *, split: bool) -> Layout:
    """Make ``reading`` that of all processes, from theirs: one row for each part of the batch, of its shards."""
    everyone = [each for row in table for each in row]
    axis = next((piece.axis for _, piece in everyone if piece.axis is not None), None)
    copies = axis is None and all(_alike(row[0], each) for row in table for each in row)
    weights = [piece.numel for _, piece in everyone]
    for name in _MEANS:
        setattr(reading, name, _mean([getattr(one, name) for one, _ in everyone], weights))
    reading.rms = together([(piece.numel, one.rms) for one, piece in everyone])
    reading.finite = all(one.finite for one, _ in everyone)
    reading.nan = any(one.nan for one, _ in everyone)
    if everyone[0][1].scalar:
        reading.rms, split = abs(reading.mean), False
    different = [piece for row in (table if split else table[:1]) for _, piece in (row[:1] if copies else row)]
    reading.numel = sum(piece.numel for piece in different)
    return Layout(split, None if copies else reading.channels if axis is None else axis)


def together(sizes: Sequence[tuple[int, float]]) -> float:
    """The rms of pieces of so many elements and of such rms."""
    largest = max((size for _, size in sizes), default=0.0)
    odd = next((size for _, size in sizes if not math.isfinite(size)), None)
    count = sum(number for number, _ in sizes)
    if odd is not None or largest == 0 or count == 0:
        return largest if odd is None else odd
    return largest * math.sqrt(sum(number * (size / largest) ** 2 for number, size in sizes) / count)


def _alike(one: tuple[Reading, Piece], other: tuple[Reading, Piece]) -> bool:
    (reading, piece), (second, beside) = one, other
    if piece.numel != beside.numel or not (reading.finite and second.finite):
        return False
    room = _EQUAL * max(reading.rms, second.rms)
    pairs = [(reading.rms, second.rms), (reading.mean, second.mean), *zip(piece.few, beside.few, strict=True)]
    return all(abs(a - b) <= room for a, b in pairs)


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None


def joined(table: Sequence[Sequence[torch.Tensor]], layout: Layout) -> torch.Tensor:
    """The value that the processes hold together; where the pieces do not fit, one of them stands for all."""
    try:
        rows = [row[0] if layout.axis is None else torch.cat(list(row), layout.axis) for row in table]
        return torch.cat(rows) if layout.split else rows[0]
    except (RuntimeError, IndexError):
        return table[0][0]


@dataclass
class Axes:
    """Along which axis plain tensors are shards, followed from where a tensor-parallel layer hands them out."""

    known: dict[int, int] = field(default_factory=dict)  # by id: the recorder keeps what it has seen alive

    def moved(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """``after`` holds what ``before`` does in another layout."""
        axis = self.of(before, ()) if not shards.is_dtensor(after) else None
        if axis is not None:
            self.known[id(after)] = axis

    def of(self, output: Any, sources: Sequence[torch.Tensor]) -> int | None:
        """The axis of an op's output, given the tensors that it was computed from."""
        if shards.is_dtensor(output):
            return next((placement.dim for placement in output.placements if placement.is_shard()), None)
        for source in sources:
            axis = self.known.get(id(source))
            carried = None if axis is None else _carried(source, axis, output)
            if carried is not None:
                self.known[id(output)] = carried
                break
        return self.known.get(id(output))


def _carried(source: torch.Tensor, axis: int, output: torch.Tensor) -> int | None:
    """Where axis ``axis`` of ``source`` is in ``output``: transposed, reshaped, or at its place."""
    steps = [list(zip(each.shape, each.stride(), strict=True)) for each in (source, output)]
    if steps[0] != steps[1] and sorted(steps[0]) == sorted(steps[1]):
        return steps[1].index(steps[0][axis])
    if source.numel() == output.numel() and source.shape != output.shape:
        before = math.prod(source.shape[:axis])
        places = [at for at in range(output.dim()) if math.prod(output.shape[:at]) == before and output.shape[at] > 1]
        return places[0] if places else None
    same = source.dim() == output.dim() and source.shape[axis] == output.shape[axis]
    return axis if same else None
