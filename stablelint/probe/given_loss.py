"""The ops of the loss that a user gives, beside those of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.batches import converted, differentiable
from stablelint.probe.objective import of_output
from stablelint.probe.sharded import Ranks
from stablelint.probe.state import preserved, seed_everything, training
from stablelint.trace import tensors_in, trace


class _OfOutputs(nn.Module):
    """A loss as a model whose inputs are the floating tensors of the output."""

    def __init__(self, loss: Callable[[object], torch.Tensor], output: object, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.loss, self.output, self.places = loss, output, {id(tensor): place for place, tensor in enumerate(tensors)}

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        places = self.places
        return self.loss(converted(self.output, lambda x: tensors[places[id(x)]] if id(x) in places else x))


def with_loss(graph: Graph, model: nn.Module, inputs: Inputs, loss: Callable[..., Any]) -> Graph:
    """``graph`` with the ops of ``loss`` on the output of one forward pass of ``model``, which is left as it was.

    Where that cannot be had (a model without memory, one that is spread over processes, a loss that no output of an
    untrained model satisfies) ``graph`` stays as it is: what the loss is like is then not looked at.
    """
    if not Ranks.of(model, inputs).alone:
        return graph
    try:
        with torch.inference_mode(False), preserved(model), training(model):
            seed_everything(0)
            batch = differentiable(inputs)
            with torch.no_grad():
                output = model(*batch.args, **batch.kwargs)
            tensors = [x for x in dict.fromkeys(tensors_in(output)) if x.is_floating_point()]
            on_outputs = _OfOutputs(of_output(loss, inputs), output, tensors)
            traced = trace(on_outputs, Inputs(*(x.detach().requires_grad_() for x in tensors)), fake=False)
    except Exception:  # the user's code: the measurement says what is wrong with it
        return graph
    return replace(graph, loss=traced.graph)
