"""Measure the signals of a model: a few forward and backward passes over several seeds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

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
from stablelint.probe.gauge import Gauge
from stablelint.probe.kernel import OUTPUTS, Kernel, tangent_kernel
from stablelint.probe.known import Known
from stablelint.probe.nonfinite import first_nonfinite_backward, first_nonfinite_forward
from stablelint.probe.objective import objective, of_output
from stablelint.probe.state import materialised, preserved, seed_everything, training
from stablelint.probe.supply import supply
from stablelint.probe.tensor_statistics import fused_row_statistics, rms
from stablelint.probe.wake import FAINT, asleep, awakened
from stablelint.signals import Signals
from stablelint.trace import Origins, trace
from stablelint.trace.replay import DivergedError
from stablelint.trace.tracer import explain

Rebuild = Callable[[int], tuple[nn.Module, Inputs]]
Loss = Callable[..., torch.Tensor]

SEEDS = 3
#: Seeds for which the tangent kernel is formed, which costs as much as many passes.
KERNELS = 3
#: Elements of all activations of a pass above which a model counts as large (a ResNet-18 on two images has 2e7).
_LARGE = 30_000_000


def measure(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    *,
    origins: Origins | None = None,
    rebuild: Rebuild | None = None,
    seeds: int = SEEDS,
    loss: Loss | None = None,
    batches: int | None = None,
    deep: bool = False,
) -> tuple[Graph, Signals]:
    """Run ``model`` on ``inputs`` and return the trace of the run with the signals measured on it.

    The first pass uses ``model`` and ``inputs`` as given; further ones draw new weights and inputs through
    ``rebuild(seed)``, or only a new projection without it. ``inputs`` may also be a DataLoader or another iterable
    of batches: the seeds then go through the first ``batches`` of them (as many as seeds by default), which are taken
    apart as :mod:`stablelint.feed` says. ``loss`` takes the model's output, or the output and the target or ``batch``,
    and gives a scalar; by default it is the model's own loss or a fixed random projection of its outputs with a
    gradient of unit variance (:mod:`stablelint.probe.objective`). ``deep`` adds what one normal pass cannot show
    (:mod:`stablelint.probe.deep`), of the first model. The model and all random states are left as found, but for lazy
    layers, which get their shapes.

    Raises TraceTargetError when the forward pass fails, LossTargetError when the loss does, InputTargetError when a
    loader or its batches cannot be used.
    """
    inputs, rebuild = supply(model, inputs, rebuild=rebuild, loss=loss, batches=batches, default=seeds)
    first = _measure_once(model, inputs, origins, 0, loss)
    passes = [first]
    for seed in range(1, seeds):
        if rebuild is not None:
            with preserved(nn.Module()):
                seed_everything(seed)
                again, fresh = rebuild(seed)
        else:
            again, fresh = model, inputs
        other = _measure_once(again, fresh, None, seed, loss, first)
        if [op.name for op in other.graph] == [op.name for op in first.graph]:
            passes.append(other)
    signals = aggregate(passes)
    if deep:
        scalar = None if loss is None else of_output(loss, inputs)
        signals = replace(signals, deep=deepen(model, inputs, first.graph, signals, loss=scalar))
    return first.graph, signals


def _measure_once(
    model: nn.Module,
    inputs: Inputs,
    origins: Origins | None,
    seed: int,
    loss: Loss | None,
    first: Pass | None = None,
) -> Pass:
    """One draw; as the ``first`` one was, where there is one: the same ops, and the same decision to wake zeros."""
    known = None if first is None else first.known
    loss = None if loss is None else of_output(loss, inputs)
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        batch = differentiable(inputs)
        try:
            with torch.no_grad(), materialised(model), training(model):
                model(*batch.args, **batch.kwargs)
        except Exception as error:
            raise TraceTargetError(explain(error)) from error
    with torch.inference_mode(False), preserved(model), training(model), torch.enable_grad():
        seed_everything(seed)
        calibrate(model, differentiable(inputs))
        seed_everything(seed)
        if first is not None and first.awakened:
            found = _awake(model, inputs, origins, seed, loss, first)
            return _cheapest(model, inputs, origins, seed, loss, known) if found is None else found
        found = _cheapest(model, inputs, origins, seed, loss, known)
        if first is not None or not asleep(model) or not (found.stopped or found.faint(FAINT)):
            return found
        woken = _awake(model, inputs, origins, seed, loss, found)
        # small and not zero, and waking does not help: something else is the matter
        return found if woken is None or (woken.faint(FAINT) and not found.stopped) else woken


def _awake(
    model: nn.Module, inputs: Inputs, origins: Origins | None, seed: int, loss: Loss | None, before: Pass
) -> Pass | None:
    """A pass with (almost) zero parameters woken, of the graph of ``before``; None where the loss has no gradient."""

    def plain() -> torch.Tensor:
        batch = differentiable(inputs)
        output = model(*batch.args, **batch.kwargs)
        return objective(before.graph, output, seed) if loss is None else loss(output)

    try:
        with awakened(model, plain) as woken:
            known = before.known if before.awakened else None
            return replace(_cheapest(model, inputs, origins, seed, loss, known), awakened=woken)
    except RuntimeError:
        return None  # the user's loss: what was measured says so


def _cheapest(
    model: nn.Module, inputs: Inputs, origins: Origins | None, seed: int, loss: Loss | None, known: Known | None
) -> Pass:
    """A pass that looks at what verdicts need; at all ops the first time, and where something is not as it was then."""
    if known is not None:
        with contextlib.suppress(DivergedError):
            found = _pass(model, inputs, origins, seed, loss, known)
            if found.finite:
                return found
        seed_everything(seed)
    return _pass(model, inputs, origins, seed, loss)


def _pass(
    model: nn.Module,
    inputs: Inputs,
    origins: Origins | None,
    seed: int,
    loss: Loss | None,
    known: Known | None = None,
) -> Pass:
    gauge = Gauge(batch=batch_size(inputs), channels=None if known is None else known.channels)
    batch = differentiable(inputs)
    if known is None:
        recorded = trace(model, batch, fake=False, origins=origins, listener=gauge)
    else:
        recorded = known.again(model, batch, gauge)
    graph, flow = recorded.graph, recorded.graph.flow
    gauge.batch_first = frozenset(op.index for op in graph if op.attrs.get("batch_first"))
    forward = first_nonfinite_forward(recorded, gauge)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if flow.sink is None or not gauge.outputs[flow.sink].requires_grad:
        raise TraceTargetError(NO_GRADIENT)
    sink = None if graph.head is None else gauge.outputs.get(graph.head)
    scalar = loss(recorded.output) if loss is not None else objective(graph, recorded.output, seed)
    _read_fused(graph, gauge)
    kernel = None
    if forward is None and sink is not None and sink.requires_grad:
        elements = sum(reading.numel for reading in gauge.readings.values()) if known is None else known.elements
        if seed == 0 or (elements < _LARGE and seed < KERNELS):
            kernel = _kernel(sink, seed, [p for _, p in named], elements)
    gauge.forget_backward()
    for _, parameter in named:
        parameter.grad = None
    # backward() and not grad(): reentrant checkpointing refuses the latter
    scalar.backward()  # type: ignore[no-untyped-call]
    parameters = {name: (rms(p), None if p.grad is None else rms(p.grad)) for name, p in named}
    gauge.outputs.clear()
    finite = all(grad is None or math.isfinite(grad) for _, grad in parameters.values())
    backward = None if forward else first_nonfinite_backward(graph, gauge, harmless=finite)
    known = known or Known.of(recorded, gauge)
    return Pass(graph, gauge.readings, parameters, kernel, forward or backward, known=known)


def _kernel(sink: torch.Tensor, seed: int, parameters: list[nn.Parameter], elements: int) -> Kernel | None:
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(sink.shape[1:], generator=generator).to(sink).expand(sink.shape)
    # one backward pass per output: fewer on large models, and none again for their further seeds
    outputs = OUTPUTS if elements < _LARGE else 4
    try:
        return tangent_kernel(sink, projection, parameters, outputs)
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
