"""Unusual samples: zeros, a duplicate, padding, one repeated token, large values, a mask that covers all of it.

Real data holds them and N(0, 1) does not. Each is tried with one plain forward and backward pass; only where a
result is not finite a second, recorded pass looks for the op.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from stablelint.errors import TraceTargetError
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.batches import batch_size, differentiable, mapped
from stablelint.probe.gauge import Gauge
from stablelint.probe.nonfinite import first_nonfinite_backward, first_nonfinite_forward
from stablelint.probe.objective import objective
from stablelint.probe.state import preserved, seed_everything
from stablelint.signals import Trigger
from stablelint.signals.waking import RATE
from stablelint.trace import Trace, tensors_in, trace

#: Unscaled audio or counts reach it; its square still lies far inside of float32.
LARGE = 1e4
LARGE_VALUES = "a sample of large values"
ZEROS, TWICE, PADDING = "a sample of zeros", "a sample twice", "a sample of padding (id 0)"
TOKEN, MASK = "a sample of one repeated token", "a sample with {} {} throughout"
#: What real data hold sooner or later; who masks a whole sample or forgets to scale does so in code of his own.
COMMON = frozenset({ZEROS, TWICE, PADDING, TOKEN})

Loss = Callable[[object], torch.Tensor]


def unusual(model: nn.Module, inputs: Inputs) -> Iterator[tuple[str, Inputs | None]]:
    """The name of each trigger with its batch, None where it makes no sense for these inputs.

    One sample is unusual and the others stay: a whole batch of zeros would have no variance for a BatchNorm, whose
    gradient then grows by 1/sqrt(eps) = 300 in each layer, and no data set holds one.
    """
    tensors = [tensor for tensor in tensors_in([inputs.args, inputs.kwargs]) if tensor.dim() > 0]
    batch = batch_size(inputs)

    def first(wanted: Callable[[torch.Tensor], bool], change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs | None:
        """The batch with its first sample changed in all tensors that are wanted."""
        if not any(wanted(tensor) for tensor in tensors):
            return None
        return mapped(inputs, lambda x: _first(x, change(x)) if x.dim() > 0 and wanted(x) else x)

    yield ZEROS, first(torch.Tensor.is_floating_point, lambda x: torch.zeros_like(x[0]))
    yield TWICE, first(lambda x: x.shape[0] == batch and len(x) > 1, lambda x: x[1])
    yield TOKEN, first(_is_sequence, lambda x: x[0, :1].expand_as(x[0]))
    yield PADDING, first(_is_ids, lambda x: torch.zeros_like(x[0]))
    yield LARGE_VALUES, first(torch.Tensor.is_floating_point, lambda x: x[0] * LARGE)
    for name in _masks(model, inputs):
        for value in (0, 1):
            yield MASK.format(name, value), _with_mask(model, inputs, name, value)


def triggers(
    model: nn.Module, inputs: Inputs, seed: int = 0, loss: Loss | None = None
) -> tuple[tuple[Trigger, ...], tuple[str, ...]]:
    """What is not finite on an unusual batch, and the names of the triggers that ran.

    The caller preserves the model's state and says that the normal batch is finite. A batch that the forward pass
    refuses is no finding: a model may check its inputs.
    """
    found, tried = [], []
    for name, batch in unusual(model, inputs):
        if batch is None:
            continue
        with preserved(model):
            try:
                if _finite(model, batch, seed, loss):
                    tried.append(name)
                    continue
                hit = _locate(model, batch, name, seed, loss)
                if hit is not None and _passes(model, batch, seed, loss):
                    hit = replace(hit, rare=True)
            except Exception:  # whatever the user's forward raises on it
                continue
        tried.append(name)
        if hit is not None:
            found.append(hit)
    return tuple(found), tuple(tried)


def _finite(model: nn.Module, inputs: Inputs, seed: int, loss: Loss | None) -> bool:
    """Whether outputs and gradients of parameters and inputs are finite in one plain pass."""
    seed_everything(seed)
    batch = differentiable(inputs)
    leaves = [p for p in model.parameters() if p.requires_grad]
    arguments = [x for x in tensors_in([batch.args, batch.kwargs]) if x.requires_grad]
    for leaf in leaves:
        leaf.grad = None
    for argument in arguments:
        argument.retain_grad()
    output = model(*batch.args, **batch.kwargs)
    outputs = [x for x in tensors_in(output) if x.is_floating_point() and x.requires_grad]
    if not outputs or not all(_is_finite(x) for x in outputs):
        return not outputs
    scalar = loss(output) if loss is not None else _sum(outputs, seed)
    scalar.backward()  # type: ignore[no-untyped-call]
    return all(x.grad is None or _is_finite(x.grad) for x in (*leaves, *arguments))


def _passes(model: nn.Module, inputs: Inputs, seed: int, loss: Loss | None) -> bool:
    """Whether it is over after one optimiser step: zero-initialised biases are not zero any more.

    Until then a sample of zeros stays one from layer to layer, and each norm multiplies its gradient by 1/sqrt(eps).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.copy_(RATE * torch.randn(parameter.shape, generator=generator))
    try:
        return _finite(model, inputs, seed, loss)
    except Exception:  # whatever the user's forward raises on these values
        return False


def _sum(outputs: list[torch.Tensor], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(())
    for value in outputs:
        weights = torch.randn(value.shape, generator=generator).to(value)
        total = total + (value * weights).sum().to(total)
    return total


@dataclass
class _Ranges(Gauge):
    """A gauge that also keeps the range of each op's finite floating inputs."""

    ranges: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __call__(
        self, index: int, name: str, module: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        super().__call__(index, name, module, inputs, output)
        finite = [x.detach()[torch.isfinite(x.detach())] for x in inputs if x.is_floating_point()]
        known = [x for x in finite if x.numel()]
        if known:
            self.ranges[index] = min(float(x.min()) for x in known), max(float(x.max()) for x in known)


def _locate(model: nn.Module, inputs: Inputs, name: str, seed: int, loss: Loss | None) -> Trigger | None:
    """The op whose result or whose backward pass is the first that is not finite."""
    seed_everything(seed)
    gauge = _Ranges(batch=batch_size(inputs))
    recorded = trace(model, differentiable(inputs), fake=False, listener=gauge)
    gauge.settle()
    found = first_nonfinite_forward(recorded, gauge)
    if found is None:
        finite = _backward(model, recorded, gauge, seed, loss)
        found = first_nonfinite_backward(recorded.graph, gauge, harmless=finite)
    if found is None:
        return None
    low, high = gauge.ranges.get(found.op, (None, None))
    return Trigger(
        name,
        found.op,
        found.name,
        found.site,
        found.direction,
        found.what,
        low,
        high,
        found.masked,
        name not in COMMON,
    )


def _backward(model: nn.Module, recorded: Trace, gauge: Gauge, seed: int, loss: Loss | None) -> bool:
    """Run the backward pass under the gauge; whether all gradients of parameters are finite."""
    graph: Graph = recorded.graph
    sink = graph.flow.sink
    if sink is None or not gauge.outputs[sink].requires_grad:
        raise TraceTargetError("no gradient")
    scalar = loss(recorded.output) if loss is not None else objective(graph, recorded.output, seed)
    for parameter in model.parameters():
        parameter.grad = None
    scalar.backward()  # type: ignore[no-untyped-call]
    gauge.outputs.clear()
    return all(p.grad is None or _is_finite(p.grad) for p in model.parameters())


def _is_finite(value: torch.Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())


def _is_ids(value: torch.Tensor) -> bool:
    """Whether a tensor holds token ids: whole numbers that are no mask of zeros and ones."""
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    return whole and value.dim() == 2 and bool((value > 1).any())


def _is_sequence(value: torch.Tensor) -> bool:
    return _is_ids(value) or (value.is_floating_point() and value.dim() == 3)


def _first(value: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    changed = value.clone()
    changed[0] = sample
    return changed


def _masks(model: nn.Module, inputs: Inputs) -> list[str]:
    """The arguments with "mask" in their name that hold one row for each sample."""
    bound = _bound(model, inputs)
    batch = batch_size(inputs)
    return [
        name
        for name, value in bound.items()
        if "mask" in name and isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[0] == batch
    ]


def _bound(model: nn.Module, inputs: Inputs) -> dict[str, object]:
    """The arguments by their names in the signature of the forward pass."""
    try:
        bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    except (TypeError, ValueError):
        return {}
    return {
        key: item
        for name, value in bound.arguments.items()
        for key, item in (value.items() if isinstance(value, dict) and name == "kwargs" else [(name, value)])
    }


def _with_mask(model: nn.Module, inputs: Inputs, name: str, value: int) -> Inputs:
    wanted = _bound(model, inputs)[name]
    fill = -math.inf if isinstance(wanted, torch.Tensor) and wanted.is_floating_point() and value == 0 else value

    def convert(x: torch.Tensor) -> torch.Tensor:
        return _first(x, torch.full_like(x[0], fill)) if x is wanted else x

    return mapped(inputs, convert)
