"""Measure the signals of a model: a few forward and backward passes over several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stablelint.errors import NO_GRADIENT, TraceTargetError
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.aggregate import Pass, aggregate
from stablelint.probe.batches import batch_size, differentiable
from stablelint.probe.deep import deepen
from stablelint.probe.frozen import calibrate
from stablelint.probe.gauge import Gauge, fused_row_statistics
from stablelint.probe.kernel import OUTPUTS, Kernel, tangent_kernel
from stablelint.probe.nonfinite import first_nonfinite_backward, first_nonfinite_forward
from stablelint.probe.objective import objective
from stablelint.probe.sharded import Ranks, refuse
from stablelint.probe.state import preserved, random_states, seed_everything, training
from stablelint.probe.wake import FAINT, asleep, awakened
from stablelint.signals import Signals
from stablelint.trace import Origins, trace

Rebuild = Callable[[int], tuple[nn.Module, Inputs]]
Loss = Callable[[object], torch.Tensor]

SEEDS = 3
#: Elements of all activations of a pass above which a model counts as large (a ResNet-18 on two images has 2e7).
_LARGE = 30_000_000


def measure(
    model: nn.Module,
    inputs: Inputs,
    *,
    origins: Origins | None = None,
    rebuild: Rebuild | None = None,
    seeds: int = SEEDS,
    loss: Loss | None = None,
    deep: bool = False,
) -> tuple[Graph, Signals]:
    """Run ``model`` on ``inputs`` and return the trace of the run with the signals measured on it.

    The first pass uses ``model`` and ``inputs`` as given; further ones draw new weights and inputs through
    ``rebuild(seed)``, or only a new projection without it. ``loss`` maps the model's output to a scalar; by
    default it is the model's own loss or a fixed random projection of its outputs with a gradient of unit variance
    (:mod:`stablelint.probe.objective`). ``deep`` adds what one normal pass cannot show
    (:mod:`stablelint.probe.deep`), of the first model. The model and all random states are left as found, but for lazy
    layers, which get their shapes. Every process that a model is spread over calls this, and gets the same signals
    (:mod:`stablelint.probe.sharded`).

    Raises TraceTargetError when the forward pass fails.
    """
    if deep:
        refuse(model, "the deep measurements")
    first = _measure_once(model, inputs, origins, 0, loss)
    passes = [first]
    for seed in range(1, seeds):
        if rebuild is not None:
            with preserved(nn.Module()):
                seed_everything(seed)
                again, fresh = rebuild(seed)
        else:
            again, fresh = model, inputs
        other = _measure_once(again, fresh, None, seed, loss)
        if [op.name for op in other.graph] == [op.name for op in first.graph]:
            passes.append(other)
    signals = aggregate(passes)
    if deep:
        signals = replace(signals, deep=deepen(model, inputs, first.graph, signals, loss=loss))
    return first.graph, signals


def _measure_once(model: nn.Module, inputs: Inputs, origins: Origins | None, seed: int, loss: Loss | None) -> Pass:
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        batch = differentiable(inputs)
        with torch.no_grad(), training(model), random_states():
            model(*batch.args, **batch.kwargs)
    ranks = Ranks.of(model, inputs)
    with preserved(model), training(model), torch.enable_grad():
        seed_everything(seed)
        calibrate(model, differentiable(inputs))
        seed_everything(seed)
        plain_pass = _pass(model, inputs, origins, seed, loss, ranks)
        if not asleep(model, ranks) or not (plain_pass.stopped or plain_pass.faint(FAINT)):
            return plain_pass

        def plain() -> torch.Tensor:
            batch = differentiable(inputs)
            output = model(*batch.args, **batch.kwargs)
            if loss is not None:
                return loss(output)
            return objective(plain_pass.graph, output, seed, ranks)

        try:
            with awakened(model, plain, ranks) as woken:
                found = replace(_pass(model, inputs, origins, seed, loss, ranks), awakened=woken)
            # small and not zero, and waking does not help: something else is the matter
            return plain_pass if found.faint(FAINT) and not plain_pass.stopped else found
        except RuntimeError:
            return plain_pass  # the user's loss has no gradient: what was measured says so


def _pass(
    model: nn.Module, inputs: Inputs, origins: Origins | None, seed: int, loss: Loss | None, ranks: Ranks
) -> Pass:
    gauge = ranks.gauge(batch_size(inputs))
    recorded = trace(model, differentiable(inputs), fake=False, origins=origins, listener=gauge)
    graph, flow = recorded.graph, recorded.graph.flow
    gauge.batch_first = frozenset(op.index for op in graph if op.attrs.get("batch_first"))
    ranks.merge_forward(gauge, graph)
    forward = first_nonfinite_forward(recorded, gauge)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if flow.sink is None or not gauge.outputs[flow.sink].requires_grad:
        raise TraceTargetError(NO_GRADIENT)
    sink = ranks.sink(gauge, graph)
    scalar = loss(recorded.output) if loss is not None else objective(graph, recorded.output, seed, ranks)
    _read_fused(graph, gauge)
    kernel = None
    if forward is None and sink is not None and sink.requires_grad:
        elements = sum(reading.numel for reading in gauge.readings.values())
        if seed == 0 or elements < _LARGE:
            kernel = _kernel(sink, seed, [p for _, p in named], elements, ranks)
    gauge.forget_backward()
    for _, parameter in named:
        parameter.grad = None
    # backward() and not grad(): reentrant checkpointing refuses the latter
    scalar.backward()  # type: ignore[no-untyped-call]
    gauge.outputs.clear()
    ranks.merge_backward(gauge)
    sizes = ranks.sizes([p for _, p in named])
    grads = ranks.sizes([p.grad for _, p in named])
    parameters = {name: (size or 0.0, grad) for (name, _), size, grad in zip(named, sizes, grads, strict=True)}
    finite = all(grad is None or math.isfinite(grad) for _, grad in parameters.values())
    backward = None if forward else first_nonfinite_backward(graph, gauge, harmless=finite)
    return Pass(graph, gauge.readings, parameters, kernel, forward or backward)


def _kernel(
    sink: torch.Tensor, seed: int, parameters: list[nn.Parameter], elements: int, ranks: Ranks
) -> Kernel | None:
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(sink.shape[1:], generator=generator).to(sink).expand(sink.shape)
    # one backward pass per output: fewer on large models, and none again for their further seeds
    outputs = OUTPUTS if elements < _LARGE else 4
    try:
        return tangent_kernel(sink, projection, parameters, outputs, ranks)
    except RuntimeError:
        return None  # a graph that cannot be walked twice (custom autograd functions)


def _read_fused(graph: Graph, gauge: Gauge) -> None:
    for index, inputs in gauge.fused.items():
        attrs = graph.ops[index].attrs
        scale = attrs.get("scale")
        with torch.no_grad():
            statistics = fused_row_statistics(inputs, scale, bool(attrs.get("is_causal")))
        reading = gauge.readings[index]
        reading.peak, reading.entropy, reading.uniform_peak = statistics
    gauge.fused.clear()
