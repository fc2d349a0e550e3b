"""Everything that a measurement must leave alone, as a table that can be compared: written without stablelint."""

from __future__ import annotations

import gc
import hashlib
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.nn.parameter import is_lazy

ATOMS = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)
PACKAGES = ("torch.optim", "logging", "threading")  # objects of these are told apart by identity only


class Footprint:
    """A model with its inputs, and the process: a flat table from a path (``model.layer.weight.grad``) to a fact."""

    def __init__(self, model: nn.Module, *given: Any) -> None:
        self.facts: dict[str, Any] = {}
        self._alive: list[Any] = []  # so that no id is given away again
        self._seen: dict[int, str] = {}
        self._look("model", model)
        for name, parameter in model.named_parameters():  # a scripted model has them, and no attributes
            self._look(f"parameters.{name}", parameter)
        for name, buffer in model.named_buffers():
            self._look(f"buffers.{name}", buffer)
        self._look("given", given)
        for name, fact in process().items():
            self.facts[f"process.{name}"] = fact

    def storages(self) -> set[int]:
        """The memory that the model and its inputs own."""
        tensors = [each for each in self._alive if isinstance(each, torch.Tensor) and not is_lazy(each)]
        return {tensor.untyped_storage()._cdata for tensor in tensors if tensor.layout is torch.strided}

    def assert_same(self, later: Footprint, but: str = "") -> None:
        """Fail with the places that differ; paths that contain ``but`` do not count."""
        places = [place for place in (self.facts | later.facts) if not but or but not in place]
        changed = {
            place: (self.facts.get(place, "missing"), later.facts.get(place, "missing"))
            for place in places
            if self.facts.get(place, "missing") != later.facts.get(place, "missing")
        }
        assert not changed, "\n".join(f"{place}: {before} became {after}" for place, (before, after) in changed.items())

    def _look(self, path: str, value: Any) -> None:
        if isinstance(value, ATOMS):
            self.facts[path] = value
            return
        if id(value) in self._seen:
            self.facts[path] = f"the same as {self._seen[id(value)]}"
            return
        self._seen[id(value)] = path
        self._alive.append(value)
        # bound methods and the like are made anew whenever somebody looks
        self.facts[path] = type(value) if isinstance(value, tuple) else (type(value), id(value))
        for name, part in parts(value).items():
            self._look(f"{path}.{name}", part)


def parts(value: Any) -> dict[str, Any]:
    """What there is to see of one object, by name."""
    found: dict[str, Any] = {}
    if isinstance(value, torch.Tensor):
        found = tensor_parts(value)
    elif isinstance(value, torch.Generator):
        return {"state": digest(value.get_state())}
    elif isinstance(value, random.Random):
        return {"state": repr(value.getstate())}
    elif isinstance(value, np.random.Generator):
        return {"state": repr(value.bit_generator.state)}
    elif isinstance(value, np.ndarray):
        return {"values": value.tobytes()}
    elif isinstance(value, Mapping):
        # a set of the same elements has no order, a table has
        found = {f"[{place}]": pair for place, pair in enumerate(value.items())}
    elif isinstance(value, list | tuple | deque):
        found = {f"[{place}]": item for place, item in enumerate(value)}
    elif isinstance(value, set):
        found = {"elements": repr(sorted(map(repr, value)))}
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict and not isinstance(value, type) and not is_foreign(value):
        found |= attributes
    return found


def is_foreign(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, torch.jit.ScriptModule):  # no Python objects but tables that torch fills as they are asked for
        return True
    return (callable(value) and not isinstance(value, nn.Module)) or kind.__module__.startswith(PACKAGES)


def tensor_parts(tensor: torch.Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {"requires_grad": tensor.requires_grad, "is_leaf": tensor.is_leaf}
    if not is_lazy(tensor):
        found |= {"shape": tensor.shape, "dtype": tensor.dtype, "values": digest(tensor)}
        if tensor.layout is torch.strided:
            found |= {"address": tensor.data_ptr(), "strides": tensor.stride()}
    if tensor.is_leaf:
        found["grad"] = tensor.grad
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        found[hooks] = getattr(tensor, hooks, None) or None
    return found


def digest(tensor: torch.Tensor) -> str:
    """Of the bits, so that NaN equals itself and 0 differs from -0."""
    values = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha1(values.view(torch.uint8).numpy().tobytes() if values.numel() else b"").hexdigest()


def process() -> dict[str, Any]:
    """Random states and switches of the process."""
    cuda = torch.cuda.is_initialized()
    return {
        "torch": digest(torch.get_rng_state()),
        "cuda": [digest(state) for state in torch.cuda.get_rng_state_all()] if cuda else None,
        "python": hash(random.getstate()),
        "numpy": repr(np.random.get_state(legacy=False)),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": [(torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in ("cpu", "cuda")],
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "module hooks": [
            list(getattr(module_hooks, name))
            for name in ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
        ],
        "garbage collection": gc.isenabled(),
    }
