"""Results that functions under ``functools.lru_cache`` keep: those of a fake run must not survive it."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from types import CellType, FunctionType
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from stablelint.trace.modules import is_scripted

_Cached = functools._lru_cache_wrapper
_known: dict[int, Any] = {}
_METHODS: dict[type, Any] = {
    staticmethod: attrgetter("__func__"),
    classmethod: attrgetter("__func__"),
    property: attrgetter("fget"),
}
_sizes: dict[int, int] = {}  # namespace -> its size when it was looked through
_settled: set[str] = set()  # modules that are not looked through again
_KNOWN_IN_A_ROW = 20


def settle() -> None:
    """Look through all modules that are imported now, and only through later ones from here on.

    For a process that is going to fork: a look at a module copies the memory page that counts its references.
    """
    _look(tuple(sys.modules.values()))
    _settled.update(sys.modules)


@contextmanager
def forgotten_fakes(model: nn.Module) -> Iterator[None]:
    """Afterwards clear every cache that holds a fake tensor, which the next real call would be given."""
    before = {id(each): each.cache_info().misses for each in _reachable(model)}
    try:
        yield
    finally:
        for cached in _reachable(model):
            computed = cached.cache_info().misses != before.get(id(cached), 0)
            if computed and _holds_fake(gc.get_referents(cached), 3):
                cached.cache_clear()


def _reachable(model: nn.Module) -> Iterator[Any]:
    """Cached functions of all imported modules, of the files that define the model, and of its own attributes."""
    kinds = {type(module) for module in model.modules() if not is_scripted(module)}
    _look(_later() if _settled else tuple(sys.modules.values()), *(kind.forward for kind in kinds))
    yield from _known.values()
    for module in model.modules():
        if not is_scripted(module):
            yield from _functions(list(vars(module).values()))


def _look(modules: Iterable[Any], *functions: Any) -> None:
    """Remember the cached functions of modules, and of those that define functions."""
    spaces = [getattr(each, "__dict__", None) for each in modules]
    spaces += [getattr(each, "__globals__", None) for each in functions]
    for space in spaces:
        if type(space) is dict and _sizes.get(id(space)) != len(space):  # asking the collector costs ten times as much
            _sizes[id(space)] = len(space)
            _known.update((id(each), each) for each in _defined(space))


def _later() -> list[Any]:
    """Modules that were imported after :func:`settle`: they stand last, maybe among some that were imported again."""
    found: list[Any] = []
    known = 0
    for name in reversed(sys.modules):  # a copy would look at all of them
        known = known + 1 if name in _settled else 0
        if known == _KNOWN_IN_A_ROW:
            break
        if not known:
            found.append(sys.modules[name])
    return found


def _defined(space: dict[str, Any]) -> list[Any]:
    """Cached functions in the namespace of a module: as such, under decorators, and as methods of its classes."""
    home = space.get("__name__")
    values = list(space.values())
    for value in space.values():
        # isinstance would ask lazy stand-ins for their class
        if issubclass(type(value), type) and getattr(value, "__module__", None) == home:
            values += [_METHODS[type(each)](each) if type(each) in _METHODS else each for each in vars(value).values()]
    return _functions(values)


def _functions(values: list[Any]) -> list[Any]:
    """Those of ``values`` that are cached, and those that functions among them close over."""
    closures = [value.__closure__ for value in values if type(value) is FunctionType and value.__closure__]
    held = [_content(cell) for cells in closures for cell in cells]
    found = [value for value in (*values, *held) if type(value) is _Cached]
    return [each for each in found if not str(each.__module__).startswith("stablelint.")]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing assigned yet
        return None


def _holds_fake(values: Iterable[Any], depth: int) -> bool:
    for value in values:
        if isinstance(value, FakeTensor):
            return True
        inner = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
        if depth and inner and _holds_fake(inner, depth - 1):
            return True
    return False
