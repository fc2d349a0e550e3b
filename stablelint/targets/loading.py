"""Importing the user's code, and saying in one sentence where it went wrong."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from stablelint.errors import ImportTargetError, TargetError, did_you_mean
from stablelint.targets.imports.execute import LeftOut, left_out, missing
from stablelint.targets.imports.finder import LenientLoader, lenient_imports
from stablelint.targets.spec import shown

_LONGEST_TEXT = 300


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


def importable(*folders: Path) -> None:
    """Make ``folders`` and the working directory importable instead of the previous target's folders.

    Modules that came out of those are forgotten: two targets may each have a ``utils.py`` beside them.
    """
    global _folders
    wanted = tuple(dict.fromkeys(str(folder.resolve()) for folder in folders))
    if _home is None or wanted == _folders:
        return
    if _keep:
        sys.path[:0] = [each for each in wanted if each not in sys.path]
        return
    left = tuple(folder + os.sep for folder in _folders if folder not in wanted)
    for name, module in list(sys.modules.items()) if left else ():
        file = getattr(module, "__file__", None)
        if left and name not in _home.modules and isinstance(file, str) and file.startswith(left) and is_users(file):
            del sys.modules[name]
    _folders = wanted
    sys.path[:] = [*wanted, *(entry for entry in _home.path if entry not in wanted)]
    if _home.cwd not in sys.path and "" not in sys.path:
        sys.path.insert(len(wanted), _home.cwd)
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


@dataclass(frozen=True)
class Loaded:
    """A user's file as a module: statements that were not run, and packages that are stood in for."""

    module: ModuleType
    source: str | None
    tree: ast.Module | None
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[str, ...] = ()


def load_file(path: Path) -> Loaded:
    """Import a file: by its dotted name inside a package, else by path under a name that nothing else has.

    A folder is a package when it has an ``__init__.py`` or when the file imports relatively. Only what definitions need
    is run, and what fails of that is left out; raises ImportTargetError for what is no Python.
    """
    resolved = path.resolve()
    root, dotted = _package(resolved)
    importable(*([root] if root == resolved.parent else [root, resolved.parent]))
    sys.path += [each for each in _further_folders(resolved) if each not in sys.path]
    sys.argv[:] = [str(path)]
    with sentence(ImportTargetError, "while it is imported", path), lenient_imports(is_users, str(resolved)):
        if dotted is not None:
            try:
                module = importlib.import_module(dotted)
            except ModuleNotFoundError:
                module = None
            if module is not None and module.__file__ and Path(module.__file__).resolve() == resolved:
                return _loaded(module, resolved)
        digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
        name = f"_stablelint_target_{path.stem}_{digest}".replace(".", "_")
        return _loaded(sys.modules[name] if name in sys.modules else _execute(name, resolved), resolved)


def _loaded(module: ModuleType, path: Path | None) -> Loaded:
    source = tree = None
    if path is not None and path.suffix == ".py":
        source = path.read_text(encoding="utf-8", errors="replace")
        with suppress(SyntaxError):
            tree = ast.parse(source)
    return Loaded(module, source, tree, left_out(module), missing(module))


def load_module(dotted: str) -> Loaded:
    """Import a module by its dotted name, with the working directory importable."""
    importable(Path.cwd())
    with lenient_imports(is_users):
        try:
            if importlib.util.find_spec(dotted) is None:
                raise ImportTargetError(f"there is no module {dotted}{_near_module(dotted)}")
        except ModuleNotFoundError as error:
            if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
                raise ImportTargetError(describe(error, "while it is imported", dotted)) from error
            raise ImportTargetError(f"there is no module {dotted}{_near_module(dotted)}") from None
        except (Exception, SystemExit) as error:
            raise ImportTargetError(describe(error, "while it is imported", dotted)) from error
        with sentence(ImportTargetError, "while it is imported", dotted):
            module = importlib.import_module(dotted)
            return _loaded(module, Path(module.__file__) if module.__file__ else None)


def is_users(file: str | None) -> bool:
    """Whether a source file is the user's: not of an installed library, of Python or of stablelint itself."""
    if not file or file.startswith("<"):
        return False
    return not file.startswith(_LIBRARY_FOLDERS)


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
    where = _innermost(error) or name
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"{where} calls sys.exit({code}) {when}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        return f"{where} imports {error.name}, which cannot be found; install {top} or put its folder on PYTHONPATH"
    return f"{where} raises {type(error).__name__}{_text(error)} {when}"


def short(error: BaseException) -> str:
    """Type and text of an error on one line of bounded length."""
    return f"{type(error).__name__}{_text(error)}"


def _text(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # a user's __str__ may raise
        text = ""
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT].rsplit(" ", 1)[0] + " ..."
    return f": {text}" if text else ""


def _innermost(error: BaseException) -> str | None:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    return f"{shown(frames[-1].filename)}:{frames[-1].lineno}" if frames else None


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, loader=LenientLoader(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportTargetError(f"{shown(path)} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _package(path: Path) -> tuple[Path, str | None]:
    """The folder to import from, and the dotted name of a file inside a package."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder, level = path.parent, _relative_level(path)
    while folder != folder.parent and ((folder / "__init__.py").exists() or len(parts) <= level - (not parts)):
        parts.append(folder.name)
        folder = folder.parent
    dotted = ".".join(reversed(parts))
    inside = folder != path.parent and not any("." in part for part in parts)
    return (folder, dotted) if inside else (path.parent, None)


def _relative_level(path: Path) -> int:
    """How many folders up a file's relative imports lead."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return 0
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


_ROOT_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "README.md", "README.rst")
_MOST_FOLDERS_UP = 5


def _further_folders(path: Path) -> list[str]:
    """What the entry points of a repository have on their path: the folders up to its root, and ``src`` in these."""
    found: list[str] = []
    folder = path.parent
    for _ in range(_MOST_FOLDERS_UP):
        found += [str(each) for each in (folder, folder / "src") if each.is_dir()]
        if folder in (Path.cwd(), Path.home(), folder.parent) or any(
            (folder / mark).exists() for mark in _ROOT_MARKS[:4]
        ):
            break
        folder = folder.parent
    return found


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


def _library_folders() -> tuple[str, ...]:
    here = str(Path(__file__).resolve().parent.parent)
    # The standard library is a folder of its own, below which a user's project can hardly lie; the prefix is not:
    # /usr or a virtual environment inside the project would swallow the user's code.
    folders = [here, *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(sorted({folder + os.sep for each in folders for folder in (each, str(Path(each).resolve()))}))


_LIBRARY_FOLDERS = _library_folders()
