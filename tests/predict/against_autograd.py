"""Models whose prediction is compared with autograd: outputs and gradients over fresh draws, and what is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import interpret
from stablelint.predict.domain import Value
from stablelint.trace import trace

#: A fresh model and its inputs.
Draw = Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]


class Apply(nn.Module):
    """A function of tensors as a model, with the weights that it uses."""

    def __init__(self, function: Callable[..., Tensor], **weights: Tensor) -> None:
        super().__init__()
        self.function, self.names = function, list(weights)
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, *(getattr(self, name) for name in self.names))


def weight(*shape: int, gain: float = 1.0, mean: float = 0.0) -> Tensor:
    """Independent elements of variance ``gain ** 2 / fan_in``."""
    fan = math.prod(shape[1:])
    return torch.randn(shape) * gain / math.sqrt(fan) + mean


def drawn(function: Callable[..., Tensor], *shapes: Sequence[int], **weights: Callable[[], Tensor]) -> Draw:
    """``function`` of standard normal inputs of these shapes and of weights that are drawn anew each time."""
    return lambda: (
        Apply(function, **{name: make() for name, make in weights.items()}),
        tuple(torch.randn(*shape) for shape in shapes),
    )


@dataclass
class Moments:
    """Second moment and mean of the output, E[x x'] of two samples over it, squared gradient at the first input."""

    power: float
    mean: float
    alike: float
    gradient: float


def measured(draw: Draw, seeds: int, *, geometric: bool = False) -> Moments:
    """Averages over ``seeds`` draws in double precision; ``geometric`` ones of the gradient are those of one draw."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model, inputs = _double(draw)
        first = inputs[0].requires_grad_()
        y = model(first, *inputs[1:])
        (g,) = torch.autograd.grad(y, first, torch.randn_like(y))
        y, count = y.detach(), y.shape[0] if y.dim() else 1
        total = float(y.sum(0).pow(2).sum() - y.pow(2).sum()) if count > 1 else 0.0
        alike = total / max(count - 1, 1) / max(float(y.pow(2).sum()), 1e-300)
        found.append((float(y.pow(2).mean()), float(y.mean()), alike, float(g.pow(2).mean())))
    power, mean, alike, gradient = np.array(found).T
    size = np.exp(np.log(np.maximum(gradient, 1e-300)).mean()) if geometric else gradient.mean()
    return Moments(float(power.mean()), float(mean.mean()), float(alike.mean()), float(size))


def predicted(draw: Draw) -> Moments:
    """The same from one graph."""
    torch.manual_seed(0)
    model, inputs = _double(draw)
    graph = trace(model, Inputs(*inputs)).graph
    found = interpret(graph)
    assert not found.unknown, found.reasons
    sink, source = found.values[graph.outputs[0]], found.values[0]
    assert isinstance(sink, Value)
    assert isinstance(source, Value)
    gradient = source.gradient()
    assert gradient is not None
    alike = float(sink.table[(0, *(1,) * (sink.rank - 1))]) / sink.power if sink.rank and sink.power else 0.0
    return Moments(sink.power, sink.mean, alike, float(gradient.flat[-1]))


def _double(draw: Draw) -> tuple[nn.Module, tuple[Tensor, ...]]:
    model, inputs = draw()
    return model.double(), tuple(tensor.double() for tensor in inputs)
