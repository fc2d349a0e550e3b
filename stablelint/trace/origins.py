"""Who wrote the initial values of a parameter, and which line constructed a module."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from stablelint.site import Site
from stablelint.trace.canonical import is_inplace, raw_name
from stablelint.trace.frames import is_torch_file, position, user_frame
from stablelint.trace.provenance import Builder, Moments, Provenance

_INIT_FILE = nn.init.__file__
# Writes of values into memory that another function allocated carry the writer's name; these only pass values on.
_PASSED_ON = frozenset({"clone", "detach", "contiguous", "to", "type", "float", "half", "double", "bfloat16", "data"})
#: Allocate and write nothing.
NO_VALUES = frozenset({"empty", "empty_like", "new_empty", "empty_strided"})
_PLAIN_INPLACE = frozenset(
    {"requires_grad_", "detach_", "share_memory_", "resize_", "retain_grad", "set_", "swapaxes_"}
)
# What gives away memory that may then be written without torch knowing.
_LEAKS = frozenset({"numpy", "__array__", "data_ptr", "__dlpack__", "untyped_storage", "storage", "_typed_storage"})


class _Writer(NamedTuple):
    """Who last wrote (``numel`` elements of) a memory, and the line that allocated it when that gave it no values."""

    memory: StorageWeakRef
    name: str
    site: Site
    numel: int
    allocated: Site | None


class Origins:
    """What was observed while a model was built; empty until ``observe_build`` ran."""

    def __init__(self) -> None:
        self._writers: dict[int, _Writer] = {}
        self._modules: dict[int, tuple[weakref.ref[nn.Module], Site]] = {}
        self.provenance = Provenance()

    def parameter(self, tensor: torch.Tensor) -> tuple[str, Site] | None:
        """The function that last wrote the values of ``tensor`` and the user line that it was called from."""
        found = self._writer(tensor)
        return None if found is None else (found.name, found.site)

    def allocation(self, tensor: torch.Tensor) -> Site | None:
        """The user line that made the memory of ``tensor`` without giving it values."""
        found = self._writer(tensor)
        return None if found is None else found.allocated

    def module(self, module: nn.Module) -> Site | None:
        """The user line that constructed ``module``."""
        found = self._modules.get(id(module))
        return found[1] if found is not None and found[0]() is module else None

    def loaded(self, tensor: torch.Tensor, moments: Moments | None = None) -> None:
        """The values of ``tensor`` come from a checkpoint; ``moments`` are theirs when it is not allocated."""
        self._write(tensor, "checkpoint", Site())
        if moments is not None:
            self.provenance.measured(tensor, moments)

    def _writer(self, tensor: torch.Tensor) -> _Writer | None:
        try:
            return self._writers.get(tensor.untyped_storage()._cdata)
        except (RuntimeError, NotImplementedError, ValueError):  # lazy and sparse tensors have no storage
            return None

    def _write(self, tensor: torch.Tensor, name: str, site: Site) -> None:
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError, ValueError):
            return
        # The weak reference keeps the address from being used again without keeping the memory.
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        before = self._writers.get(storage._cdata)
        allocated = site if name in NO_VALUES else before.allocated if before is not None else None
        self._writers[storage._cdata] = _Writer(reference, name, site, tensor.numel(), allocated)

    def _name_constructor(self, parameter: torch.Tensor | None, frame: FrameType, boundary: FrameType | None) -> None:
        """Legacy constructors (``torch.Tensor(n)``) pass no function mode; the line of the registration stands."""
        if parameter is None or is_lazy(parameter) or self._writer(parameter) is not None:
            return
        if not self.provenance.unfilled(parameter):
            return
        found = user_frame(frame, boundary)
        self._write(parameter, "empty", Site("", *position(found)) if found is not None else Site())

    def _construct(self, module: nn.Module, site: Site) -> None:
        self._modules[id(module)] = (weakref.ref(module), site)

    def _moved(self, tensor: torch.Tensor, other: torch.Tensor) -> None:
        """``other`` stands for ``tensor`` from now on."""
        found = self._writer(tensor)
        if found is not None:
            self._write(other, found.name, found.site)


@contextmanager
def observe_build(
    origins: Origins | None = None, *, allocate: bool = True, most: int | None = None
) -> Iterator[Origins]:
    """Observe initial values and constructions while active; ``origins`` continues an earlier observation.

    Without ``allocate`` large tensors are built on meta, and :attr:`Origins.provenance` knows their distributions;
    the code that builds sees no difference. ``most`` is the number of parameters above which a build that allocates
    ends with :class:`stablelint.trace.provenance.TooLarge`.
    """
    origins = Origins() if origins is None else origins
    boundary: FrameType | None = sys._getframe(1)  # frames outside of the one that entered are not the model's
    while boundary is not None and boundary.f_code.co_filename.endswith("contextlib.py"):
        boundary = boundary.f_back
    saved = {name: nn.Module.__dict__.get(name) for name in ("__init__", "__setstate__")}
    builder = Builder(origins.provenance, allocate=allocate, most=most)
    builder.moved = origins._moved
    thread = threading.get_ident()

    def observed(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            site = _construction_site(self, sys._getframe(1), boundary)
            if site is not None:
                origins._construct(self, site)
            return result

        wrapper.__name__ = original.__name__
        wrapper.__wrapped__ = original  # type: ignore[attr-defined]  # inspect.signature must still see the original
        return wrapper

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if threading.get_ident() != thread:
            return None
        with torch._C.DisableTorchFunction():
            origins._name_constructor(parameter, sys._getframe(1), boundary)
        return builder.registered(module, name, parameter)

    hook = register_module_parameter_registration_hook(registered)  # type: ignore[arg-type]  # what it returns is used
    try:
        for name, original in saved.items():
            if original is not None:
                setattr(nn.Module, name, observed(original))
        with builder, _Writes(origins, boundary, hide_meta=not allocate):
            yield origins
    finally:
        hook.remove()
        for name, original in saved.items():
            if original is not None:
                setattr(nn.Module, name, original)


class _Writes(TorchFunctionMode):
    """Notes every call that writes values."""

    def __init__(self, origins: Origins, boundary: FrameType | None, *, hide_meta: bool) -> None:
        super().__init__()
        self._origins = origins
        self._boundary = boundary
        self._hide_meta = hide_meta

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            out = func(*args, **kwargs)
        except RuntimeError as error:
            if not self._hide_meta or "device" not in str(error):
                raise
            args, kwargs = tree_map(self._origins.provenance.on_meta, (tuple(args), dict(kwargs)))
            out = func(*args, **kwargs)
        name = raw_name(func)
        if name in _PLAIN_INPLACE or getattr(func, "__name__", "") == "__get__":
            if self._hide_meta and name in ("is_meta", "device"):
                # Initialisers of torch and of libraries skip tensors on meta; they must not know.
                return False if name == "is_meta" else torch.device("cpu") if out.type == "meta" else out
            return out
        if name in _LEAKS and args and isinstance(args[0], torch.Tensor):
            before = self._origins._writer(args[0])
            if before is not None and before.name in NO_VALUES:
                self._note(args[0], name, sys._getframe(1))
        frame = sys._getframe(1)
        if is_inplace(name):
            target = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
            if isinstance(target, torch.Tensor):
                self._wrote(target, name, frame)
        elif isinstance(kwargs.get("out"), torch.Tensor):
            self._wrote(kwargs["out"], name, frame)
        elif isinstance(out, torch.Tensor) and (not args or out is not args[0]):
            self._made(out, name, args, kwargs, frame)
        return out

    def _wrote(self, target: torch.Tensor, name: str, frame: FrameType) -> None:
        initialiser, inside = _initialiser(frame)
        if not inside and is_torch_file(frame.f_code.co_filename):
            before = self._origins._writer(target)
            if before is not None and target.numel() < before.numel:
                return  # nn.Embedding zeroes the row of padding_idx: no initialisation of its own
        self._note(target, initialiser or name, frame)

    def _made(
        self, out: torch.Tensor, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], frame: FrameType
    ) -> None:
        own = self._origins._writer(out)
        if own is not None:  # a view: slicing and reshaping write nothing
            return
        sources = [
            self._origins._writer(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        ]
        known = [source for source in sources if source is not None]
        if name in NO_VALUES:  # of another tensor it has the shape only
            self._note(out, name, frame)
        elif name in _PASSED_ON and known:
            self._origins._write(out, known[0].name, known[0].site)
        elif len(known) == 1:  # torch.randn(n, n) * 0.02 is still randn
            self._note(out, known[0].name, frame)
        else:
            self._note(out, name, frame)

    def _note(self, tensor: torch.Tensor, name: str, frame: FrameType) -> None:
        found = user_frame(frame, self._boundary)
        self._origins._write(tensor, name, Site("", *position(found)) if found is not None else Site())


def _initialiser(frame: FrameType | None) -> tuple[str | None, bool]:
    """The outermost function of torch.nn.init that is running."""
    name = None
    inside = False
    while frame is not None and is_torch_file(frame.f_code.co_filename):
        if frame.f_code.co_filename == _INIT_FILE:
            inside = True
            if not frame.f_code.co_name.startswith("_"):
                name = frame.f_code.co_name
        frame = frame.f_back
    return name, inside


def _construction_site(module: nn.Module, frame: FrameType | None, boundary: FrameType | None) -> Site | None:
    """The first user line outside the module's own ``__init__`` methods."""
    found = user_frame(frame, boundary)
    while found is not None and found.f_code.co_name == "__init__" and _self_of(found) is module:
        if found is boundary:
            return None
        found = user_frame(found.f_back, boundary)
    return None if found is None else Site("", *position(found))


def _self_of(frame: FrameType) -> object:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if names else None
