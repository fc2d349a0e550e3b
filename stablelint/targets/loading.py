"""Importing the user's code, and saying in one sentence where it went wrong."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from stablelint.errors import ImportTargetError, TargetError, did_you_mean
from stablelint.targets.imports import finder, folders, left_out
from stablelint.targets.imports.folders import is_users
from stablelint.targets.imports.left_out import LeftOut, short, text
from stablelint.targets.imports.placeholder import PlaceholderUse
from stablelint.targets.spec import shown

__all__ = [
    "Home",
    "LeftOut",
    "Loaded",
    "describe",
    "entered",
    "importable",
    "is_users",
    "kept_folders",
    "load_file",
    "load_module",
    "require",
    "sentence",
    "settle",
    "short",
]


@dataclass(frozen=True)
class Loaded:
    """A user's file as a module that holds what its models need.

    ``tree`` and ``source`` are those of the whole file, None for a module without Python source. ``left_out`` are the
    statements that failed, of the file and of the user's files that it imported, first those that define a class of the
    file; ``missing`` the packages that are not installed and were stood in for there.
    """

    module: ModuleType
    tree: ast.Module | None
    source: str | None
    left_out: tuple[LeftOut, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Home:
    """What user code may change in this process and the next target must find as it was."""

    cwd: str
    path: tuple[str, ...]
    argv: tuple[str, ...]
    modules: frozenset[str]


_home: Home | None = None
_folders: tuple[str, ...] = ()
_keep = False


def settle() -> None:
    """Begin a target: what scripts commonly change in their process goes back to what it was at first.

    That is the working directory, ``sys.argv`` and torch's default dtype and device; for the path see
    :func:`importable`.
    """
    global _home
    if _home is None:
        _home = Home(str(Path.cwd()), tuple(sys.path), tuple(sys.argv), frozenset(sys.modules))
    os.chdir(_home.cwd)
    sys.argv[:] = _home.argv
    _reset_torch()


def importable(*wanted: Path) -> None:
    """Make folders and the working directory importable instead of the previous target's folders.

    They come before installed packages, the folders above them in their repository after these. Modules that came out
    of folders that are left are forgotten: two targets may each have a ``utils.py`` beside them.
    """
    global _folders
    first = tuple(dict.fromkeys(str(folder.resolve()) for folder in wanted))
    if _home is None or first == _folders:
        return
    last = [str(each) for folder in first for each in folders.above(Path(folder))]
    if _keep:
        sys.path[:] = list(dict.fromkeys([*first, *sys.path, *last]))
        return
    left = tuple(folder + os.sep for folder in _folders if folder not in first)
    for name, module in list(sys.modules.items()) if left else ():
        file = getattr(module, "__file__", None)
        if name not in _home.modules and isinstance(file, str) and file.startswith(left) and is_users(file):
            del sys.modules[name]
    _folders = first
    cwd = [_home.cwd] if "" not in _home.path else []
    sys.path[:] = list(dict.fromkeys([*first, *cwd, *_home.path, *last]))
    finder.install(_home.path)
    importlib.invalidate_caches()


@contextmanager
def kept_folders() -> Iterator[None]:
    """Load another file of the user's without forgetting the modules of the target's own folders."""
    global _folders, _keep
    before, path, argv = _folders, list(sys.path), list(sys.argv)
    _keep = True
    try:
        yield
    finally:
        _keep = False
        _folders, sys.path[:], sys.argv[:] = before, path, argv


def entered() -> tuple[Path, ...]:
    """The folders of the current target, for :func:`importable` when its models are built later."""
    return tuple(Path(folder) for folder in _folders)


def load_file(path: Path) -> Loaded:
    """Load a file: by its dotted name inside a package, else by path under a name that nothing else has.

    Its imports, its definitions and the statements that these and its models need are executed, one by one; what fails
    is left out. Raises ImportTargetError for a file that is not Python.
    """
    resolved = path.resolve()
    importable(*folders.first(resolved))
    sys.argv[:] = [str(path)]
    known = left_out.records()
    with sentence(ImportTargetError, "while it is imported", path), finder.aiming(str(resolved)):
        module = _in_package(resolved) or _by_path(resolved)
    return _loaded(module, known)


def require(loaded: Loaded, name: str, where: str) -> None:
    """Raise ImportTargetError when ``name`` (of ``where``) is missing because a statement was left out."""
    gone = _lost(loaded, name.partition(".")[0])
    if gone is not None:
        raise ImportTargetError(f"{where} has no {name}: {gone}")


def load_module(dotted: str) -> Loaded:
    """Load a module by its dotted name, with the working directory importable; a user's is loaded like a file."""
    importable(Path.cwd())
    known = left_out.records()
    try:
        with finder.wanting(dotted):
            found = importlib.util.find_spec(dotted)
        if found is None:
            raise ImportTargetError(f"there is no module {dotted}{_near_module(dotted)}")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
            raise ImportTargetError(describe(error, "while it is imported", dotted)) from error
        raise ImportTargetError(f"there is no module {dotted}{_near_module(dotted)}") from None
    except (Exception, SystemExit) as error:
        raise ImportTargetError(describe(error, "while it is imported", dotted)) from error
    with sentence(ImportTargetError, "while it is imported", dotted), finder.wanting(dotted):
        return _loaded(importlib.import_module(dotted), known)


@contextmanager
def sentence(kind: type[TargetError], when: str, subject: Path | str) -> Iterator[None]:
    """Turn what user code raises into ``kind`` with one sentence; our own errors pass as they are."""
    try:
        yield
    except TargetError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(describe(error, when, subject)) from error


def describe(error: BaseException, when: str, subject: Path | str) -> str:
    """``model.py:12 raises ValueError: text while it is imported``, at the innermost line of the user's code."""
    name = shown(subject) if isinstance(subject, Path) else subject
    if isinstance(error, SyntaxError) and is_users(error.filename):
        return f"{shown(error.filename or name)}:{error.lineno} is not valid Python: {error.msg}"
    place = _innermost(error)
    where = f"{shown(place.filename)}:{place.lineno}" if place is not None else name
    if isinstance(error, PlaceholderUse):
        install = f"; install {error.reason.package}" if error.reason.absent else ""
        return f"{where} uses {error.what}{install}"
    missed = left_out.missed(error, place.filename if place is not None else None)
    if missed is not None:
        return f"{where} needs {getattr(error, 'name', None)}, but {missed}"
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"{where} calls sys.exit({code}) {when}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        return f"{where} imports {error.name}, which cannot be found; install {top} or put its folder on PYTHONPATH"
    return f"{where} raises {type(error).__name__}{text(error)} {when}"


def _innermost(error: BaseException) -> traceback.FrameSummary | None:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    return frames[-1] if frames else None


def _lost(loaded: Loaded, name: str) -> LeftOut | None:
    """The statement of the loaded file that would have bound ``name`` and was left out."""
    if hasattr(loaded.module, name):
        return None
    return next((each for each in loaded.left_out if name in each.names and each.file == loaded.module.__file__), None)


def _in_package(path: Path) -> ModuleType | None:
    """The module of a file in a package, None when its dotted name leads elsewhere or its package cannot be read."""
    _, dotted = folders.package(path)
    if dotted is None:
        return None
    try:
        with finder.wanting(dotted):
            module = importlib.import_module(dotted)
    except (ImportError, SyntaxError, AttributeError, ValueError) as error:
        if isinstance(error, SyntaxError) and error.filename == str(path):
            raise
        return None
    return module if module.__file__ and Path(module.__file__).resolve() == path else None


def _by_path(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"_stablelint_target_{path.stem}_{digest}".replace(".", "_")
    if name in sys.modules:
        return sys.modules[name]
    loader = finder.TolerantLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportTargetError(f"{shown(path)} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: dataclasses and pickle look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _loaded(module: ModuleType, known: dict[str, left_out.Record]) -> Loaded:
    """The module with what became of the statements of the files that were executed since ``known``."""
    own = left_out.record(module.__file__)
    new = [each for file, each in left_out.records().items() if known.get(file) is not each and each is not own]
    records = ([own] if own is not None else []) + new
    reasons = [reason for each in records for reason in each.reasons if reason.absent]
    source = own.source if own is not None else _source(module)
    tree = own.tree if own is not None else ast.parse(source) if source is not None else None
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} if tree is not None else set()
    left = sorted((each for one in records for each in one.left_out), key=lambda each: classes.isdisjoint(each.names))
    missing = tuple(dict.fromkeys(reason.package for reason in reasons))
    return Loaded(module, tree, source, tuple(left), missing)


def _source(module: ModuleType) -> str | None:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return None


def _near_module(dotted: str) -> str:
    parent, _, last = dotted.rpartition(".")
    folder = Path.cwd().joinpath(*parent.split(".")) if parent else Path.cwd()
    if not folder.is_dir():
        return ""
    names = [entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or entry.is_dir()]
    return did_you_mean(dotted, [f"{parent}.{name}" if parent else name for name in names if name != last])


def _reset_torch() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)
