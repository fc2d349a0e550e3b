"""What a forward pass may change outside of its modules: globals, classes, functions, plain objects.

A forward pass on fake tensors must not leave one of them in a table of the user's, from where the next real pass would
take it. What can be reached from the code of the model is noted before, and put back where a fake tensor stayed.
"""

from __future__ import annotations

import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from stablelint.trace.frames import is_user_file
from stablelint.trace.modules import is_scripted

_INSTALLED = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
# Objects of these packages are no tables of the user's, and lead anywhere.
_FOREIGN = frozenset({"torch", "stablelint", "builtins", "logging", "threading", "numpy", "typing", "importlib"})
_TABLES = ("_parameters", "_buffers", "_modules")
_DEEPEST = 4  # containers in containers
_MOST = 20_000  # elements of one container that are looked at: a vocabulary is no table of tensors
_CONTAINERS = (dict, list, set, deque)
_PLAIN = frozenset({int, str, float, bool, type(None)})
_MISSING = object()


@dataclass(frozen=True)
class _Place:
    """Something that can be put back: its present elements, for comparing, and how."""

    look: Callable[[], dict[Any, Any] | list[Any]]
    before: dict[Any, Any] | list[Any]
    restore: Callable[[dict[Any, Any] | list[Any]], None]

    def changed(self) -> list[Any]:
        """Values that were not there before (by identity, and by key); an emptied place counts as changed, too."""
        now = self.look()
        if isinstance(now, dict) and isinstance(self.before, dict):
            new = [value for key, value in now.items() if self.before.get(key, _MISSING) is not value]
            return new if new or len(now) == len(self.before) else [None]
        same = len(now) == len(self.before) and all(a is b for a, b in zip(now, self.before, strict=True))
        return [] if same else list(now)


@contextmanager
def restored_surroundings(model: nn.Module) -> Iterator[None]:
    """Put back what the code of the model keeps outside of its modules, where the run left a fake tensor in it.

    What belongs together is put back together: all tables of one file, or of one object. A file of an installed
    library is looked at when it defines a class of the model, one of the user's also when the model's file imports
    functions from it.
    """
    units = _units(model)
    try:
        yield
    finally:
        for places in units:
            changed = [(place, values) for place in places if (values := place.changed())]
            if any(_holds_fake(values, set(), _DEEPEST) for _, values in changed):
                for place, _ in changed:
                    place.restore(place.before)


def _units(model: nn.Module) -> list[list[_Place]]:
    modules = [module for module in model.modules() if not is_scripted(module)]
    seen = {id(each) for each in modules} | {id(vars(each)[name]) for each in modules for name in _TABLES}
    kinds: dict[type, None] = {}
    objects: list[Any] = []
    for module in modules:
        kinds.update(dict.fromkeys(each for each in type(module).__mro__ if not _is_foreign(each)))
        # restored_attributes puts back what is added to the module itself, and to its own containers
        objects += [value for value in vars(module).values() if type(value) not in _PLAIN and not _is_empty(value)]
    units = [list(_of_namespace(space, seen)) for space in _namespaces(kinds)]
    units += [list(_of_class(kind, seen)) for kind in kinds]
    units += [list(_of_value(each, seen, _DEEPEST)) for each in objects]
    return [unit for unit in units if unit]


def _namespaces(kinds: dict[type, None]) -> list[dict[str, Any]]:
    """The globals of the files that define the model's classes, and of the user's files that these import from."""
    functions = [each for kind in kinds for each in vars(kind).values() if type(each) is FunctionType]
    found = {id(each.__globals__): each.__globals__ for each in functions if is_user_file(each.__code__.co_filename)}
    waiting = deque(found.values())
    while waiting:
        for value in tuple(waiting.popleft().values()):
            space = _defined_in(value)
            if space is not None and id(space) not in found and _is_own_file(space):
                found[id(space)] = space
                waiting.append(space)
    return list(found.values())


def _defined_in(value: Any) -> dict[str, Any] | None:
    """The globals of the file that a function or class, or a module itself, is from."""
    if type(value) is FunctionType:
        return value.__globals__
    if isinstance(value, ModuleType):
        return vars(value)
    if issubclass(type(value), type):
        return next((each.__globals__ for each in vars(value).values() if type(each) is FunctionType), None)
    return None


def _is_own_file(space: dict[str, Any]) -> bool:
    file = space.get("__file__")
    return isinstance(file, str) and is_user_file(file) and not file.startswith(_INSTALLED)


def _is_foreign(kind: type) -> bool:
    return str(getattr(kind, "__module__", "builtins")).partition(".")[0] in _FOREIGN


# ---- places


def _of_namespace(space: dict[str, Any], seen: set[int]) -> Iterator[_Place]:
    """The names of a file, its tables and objects, and what its functions and classes keep."""
    if id(space) in seen:
        return
    seen.add(id(space))
    yield _Place(lambda: dict(space), dict(space), lambda before: _refill(space, before))
    home = space.get("__name__")
    for value in tuple(space.values()):
        if issubclass(type(value), type):
            if getattr(value, "__module__", None) == home:
                yield from _of_class(value, seen)
        elif not isinstance(value, ModuleType):
            yield from _of_value(value, seen, _DEEPEST)


def _of_class(kind: type, seen: set[int]) -> Iterator[_Place]:
    if id(kind) in seen:
        return
    seen.add(id(kind))
    yield _Place(lambda: dict(vars(kind)), dict(vars(kind)), lambda before: _reassign(kind, before))
    for value in tuple(vars(kind).values()):
        yield from _of_value(
            value.__func__ if isinstance(value, (staticmethod, classmethod)) else value, seen, _DEEPEST
        )


def _of_value(value: Any, seen: set[int], depth: int) -> Iterator[_Place]:
    """A container or plain object with all in it, or a function with its defaults, attributes and variables."""
    kind = type(value)
    if depth == 0 or kind in _PLAIN or id(value) in seen:
        return
    inner: Any = ()
    if kind is tuple:
        inner = value
    elif issubclass(kind, _CONTAINERS):
        seen.add(id(value))
        inner = _elements(value)
        if len(inner) > _MOST:
            return
        yield _container(value)
    elif kind is MethodType:
        inner = (value.__self__, value.__func__)
    elif kind is partial:
        inner = (value.func, *value.args, value.keywords)
    elif kind is FunctionType:
        seen.add(id(value))
        yield from (_cell(each) for each in value.__closure__ or ())
        inner = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), vars(value))
        inner += tuple(_content(each) for each in value.__closure__ or ())
    if is_plain(value):
        seen.add(id(value))
        attributes = value.__dict__
        yield _Place(lambda: dict(attributes), dict(attributes), lambda before: _refill(attributes, before))
        inner = (*inner, *attributes.values())
        yield from _of_class(kind, seen)
    for each in inner:
        yield from _of_value(each, seen, depth - 1)


def is_plain(value: Any) -> bool:
    """Whether attributes of ``value`` are the user's data: no class, function, file or part of torch."""
    kind = type(value)
    if issubclass(kind, (type, ModuleType, FunctionType)) or _is_foreign(kind):
        return False
    return type(getattr(value, "__dict__", None)) is dict


def _is_empty(value: Any) -> bool:
    return issubclass(type(value), _CONTAINERS) and not _elements(value)


def _elements(value: Any) -> tuple[Any, ...]:
    # A lazy mapping overrides these methods, and imports what it names when they are called.
    return tuple(dict.values(value)) if issubclass(type(value), dict) else tuple(value)


def _container(value: Any) -> _Place:
    if issubclass(type(value), dict):
        return _Place(lambda: dict.copy(value), dict.copy(value), lambda before: _refill(value, before))
    if issubclass(type(value), set):
        return _Place(lambda: list(value), list(value), lambda before: (value.clear(), value.update(before))[0])
    return _Place(lambda: list(value), list(value), lambda before: (value.clear(), value.extend(before))[0])


def _cell(cell: CellType) -> _Place:
    def look() -> dict[Any, Any]:
        content = _content(cell)
        return {} if content is _MISSING else {"content": content}

    def restore(before: Any) -> None:
        if before:
            cell.cell_contents = before["content"]
        else:
            del cell.cell_contents

    return _Place(look, look(), restore)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing assigned yet
        return _MISSING


def _refill(target: dict[Any, Any], before: Any) -> None:
    now = dict.copy(target)
    for key in [key for key in now if key not in before]:
        del target[key]
    target.update((key, value) for key, value in before.items() if now.get(key, _MISSING) is not value)


def _reassign(kind: type, before: Any) -> None:
    """Put class attributes back; what Python itself keeps there (``__abstractmethods__`` and such) cannot change."""
    for key in [key for key in vars(kind) if key not in before]:
        with suppress(AttributeError, TypeError):
            delattr(kind, key)
    for key, value in before.items():
        if vars(kind).get(key, _MISSING) is not value:
            with suppress(AttributeError, TypeError):
                setattr(kind, key, value)


def _holds_fake(value: Any, seen: set[int], depth: int) -> bool:
    if isinstance(value, FakeTensor):
        return True
    if depth == 0 or id(value) in seen:
        return False
    seen.add(id(value))
    inner: Any = _elements(value) if issubclass(type(value), (*_CONTAINERS, tuple, frozenset)) else ()
    if is_plain(value):
        inner = (*inner, *value.__dict__.values())
    return any(_holds_fake(each, seen, depth - 1) for each in inner)
