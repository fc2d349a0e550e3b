"""Importing other files of the user: found where their repository keeps them, executed like the first."""

from __future__ import annotations

import ast
import glob
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType

from stablelint.targets.imports.folders import has_modules, is_ours, is_users
from stablelint.targets.imports.relative import absolute

_wanted: str | None = None
_target: str | None = None


@contextmanager
def wanting(name: str) -> Iterator[None]:
    """While a module is imported by its full dotted name: of several packages the one that has it is meant."""
    global _wanted
    before, _wanted = _wanted, name
    try:
        yield
    finally:
        _wanted = before


@contextmanager
def aiming(file: str) -> Iterator[None]:
    """While the file is loaded whose models are looked for: of all others everything may be wanted by name."""
    global _target
    before, _target = _target, file
    try:
        yield
    finally:
        _target = before


def install(home: Sequence[str]) -> None:
    """Find and load the user's modules from now on; ``home`` is the path before the user's folders were added."""
    remove()
    at = next((index for index, each in enumerate(sys.meta_path) if each is PathFinder), len(sys.meta_path))
    sys.meta_path.insert(at, UserFinder(home))


def remove() -> None:
    """Leave all imports to Python again."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, UserFinder)]


class TolerantLoader(SourceFileLoader):
    """Executes a file of the user statement by statement; see :mod:`stablelint.targets.imports.execution`."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute what the file's definitions need; raises SyntaxError only."""
        from stablelint.targets.imports.execution import execute

        data = self.get_data(self.path)
        source = importlib.util.decode_source(data)
        tree = ast.parse(source, self.path)
        made = absolute(tree, module.__package__ or "", self.path)
        record = execute(module, made, source, self.path, imported=self.path != _target)
        record.tree, record.source = tree, source


class UserFinder:
    """In front of Python's own search of the path."""

    def __init__(self, home: Sequence[str]) -> None:
        self.home = list(home)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module is; one of the user's gets our loader."""
        spec = PathFinder.find_spec(name, path) if path is not None else self._top(name)
        if spec is None:
            return None
        if type(spec.loader) is SourceFileLoader and is_users(spec.origin):
            spec.loader = TolerantLoader(spec.loader.name, spec.loader.path)
        return spec

    def _top(self, name: str) -> ModuleSpec | None:
        if not _for_user(sys._getframe(2)):
            return PathFinder.find_spec(name, self.home) or PathFinder.find_spec(name)
        wanted = _wanted
        if wanted is not None and wanted.startswith(f"{name}."):
            for entry in sys.path:
                spec = PathFinder.find_spec(name, [entry])
                if spec is not None and _has(spec, wanted.split(".")[1:]):
                    return spec
        spec = PathFinder.find_spec(name)
        if wanted is not None and spec is not None and _is_data(spec):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _is_data(spec: ModuleSpec) -> bool:
    """Whether a folder holds no code: it hides no missing package, as logs would of ``wandb``."""
    if spec.origin is not None or spec.submodule_search_locations is None:
        return False
    return not any(not is_users(place) or has_modules(place) for place in spec.submodule_search_locations)


def _has(spec: ModuleSpec, rest: list[str]) -> bool:
    """Whether a package has a module inside, by its files: Python's own search looks the parents up in sys.modules."""
    if spec.submodule_search_locations is None:
        return False
    places = [Path(each) for each in getattr(spec.submodule_search_locations, "_path", spec.submodule_search_locations)]
    for part in rest[:-1]:
        places = [place / part for place in places if (place / part).is_dir()]
    last = rest[-1]
    return any((place / last).is_dir() or any(place.glob(f"{glob.escape(last)}.*")) for place in places)


def _for_user(frame: FrameType | None) -> bool:
    """Whether an import stands in the user's code: libraries shall find what they would find without the user."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and not file.endswith(_IMPORTLIB):
            return is_users(file) or is_ours(file)
        frame = frame.f_back
    return False


_IMPORTLIB = str(importlib.__file__)
