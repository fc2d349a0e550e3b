"""Half precision, told from float32 values: what overflows, what flushes to zero, what a sum absorbs.

float16 holds magnitudes from 2**-24 (subnormal; what is below 2**-25 rounds to 0) to 65504; bfloat16 has the range of
float32 and 8 bits of mantissa, so a + b = a when b is below 2**-9 of a (Micikevicius et al. 2018, arXiv:1710.03740,
section 3.2; Kalamkar et al. 2019, arXiv:1905.12322). No half-precision arithmetic and no GPU is needed for that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe.batches import differentiable
from stablelint.probe.gauge import listen, readable
from stablelint.probe.objective import objective
from stablelint.probe.state import seed_everything
from stablelint.probe.tensor_statistics import rms
from stablelint.signals import HalfRun, Precision
from stablelint.trace import tensors_in, trace

#: float16's largest value and the exponent below which it rounds to 0; bfloat16's half unit in the last place.
LARGEST, FLUSHED, ABSORBED = 65504.0, -25, 2.0**-9
#: The range of exponents that the histograms tell apart, and the largest loss scale (PyTorch's starts at 2**16).
LOWEST, HIGHEST, MAX_SCALE = -160, 128, 24
#: Elements of a tensor that are looked at.
_SAMPLE = 1 << 20

_SUMS = frozenset({"add", "sub", "iadd", "isub"})


@dataclass
class _Half:
    index: int
    name: str
    largest: float = 0.0
    overflow: float = 0.0
    underflow: float = 0.0
    absorbed: bool = False
    exponents: torch.Tensor | None = None


@dataclass
class Ranges:
    """A listener for :func:`stablelint.trace.trace` that keeps shares and a histogram of exponents per op."""

    readings: dict[int, _Half] = field(default_factory=dict)

    def __call__(
        self,
        index: int,
        name: str,
        module: str,  # noqa: ARG002 (the listener's signature)
        inputs: tuple[torch.Tensor, ...],
        output: torch.Tensor,
    ) -> None:
        """Read one op's output and listen for its gradient."""
        if not readable(name, output):
            return
        value = _sample(output)
        magnitude = value.abs()
        reading = self.readings[index] = _Half(index, name)
        reading.largest = float(value.max())
        # masks put in numbers far below zero that a softmax takes out again; what explodes does so on both sides
        reading.overflow = float((value > LARGEST).double().mean())
        reading.underflow = float(((magnitude > 0) & (magnitude < 2.0**FLUSHED)).double().mean())
        reading.absorbed = name in _SUMS and _absorbs(inputs)
        if output.requires_grad:
            listen(output, functools.partial(self._backward, index))

    def _backward(self, index: int, grad: torch.Tensor | None) -> None:
        if grad is not None:
            self.readings[index].exponents = exponents(_sample(grad))


def _absorbs(inputs: tuple[torch.Tensor, ...]) -> bool:
    sizes = [rms(x) for x in inputs if isinstance(x, torch.Tensor) and x.is_floating_point() and x.numel() > 1]
    # a zero-initialised branch is no small one, and a mask no large one
    if len(sizes) != 2 or not min(sizes) > 0 or not max(sizes) < LARGEST:
        return False
    return min(sizes) < ABSORBED * max(sizes)


def _sample(value: torch.Tensor) -> torch.Tensor:
    flat = value.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLE)].float()


def exponents(value: torch.Tensor) -> torch.Tensor:
    """How many finite elements other than 0 have each exponent of two, from :data:`LOWEST` on."""
    kept = value[torch.isfinite(value) & (value != 0)]
    powers = torch.frexp(kept).exponent.long() - 1
    return torch.bincount(powers.clamp(LOWEST, HIGHEST) - LOWEST, minlength=HIGHEST - LOWEST + 1).cpu()


def flushed(counts: torch.Tensor, scale: int) -> float | None:
    """The share of the elements that round to 0 in float16 after multiplying by 2**scale; None without elements."""
    total = int(counts.sum())
    return float(counts[: max(0, FLUSHED - scale - LOWEST)].sum()) / total if total else None


def loss_scale(histograms: list[torch.Tensor]) -> int:
    """The exponent of the largest loss scale at which no gradient overflows float16, at most 2**24."""
    top = max((int(counts.nonzero().max()) + LOWEST for counts in histograms if bool(counts.any())), default=0)
    return min(MAX_SCALE, 14 - top)


def precision(
    model: nn.Module, inputs: Inputs, seed: int = 0, loss: Callable[[object], torch.Tensor] | None = None
) -> tuple[Precision, ...]:
    """One recorded pass in float32; the rows in the order of the ops. The caller preserves the model's state."""
    seed_everything(seed)
    ranges = Ranges()
    recorded = trace(model, differentiable(inputs), fake=False, listener=ranges)
    graph = recorded.graph
    scalar = loss(recorded.output) if loss is not None else objective(graph, recorded.output, seed)
    scalar.backward()  # type: ignore[no-untyped-call]
    scale = loss_scale([half.exponents for half in ranges.readings.values() if half.exponents is not None])
    return tuple(
        Precision(
            index,
            half.name,
            graph.ops[index].site,
            half.largest,
            half.overflow,
            half.underflow,
            None if half.exponents is None else flushed(half.exponents, scale),
            half.absorbed,
        )
        for index, half in sorted(ranges.readings.items())
        if index in graph.flow.signal
    )


def half_run(model: nn.Module, inputs: Inputs, seed: int = 0) -> HalfRun | None:
    """The pass in float32 and again under bfloat16 autocast, with the same random numbers.

    None when autocast refuses the model (operators without a bfloat16 kernel on this device).
    """
    try:
        (exact, slopes), (rounded, other) = (_pass(model, inputs, seed, half) for half in (False, True))
    except RuntimeError:
        return None
    return HalfRun(_error(exact, rounded), _cosine(slopes, other))


def _pass(
    model: nn.Module, inputs: Inputs, seed: int, half: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    seed_everything(seed)
    batch = differentiable(inputs)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = next((p.device.type for p in parameters), "cpu")
    with torch.autocast(device, torch.bfloat16, enabled=half):
        outputs = [x for x in tensors_in(model(*batch.args, **batch.kwargs)) if x.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(())
    for value in outputs:
        total = total + (value.float() * torch.randn(value.shape, generator=generator).to(value.device)).sum().cpu()
    for parameter in parameters:
        parameter.grad = None
    total.backward()  # type: ignore[no-untyped-call]  # reentrant checkpointing refuses torch.autograd.grad
    return [x.detach().float() for x in outputs], [p.grad for p in parameters]


def _error(exact: list[torch.Tensor], rounded: list[torch.Tensor]) -> float | None:
    size = math.sqrt(sum(float(x.double().square().sum()) for x in exact))
    error = math.sqrt(sum(float((x - y).double().square().sum()) for x, y in zip(exact, rounded, strict=True)))
    return error / size if size > 0 and math.isfinite(error) and math.isfinite(size) else None


def _cosine(exact: list[torch.Tensor | None], rounded: list[torch.Tensor | None]) -> float | None:
    dot = one = two = 0.0
    for x, y in zip(exact, rounded, strict=True):
        if x is not None and y is not None:
            x, y = x.double(), y.double()
            dot, one, two = dot + float((x * y).sum()), one + float(x.square().sum()), two + float(y.square().sum())
    cosine = dot / math.sqrt(one * two) if one > 0 and two > 0 else math.nan
    return cosine if math.isfinite(cosine) else None
