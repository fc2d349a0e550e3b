"""Leave the model and the process as they were found."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from stablelint.trace.shards import resharded


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore everything that a measurement may change, also after an exception or Ctrl-C.

    Covers the values of parameters and buffers (BatchNorm statistics), gradients, train and eval flags per module,
    ``requires_grad``, attributes that a forward pass assigns, the random states of torch, CUDA, NumPy and Python, grad
    mode and autocast, and what ``fully_shard`` keeps.
    """
    with modes_kept(), resharded(model, done=True), _contents_kept(model):
        yield


@contextlib.contextmanager
def _contents_kept(model: nn.Module) -> Iterator[None]:
    modules = [(module, _Snapshot(module)) for module in model.modules()]
    tensors = [
        (tensor, tensor.detach().clone())
        for tensor in (*model.parameters(), *model.buffers())
        if not _uninitialised(tensor)
    ]
    leaves = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    with random_states():
        try:
            yield
        finally:
            for module, snapshot in modules:
                snapshot.restore(module)
            with torch.no_grad():
                for tensor, value in tensors:
                    if tensor.shape == value.shape:
                        tensor.data.copy_(value)
            for parameter, requires_grad, grad in leaves:
                parameter.requires_grad_(requires_grad)
                parameter.grad = grad


class _Snapshot:
    """A shallow copy of one module's attributes and registries."""

    REGISTRIES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks")

    def __init__(self, module: nn.Module) -> None:
        self.attributes = dict(module.__dict__)
        self.registries = {name: dict(module.__dict__[name]) for name in self.REGISTRIES if name in module.__dict__}

    def restore(self, module: nn.Module) -> None:
        module.__dict__.clear()
        module.__dict__.update(self.attributes)
        for name, items in self.registries.items():
            registry = module.__dict__[name]
            # by identity: a forward may rebind a buffer, and == of tensors is no truth value
            if [(key, id(item)) for key, item in registry.items()] != [(key, id(item)) for key, item in items.items()]:
                registry.clear()
                registry.update(items)


def _uninitialised(tensor: torch.Tensor) -> bool:
    return torch.nn.parameter.is_lazy(tensor)


@contextlib.contextmanager
def modes_kept() -> Iterator[None]:
    """Restore grad mode and autocast, which a forward pass may switch and an exception leave switched.

    Meanwhile autocast keeps no casts of weights: those would be of values that a measurement has changed since.
    """
    grad, cache = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    kept = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_autocast_cache_enabled(cache)
        for kind, enabled, dtype in kept:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)


@contextlib.contextmanager
def random_states() -> Iterator[None]:
    """Restore the random states of torch, CUDA, NumPy and Python."""
    numpy: Any = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy (when loaded) and Python."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


@contextlib.contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """Train mode for a model that is in eval mode as a whole; flags of single modules are otherwise left alone."""
    if model.training:
        yield
        return
    flags = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
