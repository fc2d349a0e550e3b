"""Which module is running, and the site of an op inside it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from stablelint.site import Site
from stablelint.trace.frames import position, user_frame
from stablelint.trace.origins import Origins


class _Running(NamedTuple):
    module: nn.Module
    path: str
    call: int
    kind: str


class ModuleStack:
    """The modules whose forward is running, from global forward hooks."""

    def __init__(self, model: nn.Module, origins: Origins | None) -> None:
        self._paths: dict[int, str] = {}
        for path, module in model.named_modules():
            self._paths.setdefault(id(module), path)
        self._origins = origins
        self._stack: list[_Running] = []
        self._calls: Counter[str] = Counter()
        self._owned: dict[type, bool] = {}
        self._thread = threading.get_ident()
        self._keep: list[nn.Module] = []
        self.boundary: FrameType | None = None  # frames outside of this one are not the model's
        self.on_result: Callable[[nn.Module, Any, Any], None] | None = None

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow all forward calls of this thread."""
        handles = [
            module_hooks.register_module_forward_pre_hook(self._enter),
            module_hooks.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        path = self._paths.get(id(module))
        if path is None:  # not registered: a module in a Python list, or made in forward
            outer = self._stack[-1].path if self._stack else ""
            path = self._paths[id(module)] = f"{outer}.<{type(module).__name__}>".lstrip(".")
            self._keep.append(module)
        self._stack.append(_Running(module, path, self._calls[path], type(module).__name__))
        self._calls[path] += 1

    def _leave(self, module: nn.Module, args: Any, result: Any) -> None:
        if threading.get_ident() != self._thread or not self._stack:
            return
        if self.on_result is not None and self._stack[-1].module is module:
            self.on_result(module, args, result)
        while self._stack and self._stack.pop().module is not module:
            pass  # forwards that an exception left

    def opaque(self) -> bool:
        """Whether TorchScript runs, which calls torch without the recorder seeing what belongs to what."""
        return bool(self._stack) and is_scripted(self._stack[-1].module)

    def place(self, frame: FrameType | None) -> tuple[Site, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
        """Site of an op that ``frame`` is about to record, and paths, call numbers and classes of the stack."""
        inner = self._stack[-1] if self._stack else None
        path = inner.path if inner else ""
        found = user_frame(frame, self.boundary)
        site = None
        if found is None or self._in_torch_container():
            site = self._construction_site()
        if site is not None:
            site = Site(path, site.file, site.line, site.column)
        elif found is not None:
            site = Site(path, *position(found))
        else:
            site = Site(path)
        _, scope, calls, types = zip(*self._stack, strict=True) if self._stack else ((), (), (), ())
        return site, scope, calls, types

    def _in_torch_container(self) -> bool:
        """Whether a layer of torch runs that a container of torch called: the user's line is that of the container."""
        return len(self._stack) > 1 and all(self._of_torch(type(running.module)) for running in self._stack[-2:])

    def _construction_site(self) -> Site | None:
        if self._origins is None:
            return None
        for running in reversed(self._stack):
            site = self._origins.module(running.module)
            if site is not None:
                return site
        return None

    def _of_torch(self, kind: type) -> bool:
        if kind not in self._owned:
            classes = kind.__mro__[: kind.__mro__.index(nn.Module)]
            self._owned[kind] = all(cls.__module__.split(".")[0] == "torch" for cls in classes)
        return self._owned[kind]


def is_scripted(module: nn.Module) -> bool:
    """Whether the forward of ``module`` runs in TorchScript, where nothing can be recorded."""
    return isinstance(module, torch.jit.ScriptModule)
