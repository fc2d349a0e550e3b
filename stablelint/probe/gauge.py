"""The instrument of one pass: statistics of every op's output, and of the gradient that comes back to it."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from stablelint.graph.families import CONTRACTIONS, RECTIFIERS, RECURRENT, RESHAPES, WEIGHTED

#: Ops behind which axis 1 of a sequence need not hold the channels any more.
_RELAYING = (RESHAPES - {"to", "contiguous", "clone", "identity"}) | WEIGHTED | CONTRACTIONS
#: Rows of an attention matrix, and samples and features of an activation, that are looked at.
MAX_ROWS, MAX_UNITS = 4096, 256
#: With fewer samples and positions than this, a unit that was never active says nothing.
MIN_POSITIONS = 8


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
    before the backward pass which recurrent ops are ``batch_first``.
    """

    batch: int | None = None
    readings: dict[int, Reading] = field(default_factory=dict)
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)
    backward_order: list[int] = field(default_factory=list)
    fused: dict[int, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    batch_first: frozenset[int] = frozenset()
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
            index, name, output.numel(), channels=self._channels(name, inputs, output)
        )
        with torch.no_grad():
            self._forward(reading, name, inputs, self._values(output))
        if output.requires_grad:
            listen(output, functools.partial(self._backward, index))
        if name in RECURRENT and inputs and inputs[0].requires_grad and inputs[0].dim() == 3:
            listen(inputs[0], functools.partial(self._through_time, index))

    def _channels(self, name: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> int:
        """The axis of the units: 1 of images and volumes and of sequences behind a Conv1d, else the last."""
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
        reading.mean, reading.rms = float(value.mean(dtype=torch.float64)), rms(value)
        # a sum of squares may overflow while every element is finite
        reading.finite = math.isfinite(reading.rms) or bool(torch.isfinite(value).all())
        reading.nan = not reading.finite and bool(torch.isnan(value).any())
        if name in RESHAPES or not reading.finite:
            return
        reading.saturated = saturated_share(name, value)
        if name == "softmax" and value.dim() > 2:
            reading.peak, reading.entropy, reading.uniform_peak = row_statistics(value)
        elif name == "scaled_dot_product_attention":
            self.fused[reading.index] = inputs
        self.look(reading, value, self.batch)

    def _values(self, tensor: torch.Tensor) -> torch.Tensor:
        """What there is to read of an activation or a gradient."""
        return tensor.detach()

    def look(self, reading: Reading, value: torch.Tensor, batch: int | None) -> None:
        """Read what is no mean over elements, and needs all samples and units of an op's output at once."""
        if batch and value.dim() > 1 and value.shape[0] == batch > 1:
            reading.similarity = similarity(value)
            tokens = value.movedim(reading.channels, -1)
            if tokens.dim() == 3 and tokens.shape[1] > 1:
                reading.token_similarity = token_similarity(tokens)
        if reading.name in RECTIFIERS:
            reading.dead = dead_share(value, reading.channels)
        reading.unit_similarity = common_share(value, reading.channels)

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
            reading.grad_rms = rms(grad)
            reading.grad_finite = math.isfinite(reading.grad_rms) or bool(torch.isfinite(grad).all())
            if reading.alike and reading.grad_finite:
                self.look_at_gradient(reading, grad)

    def forget_backward(self) -> None:
        """Drop what an earlier backward pass left: the next one may not reach all ops."""
        self.backward_order.clear()
        for reading in self.readings.values():
            reading.grad_rms = reading.grad_unit_similarity = reading.retention = None
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
        self.readings[index].retention = retention(steps)


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


def rms(value: torch.Tensor) -> float:
    """Root mean square over all elements, in double precision so that 1e-30 does not become 0."""
    value = value.detach()
    scale = float(value.abs().max()) if value.numel() else 0.0
    if scale == 0 or not math.isfinite(scale):
        return scale
    return scale * math.sqrt(float((value / scale).square().mean(dtype=torch.float64)))


def similarity(value: torch.Tensor) -> float | None:
    """Mean cosine between different samples; shape (batch, ...)."""
    flat = value.flatten(1).double()
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
    table = value.double()
    total = float((table - table.mean((0, 1))).square().mean())
    within = float((table - table.mean(1, keepdim=True)).square().mean())
    noise = 1e-14 * float(table.square().mean())  # what float32 cannot tell apart
    return 1 - within / total if table.shape[0] > 1 and total > noise else None


def units(value: torch.Tensor, channels: int) -> torch.Tensor:
    """Positions by units, which axis ``channels`` holds."""
    if value.dim() < 2:
        return value.reshape(1, -1)
    value = value.movedim(channels, -1)
    return value.reshape(-1, value.shape[-1])


def dead_share(value: torch.Tensor, channels: int = -1) -> float | None:
    """Share of units that are zero at every position of the batch; None when there are too few positions."""
    table = units(value, channels)
    if table.shape[0] < MIN_POSITIONS:
        return None
    return float((table == 0).all(0).double().mean())


def saturated_share(name: str, value: torch.Tensor) -> float | None:
    """Share of elements whose derivative is below a hundredth of the largest, from the function's output."""
    if name == "sigmoid":
        return float((value * (1 - value) < 0.0025).double().mean())
    if name == "tanh":
        return float((1 - value.square() < 0.01).double().mean())
    return None


def common_share(value: torch.Tensor, channels: int = -1) -> float | None:
    """Share of the second moment that all units have in common: mean over units, squared, over the mean square."""
    table = units(value, channels)[:MAX_ROWS, :MAX_UNITS].double()
    if table.shape[1] < 2:
        return None
    total = float(table.square().mean())
    return float(table.mean(1).square().mean()) / total if total > 0 else None


def row_statistics(weights: torch.Tensor) -> tuple[float, float, float]:
    """Mean of the largest weight of a row, mean entropy over log(length), and the peak of a uniform row."""
    keys = weights.shape[-1]
    rows = weights.reshape(-1, keys)[:MAX_ROWS].double()
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
    """The same for fused attention, whose weights are never formed: recomputed for the first few heads."""
    query, key = (x.detach().reshape(-1, *x.shape[-2:])[:4].double() for x in inputs[:2])
    logits = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        logits = logits.masked_fill(future, -math.inf)
    elif len(inputs) > 3 and inputs[3].shape[-2:] == logits.shape[-2:]:
        mask = inputs[3].detach().expand(*inputs[0].shape[:-2], *logits.shape[-2:])
        mask = mask.reshape(-1, *logits.shape[-2:])[:4]
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    return row_statistics(logits.softmax(-1).nan_to_num())
