"""The tangent kernel over a few outputs of the batch: can the model learn different things from different samples?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stablelint.probe.sharded import Ranks
from stablelint.trace.shards import whole

#: Outputs (samples, or samples and positions) that the kernel is formed over, and entries kept per parameter
#: tensor. A Gram matrix of 16 vectors is estimated within a few percent from 4096 random entries of each.
OUTPUTS, ENTRIES = 16, 4096
#: Adam's epsilon: a gradient below it moves nothing, however it is scaled.
EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Kernel:
    """``discrimination`` and ``sharpness`` of :class:`stablelint.signals.Signals`."""

    discrimination: float
    sharpness: float


def tangent_kernel(
    output: torch.Tensor,
    projection: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    outputs: int = OUTPUTS,
    ranks: Ranks | None = None,
) -> Kernel | None:
    """Gradients of single projected outputs with respect to all parameters, and the spectrum of their products.

    ``output`` has the batch in its first axis; ``projection`` has its shape. One backward pass per chosen output.
    None when there is only one output to choose. An output is the random projection of everything that the model
    says about one sample, so that positions that differ by an embedding or a border do not hide that all samples
    look the same. The condition number of this matrix decides trainability
    (Xiao, Pennington and Schoenholz 2020, arXiv:1912.13053, section 2); centring it removes the direction that
    moves all outputs alike, which is all that a collapsed network can learn. Of many processes each has the outputs of
    its part of the batch.
    """
    ranks = ranks or Ranks()
    values = _projected(output, projection, ranks.rows(output.shape[0])[1] if output.dim() else 1)
    start, count = ranks.rows(values.numel())
    chosen = sorted({round(x) for x in torch.linspace(0, count - 1, min(outputs, count)).tolist()})
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if len(chosen) < 2 or not parameters or not values.requires_grad:
        return None
    sketches: list[list[torch.Tensor]] = [[] for _ in parameters]
    for position in chosen:
        grads = _gradients(values, position - start, parameters, ranks)
        for sketch, parameter, grad in zip(sketches, parameters, grads, strict=True):
            flat = whole(torch.zeros_like(parameter) if grad is None else grad)
            sketch.append(_entries(flat.detach().reshape(-1)).double())
    plain = torch.zeros(len(chosen), len(chosen), dtype=torch.float64)
    scaled = plain.clone()
    for sketch, parameter in zip(sketches, parameters, strict=True):
        rows = torch.stack(sketch)
        gram = (rows @ rows.T).cpu() * (parameter.numel() / rows.shape[1])
        plain += gram
        scaled += gram / (float(rows.square().mean().sqrt()) + EPSILON)
    if not bool(torch.isfinite(scaled).all() and torch.isfinite(plain).all()):
        return None
    top = float(torch.linalg.eigvalsh(scaled)[-1])
    centring = torch.eye(len(chosen), dtype=torch.float64) - 1 / len(chosen)
    spread = float(torch.linalg.eigvalsh(centring @ scaled @ centring)[-1])
    return Kernel(
        discrimination=max(spread, 0.0) / top if top > 0 else 0.0,
        sharpness=float(torch.linalg.eigvalsh(plain)[-1]),
    )


def _gradients(
    values: torch.Tensor, place: int, parameters: Sequence[torch.Tensor], ranks: Ranks
) -> Sequence[torch.Tensor | None]:
    """The gradients of one output, which may be another process's."""
    if not ranks.data:
        return torch.autograd.grad(values[place], parameters, retain_graph=True, allow_unused=True)
    for parameter in parameters:
        parameter.grad = None
    mine = values[place] if 0 <= place < values.numel() else 0 * values.sum()
    mine.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # fully_shard puts gradients nowhere else
    return [None if parameter.grad is None else parameter.grad * ranks.parts for parameter in parameters]


def _projected(output: torch.Tensor, projection: torch.Tensor, samples: int) -> torch.Tensor:
    """One number of unit variance per sample; per position when the batch holds a single sample."""
    product = output * projection
    if output.dim() < 2:
        return output.reshape(-1)
    if samples > 1:
        return product.flatten(1).sum(1) / math.sqrt(product[0].numel())
    features = 1 if output.dim() >= 4 else -1
    return product.sum(features).flatten() / math.sqrt(output.shape[features])


def _entries(flat: torch.Tensor) -> torch.Tensor:
    """At most :data:`ENTRIES` entries, the same ones every time."""
    if flat.numel() <= ENTRIES:
        return flat
    generator = torch.Generator().manual_seed(0)
    return flat[torch.randint(flat.numel(), (ENTRIES,), generator=generator).to(flat.device)]
