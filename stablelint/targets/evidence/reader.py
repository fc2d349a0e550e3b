"""Reading a repository for one file: what its names stand for, and which arguments its classes are called with."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from stablelint.errors import TargetError
from stablelint.targets.evidence.bindings import Binding, Change, Owner, bindings_of, changes_of
from stablelint.targets.evidence.fold import Unknown, fold
from stablelint.targets.evidence.scopes import Scope
from stablelint.targets.evidence.scripts import Repository, Script, scripts_of
from stablelint.targets.evidence.settings import Settings
from stablelint.targets.loading import is_users, kept_folders, load_file

_MOST_SECONDS = 20.0
_DEEPEST_CALLER = 3
#: Packages whose names have a meaning at once; others are imported only when the user's file has done so.
_LIBRARIES = {"torch", "numpy", "math", "functools", "collections", "typing", "torchvision", "timm", "transformers"}


class Reader:
    """The texts around a file, with its own module loaded.

    Other files of the user are imported only when a value turns on something that they define; all of it together may
    take 20 seconds. ``searched`` counts the seconds that searches for arguments took.
    """

    def __init__(self, module: ModuleType, file: Path) -> None:
        self.module = module
        self.file = file.resolve()
        self.repository = Repository(self.file)
        self.settings = Settings(self)
        self._tables: dict[int, dict[str, list[Binding]]] = {}
        self._changes: dict[int, list[Change]] = {}
        self._following: set[tuple[int, str]] = set()
        self._deadline = time.monotonic() + _MOST_SECONDS
        self.searched = 0.0

    @cached_property
    def own(self) -> Script:
        """The file itself."""
        return scripts_of(self.file, self.repository.text(self.file))[0]

    # ---- names

    def table(self, owner: Owner) -> dict[str, list[Binding]]:
        """The bindings of a function, class or module, found once."""
        if id(owner) not in self._tables:
            self._tables[id(owner)] = bindings_of(owner)
        return self._tables[id(owner)]

    def changes(self, owner: Owner) -> list[Change]:
        """The assignments to fields in a function or module, found once."""
        if id(owner) not in self._changes:
            self._changes[id(owner)] = changes_of(owner)
        return self._changes[id(owner)]

    def imported(self, script: Script, binding: Binding) -> Any:
        """What an import statement binds; raises Unknown for what cannot be imported."""
        node = binding.node
        if isinstance(node, ast.Import):
            alias = next(each for each in node.names if (each.asname or each.name.partition(".")[0]) == binding.name)
            return self._module(script, alias.name if alias.asname else alias.name.partition(".")[0], 0)
        assert isinstance(node, ast.ImportFrom)
        source = next(each.name for each in node.names if (each.asname or each.name) == binding.name)
        own = self._own(source, node)
        if own is not None:
            return own
        home = self._module(script, node.module or "", node.level)
        if hasattr(home, source):
            return getattr(home, source)
        return self._module(script, f"{node.module}.{source}" if node.module else source, node.level)

    def _own(self, name: str, node: ast.ImportFrom) -> Any:
        """The target file's own definition, when the import leads to it, maybe through a package's ``__init__``."""
        value = getattr(self.module, name, None)
        if getattr(value, "__module__", None) != self.module.__name__:
            return None
        last = (node.module or "").rpartition(".")[2]
        folders = {each.name for each in self.file.parents}
        return value if last in ("", self.file.stem) or last in folders or node.level else None

    def _module(self, script: Script, dotted: str, level: int) -> Any:
        top = dotted.partition(".")[0]
        if level == 0 and top in (_LIBRARIES | set(sys.stdlib_module_names)):
            with contextlib.suppress(ImportError):
                return importlib.import_module(dotted)
            raise Unknown(f"{dotted}, which cannot be imported")
        path = self._file_of(script, dotted, level)
        if path == self.file:
            return self.module
        if path is not None:
            return self._loaded(path)
        if level == 0 and (found := sys.modules.get(dotted)) is not None:
            return found
        raise Unknown(f"the module {dotted}")

    def _file_of(self, script: Script, dotted: str, level: int) -> Path | None:
        """The file of a user's module."""
        parts = dotted.split(".") if dotted else []
        if level:
            folder = script.path.parent
            for _ in range(level - 1):
                folder = folder.parent
            roots = [folder]
        else:
            above = [each for each in script.path.parents if each.is_relative_to(self.repository.root)]
            roots = [*above, self.repository.root, self.repository.root / "src"]
        for root in roots:
            path = root.joinpath(*parts)
            for each in (path.with_suffix(".py") if parts else None, path / "__init__.py"):
                if each is not None and each.is_file():
                    return each.resolve()
        return None

    def _loaded(self, path: Path) -> ModuleType:
        if time.monotonic() > self._deadline:
            raise Unknown(f"{path.name}, for there is no more time")
        try:
            with kept_folders():
                return load_file(path).module
        except TargetError as error:
            raise Unknown(str(error)) from None

    def defined(self, script: Script, name: str, owners: tuple[Owner, ...]) -> Any:
        """A function or class that the script defines; raises Unknown for one inside a function."""
        if not isinstance(owners[0], ast.Module):
            raise Unknown(f"{name}, which a function defines")
        if script.path == self.file and hasattr(self.module, name):
            return getattr(self.module, name)
        if script.path.suffix != ".py" or script.line != 1:
            raise Unknown(f"{name}, which an example defines")
        module = self._loaded(script.path)
        if not hasattr(module, name):
            raise Unknown(f"{name} of {script.path.name}")
        return getattr(module, name)

    def starred(self, script: Script, node: ast.ImportFrom, name: str) -> tuple[Any] | None:
        """What ``from x import *`` binds to ``name``: a constant of that file, or something that it defines."""
        path = self._file_of(script, node.module or "", node.level)
        if path is None:
            return None
        if path == self.file and hasattr(self.module, name):
            return (getattr(self.module, name),)
        other = scripts_of(path, self.repository.text(path))[0]
        key = (id(other), name)
        if other.tree is None or key in self._following:
            return None
        self._following.add(key)
        try:
            return (Scope(self, other, (other.tree,), 1 << 30).lookup(name, ast.Name(name, lineno=1 << 30), 0),)
        except Unknown:
            return None
        finally:
            self._following.discard(key)

    def is_users(self, function: Any) -> bool:
        """Whether a function stands in the user's code."""
        code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
        return code is not None and is_users(code.co_filename)

    # ---- callers

    def passed(self, function: ast.AST, owners: tuple[Owner, ...], name: str, depth: int) -> tuple[Any] | None:
        """What a caller passes for a parameter of a function or a constructor; None when none tells."""
        if depth >= _DEEPEST_CALLER or not isinstance(function, ast.FunctionDef):
            return None
        method = len(owners) > 1 and isinstance(owners[1], ast.ClassDef)
        called = owners[1].name if method and isinstance(owners[1], ast.ClassDef) else function.name
        if method and function.name != "__init__":
            called = function.name
        key = (id(function), name)
        if key in self._following or time.monotonic() > self._deadline:
            return None
        self._following.add(key)
        try:
            for where, node in self.call_nodes(called, self.repository.mentioning(called)):
                argument = _argument(node, function, name, skip=1 if method else 0)
                if argument is not None:
                    with contextlib.suppress(Unknown):
                        return (fold(argument, Scope.of(self, where, argument, depth + 1)),)
        finally:
            self._following.discard(key)
        return None

    def call_nodes(self, name: str, scripts: Iterator[Script]) -> Iterator[tuple[Script, ast.Call]]:
        """The calls of something of this name."""
        for script in scripts:
            tree = script.tree
            if tree is None:
                continue
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == name]
            yield from ((script, node) for node in sorted(calls, key=lambda each: (each.lineno, each.col_offset)))


def last_name(node: ast.expr) -> str | None:
    """``Net`` of ``models.Net``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _argument(node: ast.Call, function: ast.FunctionDef, name: str, *, skip: int) -> ast.expr | None:
    """The expression that a call gives for a parameter."""
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)][skip:]
    if name in names and names.index(name) < len(node.args):
        given = node.args[names.index(name)]
        if not any(isinstance(each, ast.Starred) for each in node.args[: names.index(name) + 1]):
            return given
    return None
