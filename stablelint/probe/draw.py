"""One draw: a model with one batch, run forward and backward under the gauge."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stablelint.errors import TraceTargetError, no_gradient
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.aggregate import Pass, aggregate
from stablelint.probe.batches import batch_size, differentiable
from stablelint.probe.frozen import calibrate
from stablelint.probe.gauge import Gauge
from stablelint.probe.invariance import invariances
from stablelint.probe.kernel import OUTPUTS, Kernel, tangent_kernel
from stablelint.probe.known import Known
from stablelint.probe.nonfinite import first_nonfinite_backward, first_nonfinite_forward
from stablelint.probe.objective import objective, of_output
from stablelint.probe.sharded import Ranks
from stablelint.probe.state import materialised, preserved, seed_everything, training
from stablelint.probe.tensor_statistics import fused_row_statistics
from stablelint.probe.wake import asleep, awakened
from stablelint.signals.waking import FAINT, hidden
from stablelint.trace import Origins, Trace, trace
from stablelint.trace.replay import DivergedError
from stablelint.trace.tracer import explain

Loss = Callable[..., torch.Tensor]

#: Dropout and the projection draw by themselves: from one seed they would be the numbers of weights and data again.
NOISE, PROJECTION = 2_000_003, 3_000_017
#: Elements of all activations of a pass above which a model counts as large (a ResNet-18 on two images has 2e7).
_LARGE = 30_000_000


@dataclass(frozen=True)
class Draw:
    """What is run: ``seed`` decides on dropout and on the projection, ``loss`` takes the model's output alone.

    ``number`` counts the draws of a measurement: the tangent kernel of a large model is that of the first. Without
    ``learning`` nothing is measured of single samples and of the directions of parameters.
    """

    model: nn.Module
    inputs: Inputs
    seed: int = 0
    number: int = 0
    loss: Callable[[object], torch.Tensor] | None = None
    origins: Origins | None = None
    ranks: Ranks = field(default_factory=Ranks)
    learning: bool = True

    @classmethod
    def of(
        cls, model: nn.Module, inputs: Inputs, seed: int, number: int, loss: Loss | None, origins: Origins | None = None
    ) -> Draw:
        """Called by every process that ``model`` is spread over; lazy layers get their shapes."""
        if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            batch = differentiable(inputs)
            try:
                with torch.no_grad(), materialised(model), training(model):
                    model(*batch.args, **batch.kwargs)
            except Exception as error:
                raise TraceTargetError(explain(error)) from error
        scalar = None if loss is None else of_output(loss, inputs)
        return cls(model, inputs, seed, number, scalar, origins, Ranks.of(model, inputs))

    def measured(self, first: Pass | None = None) -> Pass:
        """Run it; as the ``first`` draw was, where there is one: the same ops, the same decision to wake zeros.

        The model and all random states are left as found. Raises TraceTargetError when the forward pass fails.
        """
        with torch.inference_mode(False), preserved(self.model), training(self.model), torch.enable_grad():
            self._seeded()
            calibrate(self.model, differentiable(self.inputs))
            if first is not None:
                found = self._woken(first) if first.awakened else None
                return found or self._cheapest(first.known)
            found = self._cheapest(None)
            if not asleep(self.model, self.ranks) or not (found.stopped or found.faint(FAINT)):
                return found
            woken = self._woken(found)
            # small and not zero, and waking does not help: something else is the matter
            return found if woken is None or (woken.faint(FAINT) and not found.stopped) else woken

    def behind(self, found: Pass) -> Pass | None:
        """A pass with zeros woken that hide nothing of the trunk and yet some parameters; None where none are hidden.

        The model and all random states are left as found.
        """
        if found.awakened or found.nonfinite is not None or not hidden(aggregate([found])):
            return None
        with torch.inference_mode(False), preserved(self.model), training(self.model), torch.enable_grad():
            self._seeded()
            calibrate(self.model, differentiable(self.inputs))
            woken = replace(self, learning=False)._woken(found)
        if woken is None or woken.nonfinite is not None:
            return None
        return woken if [op.name for op in woken.graph] == [op.name for op in found.graph] else None

    def _seeded(self) -> None:
        seed_everything(NOISE + self.seed)

    def _scalar(self, graph: Graph, output: object) -> torch.Tensor:
        if self.loss is not None:
            return self.loss(output)
        return objective(graph, output, PROJECTION + self.seed, self.ranks)

    def _woken(self, before: Pass) -> Pass | None:
        """A pass with (almost) zero parameters woken, of the ops of ``before``; None where none wakes or it fails."""

        def plain() -> torch.Tensor:
            batch = differentiable(self.inputs)
            return self._scalar(before.graph, self.model(*batch.args, **batch.kwargs))

        try:
            with awakened(self.model, plain, self.ranks) as woken:
                if not woken:
                    return None
                known = before.known if before.awakened else None
                return replace(self._cheapest(known), awakened=woken)
        except Exception:  # the user's loss, or a model that takes no other values: what was measured stands
            return None

    def _cheapest(self, known: Known | None) -> Pass:
        """A pass over what verdicts need; over all ops the first time, and where something is not as it was then."""
        if known is not None:
            self._seeded()
            with contextlib.suppress(DivergedError):
                found = self._pass(known)
                if found.finite:
                    return found
        self._seeded()
        return self._pass(None)

    def _pass(self, known: Known | None) -> Pass:
        gauge = self.ranks.gauge(batch_size(self.inputs))
        recorded = self._run(gauge, known)
        gauge.settle()
        graph, flow, ranks = recorded.graph, recorded.graph.flow, self.ranks
        ranks.merge_forward(gauge, graph)
        forward = first_nonfinite_forward(recorded, gauge)
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        end = None if flow.sink is None else gauge.outputs.get(flow.sink)
        if end is None or not end.requires_grad:
            raise TraceTargetError(no_gradient(recorded.output))
        sink = ranks.sink(gauge, graph)
        scalar = self._scalar(graph, recorded.output)
        _read_fused(graph, gauge)
        kernel = None
        if self.learning and forward is None and sink is not None and sink.requires_grad:
            elements = sum(reading.numel for reading in gauge.readings.values()) if known is None else known.elements
            if self.number == 0 or elements < _LARGE:
                kernel = self._kernel(sink, [p for _, p in named], elements)
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
        found = Pass(graph, gauge.readings, parameters, kernel, forward or backward, known=known)
        if known is None:
            found.known = Known.of(recorded, gauge) if ranks.alone else None  # sharded modules make other calls again
            found.invariances = invariances(graph, gauge.readings, named) if self.learning and self.number == 0 else {}
        return found

    def _run(self, gauge: Gauge, known: Known | None) -> Trace:
        batch = differentiable(self.inputs)
        if known is not None:
            return known.again(self.model, batch, gauge)
        found = trace(self.model, batch, fake=False, origins=self.origins, listener=gauge)
        gauge.batch_first = frozenset(op.index for op in found.graph if op.attrs.get("batch_first"))
        return found

    def _kernel(self, sink: torch.Tensor, parameters: list[nn.Parameter], elements: int) -> Kernel | None:
        generator = torch.Generator().manual_seed(PROJECTION + self.seed)
        projection = torch.randn(sink.shape[1:], generator=generator).to(sink).expand(sink.shape)
        # one backward pass per output: fewer on large models, and none again for their further draws
        outputs = OUTPUTS if elements < _LARGE else 4
        try:
            return tangent_kernel(sink, projection, parameters, outputs, self.ranks)
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
