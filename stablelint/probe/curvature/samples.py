"""Gradients of single samples: the noise scale and how they agree, both from their inner products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stablelint.errors import TargetError
from stablelint.probe.curvature.problem import Problem
from stablelint.probe.curvature.vectors import gradients
from stablelint.signals.curvature import Agreement, NoiseScale

#: Gradients of samples, or of groups of them, that are compared.
GROUPS = 32
#: Bytes that they may take together; beyond, some entries of each parameter stand for all.
BUDGET = 512 << 20
#: The mean of the samples' gradients is the gradient of the batch, but for weights that some losses give to samples
#: (padding); a cosine below this says that the batch was cut where it has no samples.
_SAME = 0.9


@dataclass(frozen=True)
class Gram:
    """Inner products of the gradients of groups of samples: per layer (module path), each (groups, groups), double.

    ``group`` is the number of samples in each, ``exact`` whether all entries of the gradients were used.
    """

    layers: dict[str, torch.Tensor]
    group: int
    exact: bool
    cost: float

    @property
    def total(self) -> torch.Tensor:
        """The inner products over all parameters."""
        return torch.stack(list(self.layers.values())).sum(0)


def sample_gram(
    problem: Problem, batches: Sequence[Problem] = (), *, groups: int = GROUPS, budget: int = BUDGET
) -> Gram:
    """Gradients sample by sample, for at most ``groups`` samples of ``problem`` and of ``batches`` (same model).

    One forward and backward pass over one sample each, in all about one over all samples. Samples that batch
    normalisation ties together, and more samples than groups, are taken in groups, which
    :func:`noise_scale` accounts for. Everything is restored.

    Raises TargetError for fewer than two samples, and when the loss does not take samples apart.
    """
    problems = [problem, *batches]
    size = min(each.batch for each in problems)
    group = max(2, size // 4) if _ties(problem.model) else max(1, math.ceil(len(problems) * size / groups))
    parts = [each.part(at, at + group) for each in problems for at in range(0, each.batch - group + 1, group)][:groups]
    if len(parts) < 2:
        raise TargetError(f"a batch of {size} cannot be taken apart into samples; give a larger one")
    named = problem.named_parameters
    entries = _entries(named, len(parts), budget)
    rows: list[list[torch.Tensor]] = [[] for _ in named]
    with problem.settled():
        for part in parts:
            try:
                grads = gradients(part)
            except (RuntimeError, ValueError, IndexError) as error:
                raise TargetError(f"the loss cannot be taken of {group} of the samples: {_line(error)}") from error
            for kept, grad, few in zip(rows, grads, entries, strict=True):
                kept.append(_some(grad, few))
        if not _ties(problem.model):
            _check(problem, rows, entries, group)
    layers: dict[str, torch.Tensor] = {}
    for name, kept, few in zip(named, rows, entries, strict=True):
        gram = _products(kept) * (named[name].numel() / few)
        layer = name.rpartition(".")[0]
        layers[layer] = layers[layer] + gram if layer in layers else gram
    exact = all(few == parameter.numel() for few, parameter in zip(entries, named.values(), strict=True))
    if not all(bool(torch.isfinite(gram).all()) for gram in layers.values()):
        raise TargetError("the gradients of single samples are not finite")
    return Gram(layers, group, exact, cost=len(parts) * group / size + 1)


def noise_scale(gram: Gram) -> NoiseScale:
    """The gradient noise scale without bias (McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9 and appendix A.1).

    With g_i the gradients of n groups of b samples and their inner products K, the estimates from the batch sizes b
    and n b become |G|^2 = mean of K off its diagonal, and tr(Sigma) = b (mean of the diagonal - |G|^2).
    """
    products, count = gram.total, gram.total.shape[0]
    shared = _off_diagonal(products)
    trace = gram.group * max(float(products.diagonal().mean()) - shared, 0.0)
    error = math.inf
    if count > 2:
        kept = [[other for other in range(count) if other != left] for left in range(count)]
        leaving = torch.tensor([_off_diagonal(products[rows][:, rows]) for rows in kept], dtype=torch.float64)
        error = math.sqrt((count - 1) * float(leaving.var(correction=0)))
    return NoiseScale(shared, error, trace, gram.group, count, gram.cost)


def agreement(gram: Gram) -> Agreement:
    """Cosines between samples' gradients, their participation ratio, and cosines between layers; see Agreement."""
    products = gram.total
    count = products.shape[0]
    cosines = _cosines(products)
    square = float(products.square().sum())
    live = {name: table for name, table in gram.layers.items() if bool(table.any())}
    flat = torch.stack([table.reshape(-1) for table in live.values()]) if live else torch.zeros(0, count**2)
    return Agreement(
        samples=tuple(map(tuple, cosines.tolist())),
        mean_cosine=_off_diagonal(cosines),
        participation=float(products.trace()) ** 2 / square if square > 0 else 1.0,
        layers=tuple(live),
        between_layers=tuple(map(tuple, _cosines(flat @ flat.T).tolist())),
        exact=gram.exact,
    )


def _products(rows: list[torch.Tensor]) -> torch.Tensor:
    """Inner products of vectors in double precision, a million entries at a time."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for at in range(0, rows[0].numel(), 1 << 20):
        table = torch.stack([row[at : at + (1 << 20)] for row in rows]).double()
        total += (table @ table.T).cpu()
    return total


def _ties(model: nn.Module) -> bool:
    """Whether samples see each other through batch statistics."""
    return any(isinstance(module, _BatchNorm) and (module.training or not model.training) for module in model.modules())


def _entries(named: dict[str, nn.Parameter], parts: int, budget: int) -> list[int]:
    """How many entries of each parameter's gradient are kept, so that all rows fit into the budget."""
    sizes = [parameter.numel() for parameter in named.values()]
    share = min(1.0, budget / max(4 * parts * sum(sizes), 1))
    return [max(1, int(size * share)) for size in sizes]


def _some(grad: torch.Tensor, few: int) -> torch.Tensor:
    """``few`` entries, the same ones every time, chosen at random: a stride would prefer some columns."""
    flat = grad.detach().reshape(-1)
    if few == flat.numel():
        return flat.clone()
    generator = torch.Generator().manual_seed(0)
    return flat[torch.randint(flat.numel(), (few,), generator=generator).to(flat.device)]


def _check(problem: Problem, rows: list[list[torch.Tensor]], entries: list[int], group: int) -> None:
    """Refuse samples whose mean gradient does not point where that of the batch does."""
    whole = problem.part(0, problem.batch // group * group)
    values = [float(part.value().detach()) for part in (whole, replace(whole, seed=whole.seed + 1))]
    count = min(whole.batch // group, len(rows[0]))
    if values[0] != values[1] or count * group != whole.batch:
        return  # dropout differs from part to part, and nothing can be said
    full = gradients(whole)
    product = square = other = 0.0
    for kept, grad, few in zip(rows, full, entries, strict=True):
        mean, own = torch.stack(kept[:count]).double().mean(0), _some(grad, few).double()
        product += float((mean * own).sum())
        square, other = square + float(mean.square().sum()), other + float(own.square().sum())
    if product < _SAME * math.sqrt(square * other):  # a sum in place of a mean is welcome, too
        raise TargetError(
            "the loss of the batch is not the mean over its samples; pass targets= beside loss=, one for each sample"
        )


def _off_diagonal(table: torch.Tensor) -> float:
    count = table.shape[0]
    return float((table.sum() - table.trace()) / (count * (count - 1)))


def _cosines(products: torch.Tensor) -> torch.Tensor:
    sizes = products.diagonal().clamp(min=0).sqrt()
    return torch.where(sizes[:, None] * sizes > 0, products / (sizes[:, None] * sizes), 0.0)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
