"""Frozen batch norms stand for the statistics of the data that a model was pretrained on.

A detector's backbone comes with frozen statistics and pretrained weights. Built from scratch they hold mean 0 and
variance 1, so nothing is normalised and everything behind is measured at a size that it never has. Before measuring,
they take the statistics of the batch.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stablelint.inputs import Inputs


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Modules with running statistics that a forward pass does not update."""
    found = []
    for module in model.modules():
        mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        updates = isinstance(module, _BatchNorm | nn.InstanceNorm1d | nn.InstanceNorm2d) and module.training
        if isinstance(mean, torch.Tensor) and isinstance(var, torch.Tensor) and mean.dim() == 1 and not updates:
            found.append(module)
    return found


def calibrate(model: nn.Module, inputs: Inputs) -> None:
    """Give frozen norms the statistics of their own inputs in one forward pass; the caller restores the buffers.

    Only norms that still hold mean 0 and variance 1 are touched: others come from a checkpoint and mean something.
    """
    fresh = [module for module in frozen_norms(model) if _untouched(module)]
    if not fresh:
        return
    hooks = [module.register_forward_pre_hook(_take_statistics) for module in fresh]
    try:
        # a forward that fails here fails in the recorded pass again, which says where
        with torch.no_grad(), contextlib.suppress(Exception):
            model(*inputs.args, **inputs.kwargs)
    finally:
        for hook in hooks:
            hook.remove()


def _untouched(module: Any) -> bool:
    return not bool(module.running_mean.any()) and bool((module.running_var == 1).all())


def _take_statistics(module: Any, args: tuple[Any, ...]) -> None:
    value = args[0] if args else None
    channels = module.running_mean.shape[0]
    if not isinstance(value, torch.Tensor) or value.dim() < 2 or value.shape[1] != channels:
        return
    flat = value.detach().movedim(1, 0).reshape(channels, -1)
    if flat.shape[1] > 1:
        module.running_mean.copy_(flat.mean(1))
        module.running_var.copy_(flat.var(1).clamp(min=1e-12))
