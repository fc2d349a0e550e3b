"""Give zero-initialised parameters a small value, so that what lies behind them can be measured.

A zero last layer, ReZero's gates, LoRA's B, a zero gamma or a layer scale of 1e-5 stop the gradient at step 0 on
purpose: a few optimiser steps and it flows (Adam moves every element by the learning rate per step, whatever its size).
A dead ReLU, two zero factors of one product or an all-zero network stay dead: nothing moves them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from stablelint.probe.sharded import Ranks
from stablelint.signals.waking import ROUNDS, STEP, TINY, moves
from stablelint.trace.shards import spread_like


def asleep(model: nn.Module, ranks: Ranks) -> list[tuple[nn.Parameter, float]]:
    """The trainable parameters that are (almost) zero and multiply something, with their rms.

    A zero bias stops nothing.
    """
    factors = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.numel() > 0
        and (parameter.dim() > 1 or "bias" not in name.rsplit(".", 1)[-1])
    ]
    sizes = ((parameter, size or 0.0) for parameter, size in zip(factors, ranks.sizes(factors), strict=True))
    return [(parameter, size) for parameter, size in sizes if size * math.sqrt(_fan_in(parameter)) <= TINY]


def _fan_in(parameter: nn.Parameter) -> int:
    return math.prod(parameter.shape[1:])


@contextlib.contextmanager
def awakened(model: nn.Module, loss: Callable[[], torch.Tensor], ranks: Ranks) -> Iterator[int]:
    """Give (almost) zero parameters that ``loss()`` has a gradient for random values; yields how many woke up.

    Random ones and not a step along the gradient: aligned with the loss that is measured next, a zero head would let
    through as many times more as it has outputs.
    """
    saved: list[tuple[nn.Parameter, torch.Tensor]] = []
    generator = torch.Generator().manual_seed(0)
    try:
        for _ in range(ROUNDS):
            sleeping = asleep(model, ranks)
            if not sleeping:
                break
            for parameter in model.parameters():
                parameter.grad = None
            # backward() and not grad(): fully_shard puts gradients nowhere else
            loss().backward()  # type: ignore[no-untyped-call]
            grads = [parameter.grad for parameter, _ in sleeping]
            moved = 0
            with torch.no_grad():
                for (parameter, before), grad, size in zip(sleeping, grads, ranks.sizes(grads), strict=True):
                    if grad is None or size is None or not math.isfinite(size) or not moves(before, size):
                        continue
                    saved.append((parameter, parameter.clone()))
                    values = torch.randn(parameter.shape, generator=generator) * (STEP / math.sqrt(_fan_in(parameter)))
                    parameter.copy_(torch.where(grad != 0, spread_like(values, parameter), parameter))
                    moved += 1
            if not moved:
                break
        yield len(saved)
    finally:
        with torch.no_grad():
            for parameter, values in saved:
                parameter.copy_(values)
