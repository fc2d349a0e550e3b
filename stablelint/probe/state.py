"""Leave the model and the process as they were found."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from stablelint.garbage import garbage_kept
from stablelint.trace.contents import Contents
from stablelint.trace.shards import resharded
from stablelint.trace.switches import restored_switches
from stablelint.trace.tensors import KeptTensor


@contextlib.contextmanager
def preserved(model: nn.Module, *, but: Collection[nn.Module] = ()) -> Iterator[None]:
    """Restore everything that a measurement may change, also after an exception or Ctrl-C; ``but`` keep their changes.

    Covers the values of parameters and buffers (BatchNorm statistics), gradients and hooks of tensors, train and eval
    flags per module, ``requires_grad``, attributes that a forward pass assigns with the containers, plain objects,
    tensors and generators in them, the random states of torch, CUDA, NumPy and Python, the switches of
    :data:`~stablelint.trace.switches.SWITCHES`, and what ``fully_shard`` keeps. Costs one copy of all parameters and
    buffers. Meanwhile no tensor has a gradient: what flows in is not added to the user's.
    """
    with contextlib.ExitStack() as stack:  # whatever cannot be put back keeps nothing else from it
        stack.enter_context(random_states())
        stack.enter_context(restored_switches())
        stack.enter_context(_no_kept_casts())
        stack.enter_context(resharded(model, done=True))
        with garbage_kept():
            contents = Contents([module for module in model.modules() if module not in but], but)
            registered = {id(each) for each in (*model.parameters(), *model.buffers())}
            tensors = [KeptTensor(each, registered=id(each) in registered) for each in contents.tensors]
        stack.callback(contents.restore)
        stack.callback(_restore, tensors)
        for tensor in tensors:
            tensor.set_gradient_aside()
        yield


def _restore(tensors: list[KeptTensor]) -> None:
    for tensor in tensors:
        tensor.restore()


@contextlib.contextmanager
def materialised(model: nn.Module) -> Iterator[None]:
    """Around a forward pass that gives lazy modules their shapes and initial values: it leaves nothing else behind."""
    lazy = [each for each in model.modules() if isinstance(each, LazyModuleMixin) and each.has_uninitialized_params()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved(model, but=lazy))
        handles: dict[nn.Module, Any] = {}

        def settle(module: nn.Module, _: Any) -> None:
            """Called right after the module's own hook has given it its shapes."""
            handles.pop(module).remove()
            stack.enter_context(preserved(module))

        for module in lazy:
            handles[module] = module.register_forward_pre_hook(settle)
        try:
            yield
        finally:
            for handle in handles.values():
                handle.remove()


@contextlib.contextmanager
def _no_kept_casts() -> Iterator[None]:
    """Let autocast keep no casts of weights: those would be of values that a measurement has changed since."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


@contextlib.contextmanager
def random_states() -> Iterator[None]:
    """Restore the random states of torch, CUDA, NumPy and Python."""
    numpy: Any = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices):
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
