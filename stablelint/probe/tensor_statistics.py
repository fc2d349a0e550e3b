"""Statistics of one tensor, cheap enough to be taken beside every op.

Sizes are those of all elements, in one read. What describes a distribution (similarities, shares, attention rows) is
taken from an even sample of samples, positions and units: with n sampled values its standard error is below
1 / sqrt(n) of what it describes.
"""

from __future__ import annotations

import math

import numpy as np
import torch

#: Positions and units of an activation, features of a sample, elements, and rows of an attention matrix that are
#: looked at: standard errors of 2% and less, for a tenth of the cost of the ops on released models.
POSITIONS, UNITS, FEATURES, ELEMENTS, ROWS = 1024, 256, 4096, 65536, 1024
#: With fewer samples and positions than this, a unit that was never active says nothing.
MIN_POSITIONS = 8
#: Heads of fused attention whose weights are formed.
HEADS = 4
#: Elements whose squares are summed at once.
_PART = 1 << 18
#: Where the squares of float32 are safe: outside the elements are scaled first.
_SAFE = (1e-12, 1e15)


def mean(value: torch.Tensor) -> float:
    """The mean over all elements."""
    return float(value.mean() if value.dtype in (torch.float32, torch.float64) else value.mean(dtype=torch.float32))


def rms(value: torch.Tensor) -> float:
    """Root mean square over all elements; 1e-30 does not become 0, and an overflow is infinite or NaN."""
    value = value.detach()
    if not value.numel():
        return 0.0
    size = _norm(value) / math.sqrt(value.numel())
    if _SAFE[0] < size < _SAFE[1]:
        return size
    scale = _largest(value)
    if scale == 0 or not math.isfinite(scale):
        return scale
    return scale * math.sqrt(float((value / scale).square().mean(dtype=torch.float64)))


def sampled_rms(value: torch.Tensor) -> float:
    """The same of an even sample of each sample's positions, where there are many elements: 1% of it at most."""
    inner = tuple(range(1, value.dim() - 1)) or tuple(range(value.dim()))
    room = max(_PART * math.prod(value.shape[axis] for axis in inner) // max(value.numel(), 1), 1)
    return rms(thinned(value, inner, room) if value.numel() > _PART else value)


def _largest(value: torch.Tensor) -> float:
    """The largest absolute value, twice as fast as by forming them."""
    least, most = torch.aminmax(value)
    return max(-float(least), float(most)) if not torch.isnan(most) else math.nan


def _norm(value: torch.Tensor) -> float:
    """The root of the sum of squares, of many elements by parts: 1e8 squares lose a percent in float32, these 2e-5."""
    exact = value.dtype in (torch.float32, torch.float64)
    dtype = None if exact else torch.float32
    if value.numel() <= _PART or value.dtype == torch.float64:
        return float(torch.linalg.vector_norm(value, dtype=dtype))
    axis = max(range(value.dim()), key=lambda axis: value.shape[axis])
    parts = torch.split(value, max(value.shape[axis] * _PART // value.numel(), 1), axis)
    return math.sqrt(sum(_norm(part) ** 2 for part in parts))


def thinned(value: torch.Tensor, axes: tuple[int, ...], room: int) -> torch.Tensor:
    """A view with every n-th index of ``axes``, the longest first, so that these hold at most ``room`` elements.

    The steps are odd: even ones meet only one phase of what a stride of 2 has made.
    """
    axes = tuple(axis % value.dim() for axis in axes)
    while (held := math.prod(value.shape[axis] for axis in axes)) > room:
        axis = max(axes, key=lambda axis: value.shape[axis])
        length = value.shape[axis]
        step = min(max(math.ceil(held / room), 2) | 1, length)
        value = value[(slice(None),) * axis + (slice((length - 1) % step // 2, None, step),)]
    return value


def positions(value: torch.Tensor, channels: int, room: int = POSITIONS) -> torch.Tensor:
    """Up to ``room`` positions by all units, which axis ``channels`` holds."""
    if value.dim() < 2:
        return value.reshape(1, -1)
    value = value.movedim(channels, -1)
    value = thinned(value, tuple(range(value.dim() - 1)), room)
    return value.reshape(-1, value.shape[-1])


def similarity(value: torch.Tensor) -> float | None:
    """Mean cosine between different samples; shape (batch, ...)."""
    flat = thinned(value, tuple(range(1, value.dim())), FEATURES).flatten(1).double()
    norms = flat.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        return None
    flat = flat / norms
    batch = flat.shape[0]
    return float((flat.sum(0).square().sum() - batch) / (batch * (batch - 1)))


def token_similarity(value: torch.Tensor) -> float | None:
    """One minus the variance between positions of a sample over all variance; shape (batch, positions, features).

    1.0: positions of a sample are the same though samples differ; 0: positions differ as much as samples do. The
    common offset of all elements does not count, so that values near 1/2 behind a sigmoid do not look alike.
    """
    table = thinned(thinned(value, (1,), UNITS), (2,), UNITS).double()
    total = float((table - table.mean((0, 1))).square().mean())
    within = float((table - table.mean(1, keepdim=True)).square().mean())
    noise = 1e-14 * float(table.square().mean())  # what float32 cannot tell apart
    return 1 - within / total if table.shape[0] > 1 and total > noise else None


def dead_share(value: torch.Tensor, channels: int = -1) -> float | None:
    """Share of units that are zero at every position of the batch; None when there are too few positions."""
    if value.dim() < 2 or value.numel() // max(value.shape[channels], 1) < MIN_POSITIONS:
        return None
    silent = (positions(value, channels) == 0).all(0)
    if not bool(silent.any()):
        return 0.0
    rest = value.movedim(channels, -1)[..., silent]  # silent where it was looked at: look everywhere
    dead = (rest == 0).flatten(0, -2).all(0)
    return float(dead.sum()) / silent.numel()


def saturated_share(name: str, value: torch.Tensor) -> float | None:
    """Share of elements whose derivative is below a hundredth of the largest, from the function's output."""
    if name not in ("sigmoid", "tanh"):
        return None
    value = thinned(value, tuple(range(value.dim())), ELEMENTS) if value.dim() else value
    flat = value * (1 - value) < 0.0025 if name == "sigmoid" else 1 - value.square() < 0.01
    return float(flat.double().mean())


def common_share(value: torch.Tensor, channels: int = -1) -> float | None:
    """Share of the second moment that all units have in common: mean over units, squared, over the mean square."""
    if value.dim() > 1:
        value = thinned(value, (channels,), UNITS)
    table = positions(value, channels).double()
    if table.shape[1] < 2:
        return None
    total = float(table.square().mean())
    return float(table.mean(1).square().mean()) / total if total > 0 else None


def row_statistics(weights: torch.Tensor) -> tuple[float, float, float]:
    """Mean of the largest weight of a row, mean entropy over log(length), and the peak of a uniform row."""
    rows = positions(weights, -1, ROWS).double()
    allowed = (rows > 0).sum(-1).clamp(min=1).double()
    entropy = -(rows * rows.clamp(min=1e-300).log()).sum(-1)
    several = allowed > 1
    share = float((entropy[several] / allowed[several].log()).mean()) if bool(several.any()) else 1.0
    peaks = rows.max(-1).values
    if bool(several.any()):
        peaks, allowed = peaks[several], allowed[several]
    return float(peaks.mean()), share, float((1 / allowed).mean())


def fused_row_statistics(
    inputs: tuple[torch.Tensor, ...], scale: float | None, causal: bool
) -> tuple[float, float, float]:
    """The same for fused attention, whose weights are never formed: recomputed for some rows of the first few heads."""
    query, key = (x.detach() for x in inputs[:2])
    if key.dim() > 2 and query.dim() > 2 and 1 < key.shape[-3] < query.shape[-3]:  # groups of queries share a key head
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    leading = torch.Size(np.broadcast_shapes(query.shape[:-2], key.shape[:-2]))
    query, key = (_heads(x, leading) for x in (query, key))
    asked = thinned(torch.arange(query.shape[-2], device=query.device), (0,), ROWS // HEADS)
    logits = query[:, asked].double() @ key.double().transpose(-2, -1)
    logits = logits * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        future = torch.arange(key.shape[-2], device=query.device) > asked[:, None]
        logits = logits.masked_fill(future, -math.inf)
    elif len(inputs) > 3:
        mask = inputs[3].detach()
        mask = mask.expand(*mask.shape[:-2], query.shape[-2], key.shape[-2]) if mask.dim() > 1 else mask
        mask = _heads(torch.broadcast_to(mask, (*mask.shape[:-2], query.shape[-2], key.shape[-2])), leading)[:, asked]
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    return row_statistics(logits.softmax(-1).nan_to_num())


def _heads(value: torch.Tensor, leading: torch.Size) -> torch.Tensor:
    """The matrices of the first few heads, in the order of all axes in front, which are broadcast to ``leading``."""
    value = value.expand(*leading, *value.shape[-2:])
    if value.dim() > 3:
        value = value[: math.ceil(HEADS / max(math.prod(leading[1:]), 1))]
    return value.reshape(-1, *value.shape[-2:])[:HEADS]
