"""A few optimiser steps at several rates on one batch: does the loss fall below that of knowing nothing?

The task asks one bit per sample. A fixed random projection of the output, less its mean over the batch and in units of
how much the samples differ at initialisation, is the logit of a logistic loss, and the classes are the halves of the
batch above and below its median, the wrong way round. An answer that is the same for all samples costs log(2), whatever
the model: a network that gets stuck there tells no samples apart. What they have in common is taken out, for in these
units it moves far with every step where the samples are alike. And every model that tells them apart can solve it, a
linear one with a single output as well: its own answer with the other sign does. Random classes would ask too much of
small models, one number for each element of the output too much of a few steps, and squared errors break models that
train under cross-entropy.

Noise is held still: dropout, dropped paths and mixed samples are drawn alike at every step. A branch that is there in
every other step only, on a batch of two, would hide in 40 steps what the rates do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe.batches import differentiable
from stablelint.probe.state import preserved, seed_everything
from stablelint.probe.tensor_statistics import rms
from stablelint.signals import Fit, Learning
from stablelint.trace.tensors import KeptTensor

#: What people use, from the careful to the bold: at the smallest rate a healthy deep network still moves within the
#: steps, at the largest ones many that need a warm-up are lost. `scripts/measure_deep.py` tries them.
RATES = (("Adam", 3e-4), ("Adam", 1e-3), ("Adam", 3e-3), ("Adam", 1e-2), ("SGD", 1e-1))
STEPS, TAIL = 40, 5
#: The least difference between samples, as a share of the output's size, that the task takes as its unit: outputs that
#: share an offset are healthy, and outputs that are all but the same shall not be told apart by a magnifying glass.
LEAST_SPREAD = 0.05
#: Below this share of the loss of knowing nothing a fit is over: the rest would only cost time.
SOLVED = 0.05

#: From the output of a model to what it is for: a tensor with the batch in its first axis, or its own scalar loss.
Pick = Callable[[object], torch.Tensor]


def learning(model: nn.Module, inputs: Inputs, pick: Pick, seed: int = 0) -> Learning | None:
    """Fit the batch at each rate of :data:`RATES`, every time from the weights as they are.

    A scalar of ``pick`` is minimised as it is. The caller preserves the model's state. None when nothing is trainable,
    when there is one sample only or when the output is not finite.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return None
    with torch.no_grad(), preserved(model):
        seed_everything(seed)
        batch = differentiable(inputs)
        output = pick(model(*batch.args, **batch.kwargs)).detach()
    own = output.dim() == 0
    if not math.isfinite(rms(output)) or (not own and output.shape[0] < 2):
        return None
    nothing = float(output) if own else math.log(2)
    of_output = _itself if own else _classes(output, seed)

    def loss() -> torch.Tensor:
        seed_everything(seed)  # the same noise at every step
        batch = differentiable(inputs)
        return of_output(pick(model(*batch.args, **batch.kwargs)))

    return Learning(tuple(_fit(model, loss, *each, nothing) for each in RATES), nothing, own, STEPS)


def _itself(output: torch.Tensor) -> torch.Tensor:
    return output


def _classes(output: torch.Tensor, seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The logistic loss of the module's docstring for outputs of this shape (batch, ...)."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(output.shape[1:], generator=generator).to(output)
    size = max(rms(output - output.mean(0)), LEAST_SPREAD * rms(output)) or 1.0
    weights = weights / (math.sqrt(weights.numel()) * size)
    answers = (output * weights).reshape(len(output), -1).sum(1)
    order = answers.argsort().argsort()
    signs = torch.where(2 * order < len(order), 1.0, -1.0).to(output)

    def loss(value: torch.Tensor) -> torch.Tensor:
        logits = (value * weights).reshape(len(value), -1).sum(1)
        return nn.functional.softplus(-signs * (logits - logits.mean())).mean()

    return loss


def _fit(model: nn.Module, loss: Callable[[], torch.Tensor], optimiser: str, rate: float, nothing: float) -> Fit:
    with preserved(model):
        losses = list(_losses(model, loss, optimiser, rate, nothing - (1 - SOLVED) * abs(nothing)))
    if not all(map(math.isfinite, losses)):
        return Fit(optimiser, rate, losses[0], math.inf, len(losses))
    tail = losses[-1:] if len(losses) < STEPS else losses[-TAIL:]
    return Fit(optimiser, rate, losses[0], sum(tail) / len(tail), len(losses))


def _losses(
    model: nn.Module, loss: Callable[[], torch.Tensor], optimiser: str, rate: float, enough: float
) -> Iterator[float]:
    """The loss before each step, until it is not finite or below ``enough``."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    chosen: torch.optim.Optimizer
    if optimiser == "SGD":
        chosen = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    else:
        chosen = torch.optim.Adam(parameters, lr=rate)
    buffers = [
        (module, name, KeptTensor(buffer, registered=True))
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for _ in range(STEPS):
        current = loss()
        value = float(current.detach())
        yield value
        if not math.isfinite(value) or value < enough:
            return
        chosen.zero_grad()
        current.backward()  # type: ignore[no-untyped-call]
        chosen.step()
        # only the weights move from step to step: a count of the calls, say, is that of the first one
        for module, name, kept in buffers:
            module._buffers[name] = kept.tensor
            kept.restore()
