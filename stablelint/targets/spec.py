"""What the user typed, expanded into requests; no torch, nothing is imported, only names and paths are looked at."""

from __future__ import annotations

import ast
import importlib.machinery
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stablelint.errors import UsageError, did_you_mean

#: Libraries whose models are built by name.
LIBRARIES = ("torchvision", "timm", "hf")

_FORMS = (
    "path/file.py, path/file.py:factory, path/file.py:factory(depth=24), package.module:factory, torchvision:NAME, "
    "timm:NAME or hf:CONFIG"
)
_CALL = re.compile(r"(?P<target>[^()]+:[\w.]+)(?P<call>\(.*\))", re.DOTALL)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
_SKIPPED_FILES = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py|setup\.py")


@dataclass(frozen=True)
class Request:
    """One thing to check, as the user typed it; a directory has become one request per file.

    ``swept`` marks a file that nobody chose for its models (it was found below a directory, or a hook passed it on):
    there it is no mistake when the file holds none.
    """

    spec: str
    swept: bool = False


@dataclass(frozen=True)
class Parts:
    """A spec taken apart: ``kind`` is "file", "module" or one of LIBRARIES; ``name`` is what follows the colon.

    ``args`` and ``kwargs`` are the literal arguments of a factory, or what follows the ``?`` of a library's model;
    ``called`` says that the user wrote them, ``text`` is how.
    """

    kind: str
    source: str
    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    called: bool = False
    text: str = ""


def expand(specs: Sequence[str], *, swept: bool = False) -> list[Request]:
    """The requests of a command line, in its order and without repetitions; ``swept`` marks all whole files so.

    Raises UsageError with one sentence for a path that does not exist or a form that nobody knows.
    """
    requests = [request for spec in specs for request in _expand_one(spec, swept)]
    return list({request.spec: request for request in reversed(requests)}.values())[::-1]


def split(spec: str) -> Parts:
    """Take one spec apart; raises UsageError like :func:`expand`."""
    if Path(spec).is_file() and not spec.startswith(tuple(f"{library}:" for library in LIBRARIES)):
        return Parts("file", _python_file(spec))
    library, colon, rest = spec.partition(":")
    if colon and library in LIBRARIES:
        return _library_parts(spec, library, rest)
    called = _CALL.fullmatch(spec)
    if called is not None:
        parts = split(called["target"])
        args, kwargs = _literals(called["call"], spec)
        return replace(parts, args=args, kwargs=kwargs, called=True, text=called["call"])
    head, colon, name = spec.rpartition(":")
    if not colon:
        raise UsageError(_no_such_path(spec))
    if not name or not head:
        raise UsageError(f"{spec!r} is not complete: write {_FORMS}")
    if head.endswith(".py") or os.sep in head or Path(head).exists():
        if not Path(head).is_file():
            raise UsageError(_no_such_path(head))
        return Parts("file", _python_file(head), name)
    if not _DOTTED.fullmatch(head):
        raise UsageError(f"{spec!r} is not a target: write {_FORMS}")
    if _findable(head.partition(".")[0]):
        return Parts("module", head, name)
    near = did_you_mean(spec, [f"{library}:{name}" for library in LIBRARIES])
    raise UsageError(f"there is no library or module {head!r} for {spec}{near}")


def _library_parts(spec: str, library: str, rest: str) -> Parts:
    name, mark, query = rest.partition("?")
    if not name:
        raise UsageError(f"{spec!r} is not complete: write {_FORMS}")
    if library == "hf" and (name.endswith(".json") or os.sep in name) and not Path(name).exists():
        raise UsageError(_no_such_path(name))
    kwargs = []
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        if not equals or not _DOTTED.fullmatch(key):
            raise UsageError(f"{spec}: write what follows the question mark as name=value&name=value")
        try:
            kwargs.append((key, ast.literal_eval(value)))
        except (ValueError, SyntaxError):
            hint = f"; a text needs quotes: {key}='{value}'" if _DOTTED.fullmatch(value) else ""
            raise UsageError(f"{spec}: {value} is not a literal value for {key}{hint}") from None
    return Parts(library, library, name, (), tuple(kwargs), bool(mark), f"?{query}" if mark else "")


def _literals(call: str, spec: str) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """The arguments of a call, which must be literals: nothing that the user typed is evaluated."""
    try:
        node = ast.parse(f"f{call}", mode="eval").body
    except SyntaxError:
        node = None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise UsageError(f"{spec}: {call} are not the arguments of one call")
    try:
        args = tuple(ast.literal_eval(arg) for arg in node.args)
        kwargs = tuple((str(each.arg), ast.literal_eval(each.value)) for each in node.keywords if each.arg is not None)
    except (ValueError, SyntaxError):
        args, kwargs = (), ()
    if len(args) + len(kwargs) < len(node.args) + len(node.keywords):
        raise UsageError(f"{spec}: arguments must be literals such as 24, 0.5, 'gelu', True or [1, 2]")
    return args, kwargs


def looked_into(specs: Sequence[str], requests: Sequence[Request]) -> tuple[int, tuple[str, ...]]:
    """How many whole files ``requests`` are, and which of ``specs`` are folders that were searched for them."""
    files = sum(Path(request.spec).is_file() for request in requests)
    return files, tuple(dict.fromkeys(spec for spec in specs if Path(spec).is_dir()))


def shown(path: Path | str) -> str:
    """A path as messages show it: relative to the working directory when it lies below."""
    absolute = Path(path).resolve()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)


def _expand_one(spec: str, swept: bool) -> Iterator[Request]:
    if not Path(spec).is_dir():
        parts = split(spec)
        source = str(Path(parts.source)) if parts.kind == "file" else parts.source
        if parts.name is None:
            yield Request(source, swept=swept)
        else:
            yield Request(f"{source}:{parts.name}{parts.text}")
        return
    found = [Request(str(path), swept=True) for path in _python_files(Path(spec))]
    if not found:
        raise UsageError(f"there are no Python files below {spec}")
    yield from found


def _python_files(folder: Path) -> Iterator[Path]:
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in entries:
        if path.is_file() and path.suffix == ".py" and not _SKIPPED_FILES.fullmatch(path.name):
            yield path
    for path in entries:
        # A symbolic link to a folder may lead in a circle; a folder with pyvenv.cfg is a virtual environment.
        if (
            path.is_dir()
            and not path.is_symlink()
            and not path.name.startswith(".")
            and (path.name not in _SKIPPED_FOLDERS and not (path / "pyvenv.cfg").exists())
        ):
            yield from _python_files(path)


def _python_file(path: str) -> str:
    if not path.endswith(".py"):
        raise UsageError(f"{path} is not a Python file: write {_FORMS}")
    return path


def _no_such_path(spec: str) -> str:
    path = Path(spec)
    if path.exists():
        return f"{spec} is a folder: name a file in it"
    looks_like_path = os.sep in spec or spec.endswith(".py")
    if not looks_like_path and _DOTTED.fullmatch(spec) and "." in spec and _findable(spec.partition(".")[0]):
        return f"{spec} is a module: name the factory or class in it as {spec}:NAME"
    folder = path.parent
    siblings = [str(folder / entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    near = did_you_mean(str(path), (name for name in siblings if name.endswith(".py") or Path(name).is_dir()))
    return f"there is no file or folder {spec}" + (near or ("" if looks_like_path else f"; write {_FORMS}"))


def _findable(top: str) -> bool:
    if top in sys.builtin_module_names or top in sys.modules:
        return True
    return importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) is not None
