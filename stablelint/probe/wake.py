"""Give zero-initialised parameters a small value along their gradient, so that what lies behind them can be measured.

A zero last layer, ReZero's gates, LoRA's B or a zero gamma stop the gradient at step 0 on purpose: one optimiser
step and it flows. A dead ReLU, two zero factors of one product or an all-zero network stay dead.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

#: Size of the step relative to a LeCun-initialised layer: small enough that 100 gates of 0.1 in a row do not
#: change the growth (1.005 per block in variance), large enough that what wakes up is far from rounding.
STEP = 0.1
#: Zero factors in a row that wake one after the other (adaLN-zero: the head, then the gate).
ROUNDS = 3


def asleep(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters whose values are all zero and that multiply something: a zero bias stops nothing."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.numel() > 0
        and (parameter.dim() > 1 or "bias" not in name.rsplit(".", 1)[-1])
        and not bool(parameter.detach().any())
    ]


@contextlib.contextmanager
def awakened(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Iterator[int]:
    """Step zero parameters along their gradient of ``loss()`` for the duration; yields how many woke up."""
    woken: list[nn.Parameter] = []
    try:
        for _ in range(ROUNDS):
            sleeping = asleep(model)
            if not sleeping:
                break
            grads = torch.autograd.grad(loss(), sleeping, allow_unused=True)
            moved = 0
            with torch.no_grad():
                for parameter, grad in zip(sleeping, grads, strict=True):
                    size = 0.0 if grad is None else float(grad.double().square().mean().sqrt())
                    if grad is None or size == 0 or not math.isfinite(size):
                        continue
                    fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
                    parameter.sub_(grad * (STEP / size / math.sqrt(fan_in)))
                    woken.append(parameter)
                    moved += 1
            if not moved:
                break
        yield len(woken)
    finally:
        with torch.no_grad():
            for parameter in woken:
                parameter.zero_()
