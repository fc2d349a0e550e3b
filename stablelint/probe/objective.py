"""The scalar whose gradient is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_map

from stablelint.errors import LossTargetError
from stablelint.feed import second_argument
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.sharded import Ranks
from stablelint.trace import tensors_in
from stablelint.trace.frames import traceback_position
from stablelint.trace.shards import whole

#: Outputs at this share of the deepest one's depth or more are what a model is for; caches, hidden states and
#: pyramid levels that are returned beside would let early layers be heard without the rest of the network.
DEEP = 0.8
#: Weights of samples of other processes that are drawn and not used, to get those that one process would use.
_AT_ONCE = 1 << 26
_OTHER = 1_000_003


def of_output(loss: Callable[..., Any], inputs: Inputs) -> Callable[[object], torch.Tensor]:
    """The user's loss as a function of the model's output alone, with the target or the batch that it takes.

    It gives one number, a tensor without axes, and raises LossTargetError where the user's does not.
    """
    second = second_argument(loss)

    def scalar(output: object) -> torch.Tensor:
        # a copy: a loss may shift its labels in place
        more = [tree_map(_copied, inputs.batch if second == "batch" else inputs.target)] if second else []
        try:
            value = loss(output, *more)
        except Exception as error:
            place = traceback_position(error.__traceback__)
            at = "" if place is None else f" at {place.file}:{place.line}"
            raise LossTargetError(f"the loss fails{at}: {type(error).__name__}: {_first_line(error)}") from error
        if not isinstance(value, torch.Tensor):
            raise LossTargetError(f"the loss gives a {type(value).__name__}, not a tensor with one number")
        if value.numel() != 1:
            raise LossTargetError(
                f"the loss gives a tensor of shape {tuple(value.shape)}, not one number; take its mean"
            )
        if not value.requires_grad and torch.is_grad_enabled():
            raise LossTargetError(
                "the loss has no gradient: nothing differentiable leads from the model's output to it; "
                "look for detach(), item() or argmax() in it"
            )
        return value.reshape(())

    return scalar


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def objective(graph: Graph, output: object, seed: int, ranks: Ranks | None = None) -> torch.Tensor:
    """The loss that the model itself returns, else a fixed random projection of its deep outputs.

    Each element of the deepest output is weighted by a draw from N(0, 1); another output counts as much as that
    one in all, however many elements it has. Of many processes with parts of one batch, each gets its part of the
    projection of the whole batch, times their number: the loss is the mean over the processes.
    """
    ranks = ranks or Ranks()
    tensors = tensors_in(output)
    places = [place for place, index in enumerate(graph.outputs) if index == graph.flow.sink]
    sink = tensors[places[0]]
    if sink.dim() == 0:
        return sink
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), device=sink.device)
    for tensor in map(whole, _deep(graph, tensors, places[0])):
        weights = _projection(tensor.shape, generator, *ranks.rows(tensor.shape[0])) * math.sqrt(
            sink.numel() / tensor.numel()
        )
        total = total + (tensor * weights.to(tensor.device, tensor.dtype)).sum().to(total.device)
    return total * ranks.parts


def _projection(shape: torch.Size, generator: torch.Generator, start: int, count: int) -> torch.Tensor:
    """Draws of ``shape`` for the samples from ``start`` on of ``count`` samples: the same as for all at once."""
    if count * shape[1:].numel() > _AT_ONCE and count > shape[0]:  # too many to draw those of the others, too
        generator = torch.Generator().manual_seed(generator.initial_seed() + _OTHER * (start + 1))
        start, count = 0, shape[0]
    return torch.randn((count, *shape[1:]), generator=generator)[start : start + shape[0]]


def _deep(graph: Graph, tensors: Sequence[torch.Tensor], sink: int) -> list[torch.Tensor]:
    return [tensors[place] for place in deep_places(graph, tensors, sink)]


def deep_places(graph: Graph, tensors: Sequence[torch.Tensor], sink: int) -> list[int]:
    """Where the deepest output, at ``sink``, and those that are nearly as deep stand in ``tensors``, each once."""
    depth = graph.flow.depth
    least = DEEP * depth[graph.outputs[sink]]
    chosen = {graph.outputs[sink]: sink}
    for place, (index, tensor) in enumerate(zip(graph.outputs, tensors, strict=True)):
        if depth.get(index, 0) >= least and tensor.dim() > 0 and tensor.requires_grad and tensor.numel() > 0:
            chosen.setdefault(index, place)
    return list(chosen.values())
