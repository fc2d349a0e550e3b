"""Whose file it is, and the folders that the entry points of its repository would have on ``sys.path``."""

from __future__ import annotations

import os
import site
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_FURTHEST = 5
_NAMESPACE_DEPTH = 3
_NAMESPACE_ENTRIES = 2000


def is_users(file: str | None) -> bool:
    """Whether a source file is the user's: not of an installed library, of Python or of stablelint itself."""
    if not file or file.startswith("<"):
        return False
    return not file.startswith(_LIBRARY_FOLDERS)


def is_ours(file: str) -> bool:
    """Whether a source file is part of stablelint."""
    return file.startswith(_OWN_FOLDERS)


def repository(start: Path) -> Path:
    """The root of the repository that a folder lies in, itself or at most a few folders above.

    That is the nearest folder with a mark of a project, or the working directory when that is further up; a README
    counts where there is neither. Without any it is ``start``.
    """
    every = [start, *start.parents][: _FURTHEST + 1]
    cwd = Path.cwd().resolve()
    marked = next((count for count, folder in enumerate(every) if any((folder / mark).exists() for mark in _MARKS)), -1)
    below = every.index(cwd) if cwd in every else -1
    if max(marked, below) >= 0:
        return every[max(marked, below)]
    ends = (".md", ".rst", "", ".txt")
    return next((folder for folder in every if any((folder / f"README{end}").exists() for end in ends)), start)


def package(path: Path) -> tuple[Path, str | None]:
    """The folder to import from, and the dotted name of a file inside a package."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        parts.append(folder.name)
        folder = folder.parent
    dotted = ".".join(reversed(parts))
    inside = folder != path.parent and all(part.isidentifier() for part in parts)
    return (folder, dotted) if inside else (path.parent, None)


def first(path: Path) -> tuple[Path, ...]:
    """Folders that come before installed packages, as when the file is run or its package is imported."""
    return tuple(dict.fromkeys((package(path)[0], path.parent)))


def above(start: Path) -> tuple[Path, ...]:
    """Folders that come after installed packages: from ``start`` up to its repository's root, and the ``src`` in each.

    They come last, for a folder ``datasets`` or ``test`` somewhere above is no reason to hide what is installed.
    """
    root = repository(start)
    every = [folder for folder in (start, *start.parents) if folder == root or root in folder.parents]
    return tuple(each for folder in every for each in (folder, folder / "src") if each.is_dir())


def has_modules(folder: str) -> bool:
    """Whether there is Python code somewhere in a folder; a folder of data or logs is no namespace package."""
    seen = 0
    for place, folders, files in os.walk(folder):
        if any(name.endswith((".py", ".so", ".pyd")) for name in files):
            return True
        seen += len(files) + len(folders)
        if seen > _NAMESPACE_ENTRIES:
            return False
        if place[len(folder) :].count(os.sep) >= _NAMESPACE_DEPTH:
            folders.clear()
        folders[:] = [name for name in folders if name.isidentifier()]
    return False


def _below(folders: list[str]) -> Iterator[str]:
    for folder in folders:
        for each in (folder, str(Path(folder).resolve())):
            yield each + os.sep


_OWN_FOLDERS = tuple(sorted(set(_below([str(Path(__file__).resolve().parents[2])]))))


def _library_folders() -> tuple[str, ...]:
    # The standard library is a folder of its own, below which a user's project can hardly lie; the prefix is not:
    # /usr or a virtual environment inside the project would swallow the user's code.
    folders = [sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(sorted({*_below(folders), *_OWN_FOLDERS}))


_LIBRARY_FOLDERS = _library_folders()
