"""Statistics of the initial values of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn.parameter import is_lazy

from stablelint.graph.op import Parameter
from stablelint.site import Site
from stablelint.trace.origins import NO_VALUES, Origins
from stablelint.trace.shards import whole

_SAMPLE = 1 << 22  # elements above which every n-th one is read
_EXACT = 1 << 14  # elements up to which statistics are computed in double
_SMALLEST_SQUARE = 1e-30  # single precision loses digits of smaller ones
_ROWS, _COLUMNS = 256, 1024
_ERRORS = 4.0  # standard errors by which parts must differ to be told apart


def describe(named: Mapping[str, tuple[torch.Tensor, bool]], origins: Origins | None) -> dict[str, Parameter]:
    """The statistics of all parameters and buffers.

    Those of a tensor on meta come from the observation of its build. Memory that nobody wrote has none, and its
    ``init`` is "empty".
    """
    return {name: _describe(name, tensor, buffer, origins) for name, (tensor, buffer) in named.items()}


def _describe(name: str, tensor: torch.Tensor, buffer: bool, origins: Origins | None) -> Parameter:
    mean = std = rms = math.nan
    similarity = None
    with torch.no_grad():
        values = whole(tensor)
    origin = origins.parameter(tensor) if origins is not None else None
    init, init_site = origin if origin is not None else (None, None)
    virtual = origins.provenance.moments(tensor) if origins is not None and tensor.is_meta else None
    if virtual is not None:
        mean, std, rms, similarity = virtual
    elif not is_lazy(tensor):
        with torch.no_grad():
            mean, std, rms = _moments(values.detach())
            similarity = None if buffer or not tensor.is_floating_point() else _row_similarity(values.detach())
    parts, diagonals = _gates(values, std, origins) if std > 0 else ((), ())
    if origins is not None and math.isnan(std) and not is_lazy(tensor) and origins.provenance.unfilled(tensor):
        init, similarity = "empty", None
        init_site = origins.allocation(tensor) or init_site
    elif init in NO_VALUES:
        init = None  # filled by what was not observed
    if init_site is not None:
        init_site = Site(name.rpartition(".")[0], init_site.file, init_site.line, init_site.column)
    return Parameter(
        name=name,
        shape=_shape(tensor),
        mean=mean,
        std=std,
        rms=rms,
        trainable=not buffer and tensor.requires_grad,
        buffer=buffer,
        row_similarity=similarity,
        parts=parts,
        diagonals=diagonals,
        mask=_mask(values) if buffer else None,
        init=init,
        init_site=init_site if init_site is not None and init_site.file is not None else None,
    )


#: A number that closes a place of attention scores when it is added: exp(-30) of the others is below float32.
_CLOSING = -30.0
_LARGEST_MASK, _LARGEST_PATTERN = 1 << 22, 1 << 16


def _mask(tensor: torch.Tensor) -> tuple[tuple[bool, ...], ...] | None:
    """The first matrix of a buffer of zeros and one closing number, True for open, or () if it is large.

    None for all other buffers.
    """
    if tensor.is_meta or tensor.dim() < 2 or not 0 < tensor.numel() <= _LARGEST_MASK or not tensor.is_floating_point():
        return None
    lowest = float(tensor.min())
    if not lowest <= _CLOSING or not bool(((tensor == 0) | (tensor == lowest)).all()):
        return None
    first = tensor.reshape(-1, *tensor.shape[-2:])[0] == 0
    if first.numel() > _LARGEST_PATTERN:
        return ()
    return tuple(tuple(row) for row in first.tolist())


_Parts = tuple[tuple[tuple[float, float], ...], ...]


def _gates(tensor: torch.Tensor, std: float, origins: Origins | None) -> tuple[_Parts, tuple[float, ...]]:
    """Mean and deviation of thirds and quarters of a vector; the mean diagonal of square blocks of a matrix.

    Only where they say more than the whole: parts whose means differ by more than chance, diagonals that stand out.
    """
    if tensor.dim() == 1:
        return tuple(found for count in (3, 4) if (found := _divided(tensor.detach(), count, std, origins))), ()
    if tensor.dim() != 2 or tensor.is_meta or not tensor.is_floating_point() or tensor.shape[1] < 2:
        return (), ()
    width = tensor.shape[1]
    if tensor.shape[0] not in (width, 2 * width, 3 * width, 4 * width):
        return (), ()
    means = tensor.detach().reshape(-1, width, width).diagonal(dim1=1, dim2=2).double().mean(1)
    return (), tuple(means.tolist()) if bool((means.abs() > _ERRORS * std / math.sqrt(width)).any()) else ()


def _divided(tensor: torch.Tensor, count: int, std: float, origins: Origins | None) -> tuple[tuple[float, float], ...]:
    """Mean and deviation of equal parts of a vector, if their means differ."""
    length = tensor.shape[0] // count
    if tensor.shape[0] % count or length < 2:
        return ()
    found = tuple(_moments_of(tensor[at * length : (at + 1) * length], origins)[:2] for at in range(count))
    means = [mean for mean, _ in found]
    return found if max(means) - min(means) > _ERRORS * std / math.sqrt(length) else ()


def _moments_of(tensor: torch.Tensor, origins: Origins | None) -> tuple[float, float, float]:
    virtual = origins.provenance.moments(tensor) if origins is not None and tensor.is_meta else None
    return _moments(tensor) if virtual is None else virtual[:3]


def statistics(tensor: torch.Tensor) -> tuple[float, float, float, float | None]:
    """Mean, population standard deviation, rms and row similarity of a tensor's values."""
    return *_moments(tensor.detach()), _row_similarity(tensor.detach())


#: Standard errors within which example inputs count as drawn from N(0, 1).
_INPUT_ERRORS = 5.0


def input_moments(tensor: torch.Tensor) -> dict[str, float]:
    """Mean, standard deviation and covariance between samples of a floating input that is not drawn from N(0, 1).

    ``covariance`` is E[x_bi x_ci] over different samples b, c and all places i, less the squared mean: how much of an
    image all images share.
    """
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() < 2:
        return {}
    values = tensor.detach()
    mean, std, _ = _moments(values)
    error = _INPUT_ERRORS / math.sqrt(tensor.numel())
    if not math.isfinite(std):
        return {}
    found = {} if abs(mean) <= error * std and abs(std - 1) <= error else {"mean": mean, "std": std}
    if values.dim() > 1 and values.shape[0] > 1:
        rows = (values.double() - mean).flatten(1)
        count, places = rows.shape
        between = (float(rows.sum(0).square().sum()) - float(rows.square().sum())) / (count * (count - 1) * places)
        if abs(between) > error * std * std:
            found["covariance"] = between
    return found


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    try:
        return tuple(tensor.shape)
    except RuntimeError:  # not materialised
        return ()


def _moments(tensor: torch.Tensor) -> tuple[float, float, float]:
    """Mean, population standard deviation and rms; NaN when there is no finite answer."""
    if tensor.is_meta or tensor.numel() == 0 or tensor.layout is not torch.strided:
        return math.nan, math.nan, math.nan
    values = tensor.abs() if tensor.is_complex() else tensor
    values = values.reshape(-1)
    if values.numel() > _SAMPLE:
        values = values[:: -(-values.numel() // _SAMPLE)]
    mean, var = _mean_and_variance(values)
    if not (math.isfinite(var) and math.isfinite(mean)):
        return math.nan, math.nan, math.nan
    return mean, math.sqrt(var), math.sqrt(var + mean * mean)


def _mean_and_variance(values: torch.Tensor) -> tuple[float, float]:
    """Of a one-dimensional real tensor, computed in double where that is cheap."""
    if values.numel() > _EXACT:
        # Two passes of BLAS cost a tenth of var_mean. They cancel where the mean is large, overflow and underflow.
        single = values.float()
        mean = float(single.sum()) / values.numel()
        square = float(torch.dot(single, single)) / values.numel()
        if mean * mean < 0.01 * square and _SMALLEST_SQUARE < square < math.inf:
            return mean, square - mean * mean
    variance, average = torch.var_mean(values.double(), correction=0)
    return float(average), float(variance)


def _row_similarity(tensor: torch.Tensor) -> float | None:
    """Mean cosine between different rows of the matrix of shape (out, -1)."""
    if tensor.is_meta or tensor.dim() < 2 or tensor.shape[0] < 2 or tensor.numel() == 0:
        return None
    rows = tensor[:: -(-tensor.shape[0] // _ROWS)]
    rows = rows.reshape(rows.shape[0], -1)
    rows = rows[:, :: -(-rows.shape[1] // _COLUMNS)].double()
    norms = rows.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()):
        return None
    if not bool(norms.any()):
        return 1.0  # all zero: all units compute the same
    units = rows / norms.clamp_min(torch.finfo(torch.float64).tiny)
    count = rows.shape[0]
    own = float(norms.count_nonzero())
    return (float(units.sum(0).square().sum()) - own) / (count * (count - 1))
