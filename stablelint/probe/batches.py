"""Batches for the probe: copies that a forward pass may write into."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, MutableMapping
from typing import Any

import torch

from stablelint.inputs import Inputs
from stablelint.trace import tensors_in
from stablelint.trace.tracer import is_plain


def mapped(inputs: Inputs, convert: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """The same call with ``convert`` applied to every tensor."""
    return Inputs(*converted(inputs.args, convert), **converted(inputs.kwargs, convert))


def converted(value: Any, convert: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``convert`` applied to every tensor in lists, tuples, tables, dataclasses, objects and Inputs, all of them new.

    A table keeps its class (``BatchEncoding`` and the like are read by attribute, too). Other objects stay as they are.
    """
    if isinstance(value, torch.Tensor):
        return convert(value)
    if isinstance(value, Inputs):
        return mapped(value, convert)
    if type(value) in (list, tuple):
        return type(value)(converted(item, convert) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(converted(item, convert) for item in value))
    if type(value) is dict:
        return {key: converted(item, convert) for key, item in value.items()}
    if isinstance(value, MutableMapping):
        table = copy.copy(value)
        for key, item in value.items():
            table[key] = converted(item, convert)
        return table
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for name, item in vars(value).items():
            object.__setattr__(changed, name, converted(item, convert))  # also where it is frozen
        return changed
    if is_plain(value) and tensors_in(value):
        changed = copy.copy(value)
        vars(changed).update({name: converted(item, convert) for name, item in vars(value).items()})
        return changed
    return value


def differentiable(inputs: Inputs) -> Inputs:
    """Copies, so that a forward may write into them; floating ones take a gradient and are no leaves."""

    def convert(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value.clone()
        if value.is_inference():  # made in inference mode: only a copy can take a gradient
            value = value.clone()
        return value.detach().requires_grad_().clone()

    return mapped(inputs, convert)


def batch_size(inputs: Inputs) -> int | None:
    """The size of the first axis of the first tensor."""
    tensors = tensors_in([inputs.args, inputs.kwargs])
    return next((tensor.shape[0] for tensor in tensors if tensor.dim() > 0), None)
