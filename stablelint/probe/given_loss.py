"""The ops of the loss that a user gives, beside those of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stablelint.graph import Graph
from stablelint.graph.squashed import GivenLoss
from stablelint.inputs import Inputs
from stablelint.probe.batches import converted, differentiable
from stablelint.probe.objective import of_output
from stablelint.probe.sharded import Ranks
from stablelint.probe.state import preserved, seed_everything, training
from stablelint.trace import tensors_in, trace
from stablelint.trace.patches import eager_compiled


class _OfOutputs(nn.Module):
    """A loss as a model whose inputs stand for the tensors of the output at ``places``, by identity."""

    def __init__(self, loss: Callable[[object], torch.Tensor], output: object, places: dict[int, int]) -> None:
        super().__init__()
        self.loss, self.output, self.places = loss, output, places

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        places = self.places
        return self.loss(converted(self.output, lambda x: tensors[places[id(x)]] if id(x) in places else x.clone()))


def with_loss(graph: Graph, output: object, inputs: Inputs, loss: Callable[..., Any]) -> Graph:
    """``graph`` with the ops of ``loss`` on numbers in the shapes of ``output``, which may be fake.

    Where that cannot be had (a loss that random numbers do not satisfy, an output that is taken apart in some other
    way) ``graph`` stays as it is: what the loss is like is then not looked at.
    """
    numbers: dict[int, torch.Tensor] = {}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(preserved(loss if isinstance(loss, nn.Module) else nn.Module()))
            seed_everything(0)
            output = converted(output, lambda x: numbers.setdefault(id(x), _real(x)))
            returned = tensors_in(output)
            if len(returned) != len(graph.outputs):
                return graph
            first = {id(x): place for place, x in reversed(list(enumerate(returned))) if x.is_floating_point()}
            held = sorted(first.values())
            places = {id(returned[place]): number for number, place in enumerate(held)}
            on_outputs = _OfOutputs(of_output(loss, inputs), output, places)
            # no leaves: a loss may write into them
            tensors = [returned[place].clone().requires_grad_().clone() for place in held]
            traced = trace(on_outputs, Inputs(*tensors), fake=False)
    except Exception:  # the user's code: the measurement says what is wrong with it
        return graph
    return replace(graph, loss=GivenLoss(traced.graph, tuple(graph.outputs[place] for place in held)))


def output_of(model: nn.Module, inputs: Inputs) -> object:
    """What one forward pass returns; the model is left as it was. None of one that is spread over processes."""
    if not Ranks.of(model, inputs).alone:
        return None
    with torch.inference_mode(False), preserved(model), training(model), eager_compiled(), torch.no_grad():
        seed_everything(0)
        batch = differentiable(inputs)
        return model(*batch.args, **batch.kwargs)


def _real(value: torch.Tensor) -> torch.Tensor:
    """Numbers between 0 and 1, which are logits and probabilities; zeros for what is counted or complex."""
    device = "cpu" if value.is_meta else value.device
    make = torch.rand if value.is_floating_point() else torch.zeros
    return make(value.shape, dtype=value.dtype, device=device)
