"""Results that functions under ``functools.lru_cache`` keep: those of a fake run must not survive it."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from stablelint.trace.modules import is_scripted

_Cached = functools._lru_cache_wrapper
_known: list[Any] = []
_modules_seen = 0


@contextmanager
def forgotten_fakes(model: nn.Module) -> Iterator[None]:
    """Afterwards clear every cache that holds a fake tensor, which the next real call would be given."""
    before = {id(each): each.cache_info().misses for each in (*_imported(), *_own(model))}
    try:
        yield
    finally:
        for cached in (*_imported(), *_own(model)):
            computed = cached.cache_info().misses != before.get(id(cached), 0)
            if computed and _holds_fake(gc.get_referents(cached), 3):
                cached.cache_clear()


def _imported() -> Iterable[Any]:
    """All cached functions; looked for again when something was imported."""
    global _modules_seen
    if len(sys.modules) != _modules_seen:
        _modules_seen = len(sys.modules)
        found = (each for each in gc.get_objects() if type(each) is _Cached)
        _known[:] = [each for each in found if not str(each.__module__).startswith("stablelint.")]
    return _known


def _own(model: nn.Module) -> Iterator[Any]:
    """Cached functions that the model made for itself."""
    for module in model.modules():
        if not is_scripted(module):
            yield from (value for value in vars(module).values() if type(value) is _Cached)


def _holds_fake(values: Iterable[Any], depth: int) -> bool:
    for value in values:
        if isinstance(value, FakeTensor):
            return True
        inner = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
        if depth and inner and _holds_fake(inner, depth - 1):
            return True
    return False
