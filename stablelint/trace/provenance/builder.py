"""Build a model without its weights: what is large goes to meta, and its values are followed on samples."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from stablelint.trace.bindings import storage_of
from stablelint.trace.provenance.contents import Contents
from stablelint.trace.provenance.replay import EMPTY, RANDOM, Replay
from stablelint.trace.provenance.sample import Sample, draw
from stablelint.trace.provenance.store import Provenance
from stablelint.trace.provenance.unwritten import mark

#: Elements up to which a tensor of floats is made for real: vectors, tables of frequencies, small weights.
SMALL = 1 << 16
# Constants (masks, positions, rotary tables) are real up to a larger size, and all such together up to a budget,
# for a trace wants their values and only their use as a parameter shows that it does not.
_LARGE_CONSTANT = 1 << 22
_CONSTANT_BYTES = 128 << 20


class TooLarge(BaseException):
    """A build on real memory asks for more parameters than it may; no `except Exception` of the build catches it."""


class _Kind(NamedTuple):
    name: str
    placed: bool  # takes a device
    written: tuple[tuple[int, str], ...]  # arguments that it writes


class Builder(TorchDispatchMode):
    """Watches every operation of a build.

    Without ``allocate`` large tensors are made on meta; with it all are real, and ``most`` limits the number of
    parameters (:class:`TooLarge`).
    """

    def __init__(self, provenance: Provenance, *, allocate: bool, most: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.allocate = allocate
        self.moved: Callable[[torch.Tensor, torch.Tensor], None] = lambda _real, _meta: None
        self._most = most
        self._count = 0
        self._counted: dict[int, weakref.ref[torch.Tensor]] = {}
        self._provenance = provenance
        self._replay = Replay(provenance)
        self._swapped: dict[int, tuple[weakref.ref[torch.Tensor], nn.Parameter]] = {}
        self._constants: list[tuple[StorageWeakRef, int]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True wraps __torch_dispatch__ in what imports torch._dynamo: seconds, for nothing

    # ---- parameters

    def registered(self, _module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        """The hook of torch for every parameter that a module gets; what it returns replaces the parameter."""
        if parameter is None or is_lazy(parameter):
            return None
        if self.allocate:
            known = self._counted.get(id(parameter))
            if self._most is not None and (known is None or known() is not parameter):
                self._counted[id(parameter)] = weakref.ref(parameter)
                self._count += parameter.numel()
                if self._count > self._most:
                    raise TooLarge
            return None
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            return self._without_memory(parameter)

    def _without_memory(self, parameter: nn.Parameter) -> nn.Parameter | None:
        if parameter.is_meta or parameter.numel() <= SMALL:
            return None
        found = self._swapped.get(id(parameter))
        if found is not None and found[0]() is parameter:  # tied
            return found[1]
        with torch.no_grad():
            bare = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype, device="meta")
        if self._provenance.unfilled(parameter):
            self._provenance.put(bare, self._replay.factory(None, "empty", (), {}, bare))
        else:
            self._provenance.put(bare, self._provenance.sample(parameter))
        new = nn.Parameter(bare, requires_grad=parameter.requires_grad)
        new.__dict__.update(parameter.__dict__)
        self._swapped[id(parameter)] = (weakref.ref(parameter), new)
        self.moved(parameter, new)
        return new

    # ---- operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        with torch._C.DisableTorchFunction():
            kind = _kind(func)
            if not self.allocate:
                if kind.placed:
                    kwargs["device"] = _host(kwargs.get("device"))
                tensors = [leaf for leaf in _leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
                if any(tensor.is_meta for tensor in tensors):
                    return self._virtual(func, kind, args, kwargs)
            return self._real(func, kind, args, kwargs)

    def _real(self, func: Any, kind: _Kind, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """All operands are allocated."""
        if kind.placed and (not self.allocate or self._most is not None) and kind.name != "_to_copy":
            made = self._unallocated(func, kind, args, kwargs)
            if made is not None:
                return made
        out = func(*args, **kwargs)
        if kind.name in EMPTY:
            mark(out)
        return out

    def _unallocated(self, func: Any, kind: _Kind, args: Sequence[Any], kwargs: dict[str, Any]) -> torch.Tensor | None:
        """A factory's result on meta, when it is to stay there."""
        on_meta = {key: value for key, value in kwargs.items() if key not in ("generator", "pin_memory")}
        on_meta["device"] = torch.device("meta")
        try:
            out = func(*args, **on_meta)
        except (RuntimeError, NotImplementedError):  # has no rule for meta
            return None
        if not isinstance(out, torch.Tensor) or out.numel() <= SMALL or out.layout is not torch.strided:
            return None
        if self.allocate:
            if self._most is not None and out.numel() > self._most:
                raise TooLarge
            return None
        constant = kind.name not in EMPTY and kind.name not in RANDOM
        if out.numel() <= _LARGE_CONSTANT and (constant or not out.is_floating_point()) and self._affordable(out):
            real: torch.Tensor = func(*args, **kwargs)
            size = real.untyped_storage().nbytes()
            self._constants.append((StorageWeakRef(real.untyped_storage()), size))  # type: ignore[no-untyped-call]
            if kind.name in EMPTY:
                mark(real)
            return real
        self._provenance.put(out, self._replay.factory(func, kind.name, args, kwargs, out))
        return out

    def _affordable(self, out: torch.Tensor) -> bool:
        size = out.numel() * out.element_size()
        if sum(each for _, each in self._constants) + size > _CONSTANT_BYTES:
            self._constants = [each for each in self._constants if not each[0].expired()]  # type: ignore[no-untyped-call]
        return sum(each for _, each in self._constants) + size <= _CONSTANT_BYTES

    def _virtual(self, func: Any, kind: _Kind, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Some operand is on meta."""
        targets = [kwargs.get(name, args[place] if place < len(args) else None) for place, name in kind.written]
        allocated = [each for each in targets if isinstance(each, torch.Tensor) and not each.is_meta]
        if kind.name in ("allclose", "equal"):  # an assertion about values holds; two tensors are not the same
            return kind.name == "allclose" or args[0] is args[1]
        if allocated or kind.name in ("_local_scalar_dense", "is_nonzero"):
            new_args, new_kwargs = tree_map(self._drawn, (tuple(args), kwargs))
            return func(*new_args, **new_kwargs)
        dropped = ("generator",) if kind.name.endswith("_") else ("generator", "pin_memory")
        on_meta = {key: value for key, value in kwargs.items() if key not in dropped}
        if kind.placed:
            on_meta["device"] = torch.device("meta")
        new_args, new_kwargs = tree_map(_on_meta, (tuple(args), on_meta))
        out = func(*new_args, **new_kwargs)
        if targets:
            self._replay.write(func, kind.name, args, kwargs)
            return out
        before = {storage_of(leaf) for leaf in _leaves(args, kwargs) if isinstance(leaf, torch.Tensor)}
        outs = [each for each in (out if isinstance(out, (list, tuple)) else [out]) if isinstance(each, torch.Tensor)]
        fresh = [each for each in outs if storage_of(each) not in before]
        if not fresh:  # views
            return out
        if isinstance(out, torch.Tensor):
            contents: Sequence[Sample | Contents] = [self._replay.result(func, kind.name, args, kwargs, out)]
        else:
            contents = self._replay.results(kind.name, args, outs)
        for each, found in zip(outs, contents, strict=False):
            self._provenance.put(each, found)
        if isinstance(out, torch.Tensor):
            return self._settled(out, kind)
        return (
            type(out)(self._settled(each, kind) if isinstance(each, torch.Tensor) else each for each in out)
            if type(out) in (list, tuple)
            else out
        )

    def _settled(self, out: torch.Tensor, kind: _Kind) -> torch.Tensor:
        """A small result is a real tensor again, when its values are known."""
        if out.numel() > SMALL or out.layout is not torch.strided:
            return out
        if kind.name in EMPTY:
            real = torch.empty_strided(out.shape, out.stride(), dtype=out.dtype)
            mark(real)
            return real
        sample = self._provenance.sample(out)
        return draw(sample, out.shape, out.dtype) if sample.known else out

    def _drawn(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_meta:
            return value
        return draw(self._provenance.sample(value), value.shape, value.dtype)


def _on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _leaves(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    flat = [*args, *kwargs.values()]
    if any(isinstance(value, (list, tuple, dict)) for value in flat):
        return tree_flatten(flat)[0]
    return flat


def _host(device: Any) -> Any:
    return torch.device("cpu") if device is not None and torch.device(device).type == "meta" else device


@lru_cache(maxsize=4096)
def _kind(func: Any) -> _Kind:
    written = []
    placed = False
    for place, argument in enumerate(func._schema.arguments):
        placed = placed or argument.name == "device"
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append((place, argument.name))
    return _Kind(func.overloadpacket.__name__, placed, tuple(written))
