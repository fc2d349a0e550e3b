"""Parameters whose size or offset the network takes out again, by the derivative along that change.

A weight in front of a norm may be scaled, row by row where the norm keeps channels apart: the loss stays the same, so
<g, w> = 0, and the gradient goes with 1 / |w| (van Laarhoven 2017, arXiv:1706.05350). A bias in front of a norm, and
that of the keys of an attention, may be shifted: the derivative along the shift is 0, and where every element may be
shifted by itself so is the whole gradient, up to rounding. How large such a gradient is says nothing about training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from stablelint.signals.parameters import Invariance
from stablelint.trace.shards import whole

if TYPE_CHECKING:
    from stablelint.graph import Graph
    from stablelint.probe.gauge import Reading

#: A derivative along a change, over what it is for a gradient of the same size in a random direction, that counts as 0.
#: The eps of norms leaves 1e-5; of one number by chance one in 10,000 is smaller. A mean over rows is surer.
_ALONG, _ALONG_ROWS = 1e-4, 1e-2
#: The rows from which on their mean is taken.
_ROWS = 4
#: Steps of the number format: a gradient this much below a sum of as many independent terms is what rounding leaves.
_ROUNDING = 1e3
#: The coarsest format of which that can be said.
_COARSEST = 1e-5


def invariances(
    graph: Graph, readings: Mapping[int, Reading], named: Sequence[tuple[str, nn.Parameter]]
) -> dict[str, Invariance]:
    """By name: what the network takes out again of each parameter; the same in all processes."""
    found: dict[str, Invariance] = {}
    with torch.no_grad():
        for name, parameter in named:
            if parameter.grad is None or parameter.grad.is_sparse:
                continue
            values, grad = whole(parameter), whole(parameter.grad)  # of sharded ones gathered, one after the other
            if not torch.isfinite(grad).all():
                continue
            kind = _kind(values, grad, _arriving(graph, readings, name))
            if kind:
                found[name] = kind
    return found


def _kind(parameter: torch.Tensor, grad: torch.Tensor, arrives: tuple[float, int] | None) -> Invariance:
    if parameter.dim() > 1:
        return "scale" if _scaled(parameter, grad) else ""
    if _absorbed(parameter, grad, arrives):
        return "shift"
    if parameter.numel() < _ROWS:  # the directions of few numbers are alike by chance
        return ""
    # the gains of a norm are all 1: their direction is both
    if _along(parameter, grad) < _ALONG:
        return "scale"
    return "shift" if _along(torch.ones_like(grad), grad) < _ALONG else ""


def _along(direction: torch.Tensor, grad: torch.Tensor) -> float:
    """|<g, d>| over what it is for a random g of this size; infinite where one of the two is 0."""
    size = float(direction.norm()) * float(grad.norm())
    return abs(float((direction * grad).sum())) * math.sqrt(grad.numel()) / size if size > 0 else math.inf


def _scaled(parameter: torch.Tensor, grad: torch.Tensor) -> bool:
    rows, grads = parameter.flatten(1), grad.flatten(1)
    sizes = rows.norm(dim=1) * grads.norm(dim=1)
    kept = sizes > 0
    if int(kept.sum()) >= _ROWS and rows.shape[1] > 1:
        cosines = (rows * grads).sum(1)[kept] / sizes[kept]
        return float(cosines.square().mean().sqrt()) * math.sqrt(rows.shape[1]) < _ALONG_ROWS
    return _along(parameter, grad) < _ALONG


def _absorbed(parameter: torch.Tensor, grad: torch.Tensor, arrives: tuple[float, int] | None) -> bool:
    """Whether what arrives at a vector's reader cancels in every element; ``arrives`` is its rms and how many."""
    step = torch.finfo(parameter.dtype).eps
    if arrives is None or step > _COARSEST or parameter.numel() == 0:
        return False
    size, count = arrives
    terms = max(count / parameter.numel(), 1.0)
    rms = float(grad.norm()) / math.sqrt(parameter.numel())
    return size > 0 and rms < _ROUNDING * step * size * math.sqrt(terms)


def _arriving(graph: Graph, readings: Mapping[int, Reading], name: str) -> tuple[float, int] | None:
    """The gradient's rms and the number of elements at the one op that adds the parameter to the data."""
    readers = graph.readers.get(name, ())
    reading = readings.get(readers[0]) if len(readers) == 1 else None
    if reading is None or reading.grad_rms is None:
        return None
    op = graph.ops[reading.index]
    bias = op.attrs.get("operands", {}).get("bias")
    added = op.inputs if op.name in ("add", "sub") else op.inputs[bias : bias + 1] if isinstance(bias, int) else ()
    itself = (graph.behind_reshapes(graph.ops[index]).parameter for index in added)
    return (reading.grad_rms, reading.numel) if any(each is not None and each.name == name for each in itself) else None
