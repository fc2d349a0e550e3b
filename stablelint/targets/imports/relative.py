"""Relative imports of files that are in no package: the folder that they mean becomes one."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_MADE_UP = "_stablelint_package_"


def absolute(tree: ast.Module, package: str, file: str) -> ast.Module:
    """The tree of a file with its relative imports made absolute where ``package`` has too few levels for them."""
    depth = len(package.split(".")) if package else 0
    if not any(_is_beyond(node, depth) for node in ast.walk(tree)):
        return tree
    copied = copy.deepcopy(tree)
    for node in ast.walk(copied):
        if _is_beyond(node, depth):
            assert isinstance(node, ast.ImportFrom)
            folder = Path(file).parents[min(node.level, len(Path(file).parents)) - 1]
            node.module = ".".join([_made(folder), *([node.module] if node.module else [])])
            node.level = 0
    return copied


def is_made_up(name: str) -> bool:
    """Whether a package has its name from us."""
    return name.startswith(_MADE_UP)


def readable(name: str) -> str:
    """A dotted name as the user knows it: without what we call the folder."""
    return name.partition(".")[2] or "its folder" if is_made_up(name) else name


def _is_beyond(node: ast.AST, depth: int) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > depth


def _made(folder: Path) -> str:
    """The name of the package that a folder becomes; its ``__init__.py`` is executed when there is one."""
    from stablelint.targets.imports.finder import TolerantLoader

    name = _MADE_UP + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    if name in sys.modules:
        return name
    init = folder / "__init__.py"
    if init.is_file():
        loader = TolerantLoader(name, str(init))
        spec = importlib.util.spec_from_file_location(
            name, init, loader=loader, submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            loader.exec_module(sys.modules[name])
        except SyntaxError:
            return name  # its modules may be fine
    else:
        bare(name, folder)
    return name


def bare(name: str, folder: Path) -> ModuleType:
    """An importable package without code of its own."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    module.__package__ = name
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
    return module
