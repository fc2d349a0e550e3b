"""Run a model and leave it as it was."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from stablelint.inputs import Inputs
from stablelint.trace.bindings import storage_of
from stablelint.trace.contents import Contents
from stablelint.trace.modules import is_scripted
from stablelint.trace.origins import Origins, observe_build
from stablelint.trace.provenance import fake_weight
from stablelint.trace.tensors import KeptTensor


@contextmanager
def restored_attributes(model: nn.Module) -> Iterator[None]:
    """Undo what a forward pass changes in modules but for their parameters and buffers.

    That is what it assigns, and changes in the objects, lists, dictionaries and tensors that are assigned to them.
    """
    contents = Contents(model.modules())
    tables = [table for each in model.modules() if not is_scripted(each) for table in (each._parameters, each._buffers)]
    registered = {id(each) for table in tables for each in table.values()}
    tensors = [KeptTensor(each) for each in contents.tensors if id(each) not in registered]
    try:
        yield
    finally:
        contents.restore()
        for tensor in tensors:
            tensor.restore()


@contextmanager
def restored_buffers(model: nn.Module) -> Iterator[None]:
    """Undo in-place changes of buffers."""
    saved = [(buffer, buffer.detach().clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.data.copy_(value)


@contextmanager
def fake_weights(model: nn.Module, mode: FakeTensorMode) -> Iterator[dict[int, torch.Tensor]]:
    """Fake copies in the place of all parameters and buffers; yields the real tensor of each by ``id``.

    A tensor that is used under several names stays one tensor. Use inside ``restored_attributes``, which puts the
    real ones back.
    """
    fakes: dict[int, torch.Tensor] = {}
    real: dict[int, torch.Tensor] = {}
    keep = []
    users = Counter(storage_of(tensor) for tensor, _ in named_tensors(model).values())
    for module in model.modules():
        if is_scripted(module):
            continue
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    fakes[id(tensor)] = fake_weight(tensor, mode, alone=users[storage_of(tensor)] == 1)
                    real[id(fakes[id(tensor)])] = tensor
                    keep.append(tensor)
                table[name] = fakes[id(tensor)]  # type: ignore[assignment]
    yield real


def materialise_lazy(model: nn.Module, inputs: Inputs, origins: Origins | None) -> None:
    """Give lazy modules their weights by one run on the given inputs, in eval mode where that suffices."""
    training = {module: module.training for module in model.modules()}
    try:
        for mode in (False, True):
            if not _has_lazy(model):
                return
            model.train(mode)
            with ExitStack() as stack:
                stack.enter_context(torch.no_grad())
                stack.enter_context(observe_build(origins))
                model(*inputs.args, **inputs.kwargs)
    finally:
        for module in model.modules():
            module.training = training.get(module, module.training)


def _has_lazy(model: nn.Module) -> bool:
    return any(isinstance(module, LazyModuleMixin) and module.has_uninitialized_params() for module in model.modules())


@contextmanager
def preserved_rng(seed: int | None) -> Iterator[None]:
    """Leave all random generators as they were; ``seed`` makes the run itself reproducible."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    legacy = numpy.random.get_state() if numpy is not None else None
    generator = torch.get_rng_state()
    try:
        if seed is not None:
            random.seed(seed)
            if numpy is not None:
                numpy.random.seed(seed)
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(legacy)
        torch.set_rng_state(generator)


_RUNNING = threading.RLock()
_depth = 0


@contextmanager
def one_at_a_time() -> Iterator[bool]:
    """Hooks and patches are global: other threads wait. Yields whether this thread is already inside."""
    global _depth
    with _RUNNING:
        _depth += 1
        try:
            yield _depth > 1
        finally:
            _depth -= 1


def named_tensors(model: nn.Module) -> Mapping[str, tuple[torch.Tensor, bool]]:
    """All parameters and buffers by their first name, with whether it is a buffer."""
    found: dict[str, tuple[torch.Tensor, bool]] = {}
    for name, parameter in model.named_parameters():
        found[name] = (parameter, False)
    for name, buffer in model.named_buffers():
        found[name] = (buffer, True)
    return found
