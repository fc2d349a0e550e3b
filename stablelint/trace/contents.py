"""What modules hold besides each other (containers, objects, generators, arrays, tensors), and putting it back."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import nn

from stablelint.trace.modules import is_scripted
from stablelint.trace.surroundings import is_plain
from stablelint.trace.tensors import LARGEST

_CONTAINERS = (dict, list, set, deque)
_BUILT_IN = frozenset({*_CONTAINERS, OrderedDict})
_ATOMS = frozenset({int, str, float, bool, bytes, complex, type(None), torch.dtype, torch.device, torch.Size})
_DEEPEST = 4  # containers and objects in each other; a module starts again
_MOST = 20_000  # elements of one container that are followed: a vocabulary is no cache


class Contents:
    """``roots`` and all that can be reached from their attributes and elements and can change, noted as they are now.

    Modules that stand in plain lists count, too. What is of other packages than the user's (an optimiser, a logger)
    is not entered, nor is anything behind a module of ``but``. ``tensors`` are those that were met, each once; their
    values are not noted.
    """

    def __init__(self, roots: Iterable[Any], but: Collection[nn.Module] = ()) -> None:
        self.tensors: list[torch.Tensor] = []
        self._attributes: list[tuple[Any, dict[str, Any], type]] = []
        self._empty: list[Any] = []
        self._containers: list[tuple[Any, Any]] = []
        self._others: list[Callable[[], None]] = []
        self._seen = {id(each) for each in but}
        waiting = [(each, _DEEPEST) for each in roots]
        while waiting:
            value, depth = waiting.pop()
            if id(value) in self._seen:
                continue
            module = isinstance(value, nn.Module)
            inner = self._module(value) if module else self._note(value)
            depth = _DEEPEST if module else depth - 1
            if depth:
                waiting += [(each, depth) for each in inner if type(each) not in _ATOMS]

    def _module(self, module: nn.Module) -> Iterable[Any]:
        self._seen.add(id(module))
        if is_scripted(module):  # its attributes are no Python objects
            return (*module.parameters(), *module.buffers())
        self._attributes.append((module, dict(module.__dict__), type(module)))
        inner = [each for each in module.__dict__.values() if type(each) not in _ATOMS]
        # most are tables of hooks without one: they make up nine tenths of what there is to note
        self._empty += [each for each in inner if type(each) in _BUILT_IN and not each]
        return [each for each in inner if type(each) not in _BUILT_IN or each]

    def _note(self, value: Any) -> Iterable[Any]:
        """Note a value as it is; what is in it."""
        if isinstance(value, tuple):
            return value
        inner: Iterable[Any] = ()
        if isinstance(value, _CONTAINERS):
            self._seen.add(id(value))
            inner = self._container(value)
            if type(value) in _BUILT_IN:
                return inner
        elif isinstance(value, torch.Tensor):
            self._seen.add(id(value))
            self.tensors.append(value)
            if not vars(value):
                self._empty.append(vars(value))
                return ()
        elif _is_generator(value):
            self._others.append(_generator(value))
        elif _is_array(value) and value.nbytes <= LARGEST:
            self._others.append(partial(_fill, value, value.copy()))
        if isinstance(value, torch.Tensor) or is_plain(value):
            self._seen.add(id(value))
            self._attributes.append((value, dict(value.__dict__), type(value)))
            return (*inner, *value.__dict__.values())
        return inner

    def _container(self, value: Any) -> Iterable[Any]:
        if not value:
            self._empty.append(value)
            return ()
        content: Any = _raw(value).copy(value) if isinstance(value, dict) else list(value)
        self._containers.append((value, content))
        if len(content) > _MOST:
            return ()
        return list(content.values()) if isinstance(value, dict) else content

    def restore(self) -> None:
        """Put everything back; what was not touched is not written."""
        for value, attributes, kind in self._attributes:
            if type(value) is not kind:  # parametrizations change the class of their module
                value.__class__ = kind
            if not _same(value.__dict__, attributes):
                value.__dict__.clear()
                value.__dict__.update(attributes)
        for value in self._empty:
            if value:
                value.clear()
        for value, content in self._containers:
            _refill(value, content)
        for restore in self._others:
            restore()


def _refill(value: Any, content: Any) -> None:
    if isinstance(value, dict):
        raw = _raw(value)
        if not _same(value, content):
            raw.clear(value)
            for key, item in content.items():
                raw.__setitem__(value, key, item)
    elif isinstance(value, set):
        if value != set(content):
            value.clear()
            value.update(content)
    elif len(value) != len(content) or not all(map(is_, value, content)):
        value.clear()
        value.extend(content)


def _same(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """By identity and in order: == of tensors is no truth value."""
    if len(now) != len(before):
        return False
    return all(map(is_, dict.keys(now), before)) and all(map(is_, dict.values(now), dict.values(before)))


def _raw(value: dict[Any, Any]) -> Any:
    """The type whose methods read and write the table itself, whatever a subclass makes of them."""
    return OrderedDict if isinstance(value, OrderedDict) else dict


# ---- generators and arrays; numpy only where somebody has imported it


def _numpy() -> Any:
    return sys.modules.get("numpy")


def _is_array(value: Any) -> bool:
    return (numpy := _numpy()) is not None and isinstance(value, numpy.ndarray)


def _is_generator(value: Any) -> bool:
    if isinstance(value, (torch.Generator, random.Random)):
        return True
    return (numpy := _numpy()) is not None and isinstance(value, (numpy.random.Generator, numpy.random.RandomState))


def _generator(value: Any) -> Callable[[], None]:
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    if hasattr(value, "bit_generator"):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    return partial(value.set_state, value.get_state())


def _fill(array: Any, before: Any) -> None:
    if array.flags.writeable:
        array[...] = before
