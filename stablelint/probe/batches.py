"""Batches for the probe: copies that a forward pass may write into."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stablelint.inputs import Inputs
from stablelint.trace import tensors_in


def mapped(inputs: Inputs, convert: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """The same call with ``convert`` applied to every tensor in plain lists, tuples and dicts."""

    def walk(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return convert(value)
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(walk(item) for item in value)
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return value

    return Inputs(*(walk(value) for value in inputs.args), **{key: walk(value) for key, value in inputs.kwargs.items()})


def differentiable(inputs: Inputs) -> Inputs:
    """Copies, so that a forward may write into them; floating ones take a gradient and are no leaves."""

    def convert(value: torch.Tensor) -> torch.Tensor:
        return value.detach().requires_grad_().clone() if value.is_floating_point() else value.clone()

    return mapped(inputs, convert)


def batch_size(inputs: Inputs) -> int | None:
    """The size of the first axis of the first tensor."""
    tensors = tensors_in([inputs.args, inputs.kwargs])
    return next((tensor.shape[0] for tensor in tensors if tensor.dim() > 0), None)
