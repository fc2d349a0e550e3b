"""The import hook: a user's files are loaded leniently, also those that other files of the user's import."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from stablelint.targets.imports import execute

#: The file whose models are looked for: of it, only what its definitions need is run.
_target: str | None = None


class LenientLoader(importlib.machinery.SourceFileLoader):
    """Loads a source file statement by statement."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the file in ``module``."""
        source = self.get_data(self.path)
        module.__dict__.setdefault("__builtins__", __builtins__)
        execute.run(module, source, self.path, everything=self.path != _target)


class UsersFinder(MetaPathFinder):
    """Finds what Python's own finder finds on the path, and takes over where it is a user's source file."""

    def __init__(self, is_users: Callable[[str | None], bool]) -> None:
        self.is_users = is_users

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a user's module; None for any other."""
        if path is None and fullname in sys.stdlib_module_names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if (
            spec is None
            or not self.is_users(spec.origin)
            or not isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        ):
            return None
        spec.loader = LenientLoader(spec.loader.name, spec.loader.path)
        return spec


@contextmanager
def lenient_imports(is_users: Callable[[str | None], bool], target: str | None = None) -> Iterator[None]:
    """While active, the hook stands in front of Python's finders; ``target`` is the file whose models are wanted."""
    global _target
    finder, before = UsersFinder(is_users), _target
    sys.meta_path.insert(0, finder)
    _target = target
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _target = before
