"""The instrument of one pass: statistics of every op's output, and of the gradient that comes back to it."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from stablelint.graph.families import CONTRACTIONS, RECTIFIERS, RECURRENT, RESHAPES, WEIGHTED
from stablelint.probe.tensor_statistics import (
    common_share,
    dead_share,
    mean,
    rms,
    row_statistics,
    sampled_rms,
    saturated_share,
    similarity,
    token_similarity,
)

#: Ops behind which axis 1 of a sequence need not hold the channels any more.
_RELAYING = (RESHAPES - {"to", "contiguous", "clone", "identity"}) | WEIGHTED | CONTRACTIONS

#: Ops whose result is memory that others wrote, too.
_MOVES = RESHAPES | {"setitem", "copy", "fill", "index_copy", "index_put", "scatter", "masked_scatter"}


def readable(name: str, output: object) -> bool:
    """Whether the output of an op named ``name`` is an activation with values (inside vmap a tensor has none)."""
    if name == "parameter" or not isinstance(output, torch.Tensor):
        return False
    if not output.is_floating_point() or output.numel() == 0:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(output)


@dataclass
class Reading:
    """What was measured at one op in one pass; see :class:`stablelint.signals.Signal` for the meanings."""

    index: int
    name: str
    numel: int = 0
    channels: int = -1
    mean: float = math.nan
    rms: float = math.nan
    grad_rms: float | None = None
    similarity: float | None = None
    token_similarity: float | None = None
    unit_similarity: float | None = None
    grad_unit_similarity: float | None = None
    dead: float | None = None
    saturated: float | None = None
    retention: float | None = None
    steps_heard: float | None = None
    step_variation: float | None = None
    peak: float | None = None
    entropy: float | None = None
    uniform_peak: float | None = None
    finite: bool = True
    grad_finite: bool = True
    nan: bool = False

    @property
    def alike(self) -> bool:
        """Whether all units compute much the same, so that it matters whether they learn the same, too."""
        return self.unit_similarity is not None and self.unit_similarity > 0.99


@dataclass
class Gauge:
    """A listener for :func:`stablelint.trace.trace` on real tensors.

    It puts a tensor hook on every floating output (module hooks miss functional calls, break on in-place
    ReLU and never fire for ``nn.MultiheadAttention.out_proj``) and keeps numbers only, no activations.
    ``outputs`` holds the tensors by op index for the caller, who drops them when the loss is formed, and who says
    before the backward pass which recurrent ops are ``batch_first``. With ``channels``, the axes of the units as an
    earlier pass found them, only what differs between draws is read: sizes, what is saturated or peaked, how alike
    samples are in the ops ``compared``, and what is dead in the ``dying`` ones.
    """

    batch: int | None = None
    readings: dict[int, Reading] = field(default_factory=dict)
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)
    backward_order: list[int] = field(default_factory=list)
    fused: dict[int, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    batch_first: frozenset[int] = frozenset()
    channels: Mapping[int, int] | None = None
    compared: frozenset[int] = frozenset()
    dying: frozenset[int] = frozenset()
    _channelled: set[int] = field(default_factory=set)

    def __call__(
        self,
        index: int,
        name: str,
        module: str,  # noqa: ARG002 (the listener's signature)
        inputs: tuple[torch.Tensor, ...],
        output: torch.Tensor,
    ) -> None:
        """Read one op's output; called right after the op, with autograd on."""
        if readable(name, output):
            self._read(index, name, inputs, output)

    def _read(self, index: int, name: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.outputs[index] = output
        reading = self.readings[index] = Reading(
            index, name, output.numel(), channels=self._channels(index, name, inputs, output)
        )
        with torch.no_grad():
            self._forward(reading, name, inputs, self._values(output))
        if output.requires_grad:
            listen(output, functools.partial(self._backward, index))
        if name in RECURRENT and inputs and inputs[0].requires_grad and inputs[0].dim() == 3:
            listen(inputs[0], functools.partial(self._through_time, index))

    def _channels(self, index: int, name: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> int:
        """The axis of the units: 1 of images and volumes and of sequences behind a Conv1d, else the last."""
        if self.channels is not None:
            return self.channels[index]
        if output.dim() != 3:
            return 1 if output.dim() > 3 else -1
        convolved = name in {"conv", "conv_transpose"}
        kept = name not in _RELAYING and any(
            id(source) in self._channelled and source.shape[:2] == output.shape[:2] for source in inputs
        )
        if convolved or kept:
            self._channelled.add(id(output))  # ``outputs`` keeps it alive, so the id stays its own
            return 1
        self._channelled.discard(id(output))  # written in place
        return -1

    def _forward(self, reading: Reading, name: str, inputs: tuple[torch.Tensor, ...], value: torch.Tensor) -> None:
        reading.rms = self._size(value)
        # a sum of squares may overflow while every element is finite
        reading.finite = math.isfinite(reading.rms) or bool(torch.isfinite(value).all())
        reading.nan = not reading.finite and bool(torch.isnan(value).any())
        if self.channels is None:
            reading.mean = mean(value)
        if name in RESHAPES or not reading.finite:
            return
        reading.saturated = saturated_share(name, value)
        if name == "softmax" and value.dim() > 2:
            reading.peak, reading.entropy, reading.uniform_peak = row_statistics(value)
        elif name == "scaled_dot_product_attention":
            self.fused[reading.index] = inputs
        self.look(reading, value, self.batch)

    def _size(self, value: torch.Tensor) -> float:
        """The rms; that of a sample where an earlier pass has looked at every element."""
        return rms(value) if self.channels is None else sampled_rms(value)

    def _values(self, tensor: torch.Tensor) -> torch.Tensor:
        """What there is to read of an activation or a gradient."""
        return tensor.detach()

    def look(self, reading: Reading, value: torch.Tensor, batch: int | None) -> None:
        """Read what is no mean over elements, and needs all samples and units of an op's output at once."""
        if reading.name in RECTIFIERS and (self.channels is None or reading.index in self.dying):
            reading.dead = dead_share(value, reading.channels)
        if self.channels is not None and reading.index not in self.compared:
            return
        if batch and value.dim() > 1 and value.shape[0] == batch > 1:
            reading.similarity = similarity(value)
            tokens = value.movedim(reading.channels, -1)
            if tokens.dim() == 3 and tokens.shape[1] > 1:
                reading.token_similarity = token_similarity(tokens)
        if self.channels is None:
            reading.unit_similarity = common_share(value, reading.channels)

    def settle(self) -> None:
        """Read again, at the end of the forward pass, writes and views that held NaN: memory is written in steps.

        An op that computes NaN itself is one that does, whatever is written over it later.
        """
        with torch.no_grad():
            for index, output in self.outputs.items():
                reading = self.readings[index]
                if reading.nan and reading.name in _MOVES:
                    self._forward(reading, reading.name, (), self._values(output))

    def look_at_gradient(self, reading: Reading, grad: torch.Tensor) -> None:
        """The same of the gradient."""
        reading.grad_unit_similarity = common_share(grad, reading.channels)

    def _backward(self, index: int, grad: torch.Tensor | None) -> None:
        if grad is None:  # an undefined gradient, which autograd passes for outputs that nothing used
            return
        reading = self.readings[index]
        self.backward_order.append(index)
        with torch.no_grad():
            grad = self._values(grad)
            reading.grad_rms = self._size(grad)
            reading.grad_finite = math.isfinite(reading.grad_rms) or bool(torch.isfinite(grad).all())
            if reading.alike and reading.grad_finite:
                self.look_at_gradient(reading, grad)

    def forget_backward(self) -> None:
        """Drop what an earlier backward pass left: the next one may not reach all ops."""
        self.backward_order.clear()
        for reading in self.readings.values():
            reading.grad_rms = reading.grad_unit_similarity = reading.retention = None
            reading.steps_heard = reading.step_variation = None
            reading.grad_finite = True

    def _through_time(self, index: int, grad: torch.Tensor | None) -> None:
        """The gradient at each time step of a recurrent op's input."""
        if grad is None:
            return
        time = 1 if index in self.batch_first else 0
        with torch.no_grad():
            steps = self._values(grad).double().movedim(time, 0).flatten(1).square().mean(1).sqrt().tolist()
        self.look_at_steps(index, steps)

    def look_at_steps(self, index: int, steps: list[float]) -> None:
        """Read a recurrent op's gradient rms at each time step."""
        reading = self.readings[index]
        reading.retention = retention(steps)
        reading.steps_heard, reading.step_variation = heard(steps)


def listen(tensor: torch.Tensor, hear: Callable[[torch.Tensor | None], None]) -> None:
    """Call ``hear`` with the gradient of ``tensor`` as it is now.

    The hook goes on the node that made it: hooks on the tensor itself pile up when it is written in place, and a
    second one on the base of a written view crashes torch (longformer, torch 2.14).
    """
    node = tensor.grad_fn
    if node is None:
        tensor.register_hook(hear)  # type: ignore[no-untyped-call]
        return
    place = tensor.output_nr

    def pick(grads: tuple[torch.Tensor, ...]) -> None:
        hear(grads[place])

    node.register_prehook(pick)


#: A time step whose gradient is a smaller share of the largest one's is not heard any more: what is one step of the
#: optimiser to the last is less than a thousandth to it.
HEARD = 1e-3


def heard(steps: list[float]) -> tuple[float | None, float | None]:
    """Share of time steps with at least :data:`HEARD` of the largest gradient, and the coefficient of variation of all.

    0 for the latter: every step gets the same gradient; the root of their number: one step gets all.
    """
    if len(steps) < 4 or not all(map(math.isfinite, steps)) or max(steps) == 0:
        return None, None
    share = sum(step >= HEARD * max(steps) for step in steps) / len(steps)
    return share, statistics.pstdev(steps) / statistics.fmean(steps)


def retention(steps: list[float]) -> float | None:
    """Median factor on the gradient per step on its way back from the step that receives most of it.

    Where every step is read by the loss the factor is near 1. Below four steps there is nothing to say.
    """
    if len(steps) < 4 or not all(map(math.isfinite, steps)) or max(steps) == 0:
        return None
    last = max(range(len(steps)), key=steps.__getitem__)
    way = steps[: last + 1] if last >= len(steps) - 1 - last else steps[last:][::-1]
    if len(way) < 4:
        return None
    factors = [before / after if after > 0 else 0.0 for before, after in itertools.pairwise(way)]
    # the first steps on the way back decide; far away everything has underflowed to 0
    return statistics.median(factors[-8:])
