"""The places where a recorded run must differ from a plain one; patched for one run only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import Function
from torch.utils._pytree import tree_leaves

from stablelint.trace.call import Call
from stablelint.trace.dynamo import once_loaded
from stablelint.trace.recorder import Recorder

_TRANSPARENT = ("torch.utils.checkpoint", "torch.distributed")  # functions that only run other modules
_MOVING = ("torch.distributed.tensor", "torch.distributed.fsdp")  # those that spread, gather or watch tensors


@contextmanager
def recorded_autograd_functions(recorder: Recorder) -> Iterator[None]:
    """Record each ``Function.apply`` as one op under the name of its class."""
    original = Function.__dict__["apply"]

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        run = original.__get__(None, cls)
        if not recorder.active():
            return run(*args, **kwargs)
        if cls.__module__.startswith(_MOVING):
            with torch._C.DisableTorchFunction():
                out = run(*args, **kwargs)
            recorder.moved((args, kwargs), out)
            return out
        if cls.__module__.startswith(_TRANSPARENT):
            before, recorder.recomputed = recorder.recomputed, recorder.autograd_on()
            try:
                return run(*args, **kwargs)
            finally:
                recorder.recomputed = before
        with torch._C.DisableTorchFunction():
            out = run(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out)):
            call = Call(cls.__name__, [("input", tensor) for tensor in tensors])
            call.attrs.update(
                {f"arg{at}": arg for at, arg in enumerate(args) if isinstance(arg, (bool, int, float, str))}
            )
            recorder.record(call, run, args, kwargs, out, sys._getframe(1))
        return out

    with _attribute(Function, "apply", classmethod(apply), original):
        yield


def script_function(*args: Any) -> Any:
    """What the fx graph names as the target of a call of a ``torch.jit.script`` function."""
    raise NotImplementedError("a recorded TorchScript call cannot be run again")


@contextmanager
def recorded_script_functions(recorder: Recorder) -> Iterator[None]:
    """Record each call of a ``torch.jit.script`` function, whose inside cannot be seen, as one op under its name."""
    original = torch._C.ScriptFunction.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not recorder.active():
            return original(function, *args, **kwargs)
        with torch._C.DisableTorchFunction():
            out = original(function, *args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out)):
            found = Call(function.name, [("input", tensor) for tensor in tensors])
            recorder.record(found, script_function, args, kwargs, out, sys._getframe(1))
        return out

    with _attribute(torch._C.ScriptFunction, "__call__", call, original):
        yield


@contextmanager
def convertible_modules(active: bool) -> Iterator[None]:
    """Let a forward pass call ``module.to(...)`` on fake weights, which torch cannot swap in place."""
    original = nn.Module._apply

    def apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        for child in self.children() if recurse else ():
            child._apply(fn)  # type: ignore[no-untyped-call]
        for table in (self._parameters, self._buffers):
            entries: dict[str, Any] = table
            for name, tensor in entries.items():
                if tensor is None:
                    continue
                new = fn(tensor)
                if (new.dtype, new.device) != (tensor.dtype, tensor.device):
                    entries[name] = nn.Parameter(new, tensor.requires_grad) if table is self._parameters else new
        return self

    if active:
        with _attribute(nn.Module, "_apply", apply, original):
            yield
    else:
        yield


@contextmanager
def eager_compiled() -> Iterator[None]:
    """Run what the user wrapped in ``torch.compile`` as it is written, and control flow operators as Python does."""
    with ExitStack() as stack:
        stack.enter_context(once_loaded(lambda: stack.enter_context(torch.compiler.set_stance("force_eager"))))
        stack.enter_context(_attribute(torch, "cond", _cond, torch.cond))
        yield


def _cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Any = ()) -> Any:
    return (true_fn if pred else false_fn)(*operands)


@contextmanager
def whole_lists() -> Iterator[None]:
    """Let ``tolist`` of a fake tensor be one call, as it is on a real one, not one per element."""
    with _attribute(FakeTensor, "tolist", torch.Tensor.tolist, FakeTensor.tolist):
        yield


@contextmanager
def transformers_unaware() -> Iterator[None]:
    """Keep transformers from taking other code paths when it sees fake tensors."""
    utilities = sys.modules.get("transformers.utils.import_utils")
    original = getattr(utilities, "is_fake_tensor", None)
    if utilities is None or original is None:
        yield
        return
    with _attribute(utilities, "is_fake_tensor", _no, original):
        yield


@contextmanager
def _attribute(owner: Any, name: str, value: Any, original: Any) -> Iterator[None]:
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _no(_value: object) -> bool:
    return False
