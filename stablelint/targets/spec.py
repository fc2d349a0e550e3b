"""What the user typed, expanded into requests; no torch, nothing is imported, only names and paths are looked at."""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stablelint.errors import UsageError, did_you_mean

#: Libraries whose models are built by name.
LIBRARIES = ("torchvision", "timm")

_FORMS = "path/file.py, path/file.py:factory, package.module:factory, torchvision:NAME or timm:NAME"
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
    """A spec taken apart: ``kind`` is "file", "module", "torchvision" or "timm"; ``name`` is what follows the colon."""

    kind: str
    source: str
    name: str | None = None


def expand(specs: Sequence[str], *, swept: bool = False) -> list[Request]:
    """The requests of a command line, in its order and without repetitions; ``swept`` marks all whole files so.

    Raises UsageError with one sentence for a path that does not exist or a form that nobody knows.
    """
    requests = [request for spec in specs for request in _expand_one(spec, swept)]
    return list({request.spec: request for request in reversed(requests)}.values())[::-1]


def split(spec: str) -> Parts:
    """Take one spec apart; raises UsageError like :func:`expand`."""
    if Path(spec).is_file():
        return Parts("file", _python_file(spec))
    head, colon, name = spec.rpartition(":")
    if not colon:
        raise UsageError(_no_such_path(spec))
    if not name or not head:
        raise UsageError(f"{spec!r} is not complete: write {_FORMS}")
    if head in LIBRARIES:
        return Parts(head, head, name)
    if head == "hf":
        raise UsageError(f"{spec}: hf: targets are not supported yet; build the model in a file with `def build()`")
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
            yield Request(f"{source}:{parts.name}")
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
