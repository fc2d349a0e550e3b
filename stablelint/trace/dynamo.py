"""torch.compile's front end, put off until something needs it: its import takes half as long as torch's own.

Every ``FakeTensorMode`` imports ``torch._dynamo.config``, a page of settings, and with it the whole package; its first
dispatch asks the package for a wrapper that keeps the compiler out. In a process that only checks models
(:func:`put_off`), the settings are loaded alone and a stand-in takes the package's place. Whoever asks it for anything
else has the real package from then on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch._guards import Source
from torch.utils._python_dispatch import _disable_current_modes

_PACKAGE = "torch._dynamo"
_SETTINGS = f"{_PACKAGE}.config"
_SOURCES = f"{_PACKAGE}.source"
#: What torch gives its wrappers to remember theirs in.
_DISABLED = "__dynamo_disable"
#: The kinds of source that a conversion to a fake tensor names without a compiler.
_LABELS = ("AttrSource", "CallMethodItemSource", "ConstantSource", "FloatTensorSource", "RandomValueSource")


class _PutOff(ModuleType):
    """The package without its content: whatever is asked of it but its settings loads it, into this very object.

    It has no ``__path__``, so that the import of any submodule that is not there asks, too.
    """

    def __init__(self) -> None:
        super().__init__(_PACKAGE)
        self._left_alone: list[Any] = []
        self._waiting: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
        _load(self)
        return getattr(self, name)

    def disable(self, fn: Any = None, *args: Any, **options: Any) -> Any:
        """For torch's own wrappers: the function itself, for there is no compiler to keep out of it."""
        if sys._getframe(1).f_globals.get("__name__") == "torch._compile":
            self._left_alone.append(fn)
            return fn
        _load(self)
        return self.disable(fn, *args, **options)


class _Label(Source):
    """Where a tensor comes from: a name for the guards of a compiler, which nobody reads without one."""

    def __init__(self, *_parts: object) -> None:
        pass

    @property
    def _name_template(self) -> str:
        return "unknown"


class _PutOffSources(ModuleType):
    """The module of the labels."""

    def __init__(self) -> None:
        super().__init__(_SOURCES)
        for name in _LABELS:
            setattr(self, name, type(name, (_Label,), {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {_SOURCES!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_PACKAGE).source, name)


def put_off() -> None:
    """Let ``torch._dynamo`` wait for its first use; nothing happens where it is loaded, or not to be had this way."""
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        return
    settings = importlib.util.spec_from_file_location(_SETTINGS, f"{spec.submodule_search_locations[0]}/config.py")
    if settings is None or settings.loader is None:
        return
    package = _PutOff()
    package.__spec__, package.__loader__, package.__package__ = spec, spec.loader, _PACKAGE
    package.__file__ = spec.origin
    package.__dict__["config"] = sys.modules[_SETTINGS] = importlib.util.module_from_spec(settings)
    sys.modules[_SOURCES] = _PutOffSources()
    sys.modules[_PACKAGE] = torch.__dict__["_dynamo"] = package
    try:
        settings.loader.exec_module(sys.modules[_SETTINGS])
    except Exception:  # another torch, whose settings need the package
        del sys.modules[_PACKAGE], sys.modules[_SETTINGS], sys.modules[_SOURCES], torch.__dict__["_dynamo"]


@contextmanager
def once_loaded(then: Callable[[], object]) -> Iterator[None]:
    """Call ``then`` if ``torch._dynamo`` is imported, at once, or as soon as what was put off is loaded inside."""
    package = sys.modules.get(_PACKAGE)
    if not isinstance(package, _PutOff):
        if package is not None:
            then()
        yield
        return
    waiting = package._waiting
    waiting.append(then)
    try:
        yield
    finally:
        if then in waiting:
            waiting.remove(then)


def _load(package: _PutOff) -> None:
    """Make the package what it is without us; what it does meanwhile is no part of what is traced just now."""
    spec = package.__spec__
    assert spec is not None
    assert spec.loader is not None
    waiting, left_alone = package._waiting, package._left_alone
    package.__class__ = ModuleType  # type: ignore[assignment]  # from here on a module like any other
    del package._waiting, package._left_alone
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules.pop(_SOURCES, None)
    for fn in left_alone:
        with contextlib.suppress(AttributeError):
            delattr(fn, _DISABLED)
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        spec.loader.exec_module(package)
    while waiting:
        waiting.pop()()
