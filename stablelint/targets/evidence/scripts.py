"""The texts around a file that may show how its models are built: scripts, tests, README blocks, notebooks."""

from __future__ import annotations

import ast
import json
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stablelint.targets.spec import shown

_ROOT_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "README.md", "README.rst")
_MOST_FOLDERS_UP = 5
_MOST_FILES = 3000
_LARGEST = 512 << 10
_LARGEST_NOTEBOOK = 4 << 20
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "wandb", "outputs", "logs", "venv", "env"}
_CODE = (".py", ".md", ".rst", ".ipynb")
_SETTINGS = (".yaml", ".yml", ".json", ".sh")
_FENCE = re.compile(r"^( *)(?:```|~~~)[ ]*(?:python|py|pycon|\{\.python\})?[^\n`]*\n(.*?)^\1(?:```|~~~)", re.M | re.S)


@dataclass(frozen=True, eq=False)
class Script:
    """One piece of Python: a file, a code block of a document, a docstring's example, or the cells of a notebook.

    ``line`` is where its text starts in the file.
    """

    path: Path
    text: str
    line: int = 1
    parsed: ast.Module | None = field(default=None, repr=False)

    @cached_property
    def tree(self) -> ast.Module | None:
        """The syntax tree; None for what is no Python (3.11 or later)."""
        if self.parsed is not None:
            return self.parsed
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text)
        except (SyntaxError, ValueError, RecursionError):
            return None

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node above each node."""
        tree = self.tree
        if tree is None:
            return {}
        return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def place(self, node: ast.AST) -> str:
        """``train.py:102``."""
        if self.path.suffix == ".ipynb":
            return shown(self.path)
        return f"{shown(self.path)}:{getattr(node, 'lineno', 1) + self.line - 1}"


class Repository:
    """The files around one file, nearest first."""

    def __init__(self, file: Path) -> None:
        self.file = file.resolve()
        self.root = root_of(self.file)

    @cached_property
    def files(self) -> list[Path]:
        """Code, documents and settings below the root: the file's own folder first, then by distance."""
        found: list[Path] = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _SKIPPED)
            found += [Path(folder, name) for name in sorted(names) if name.endswith((*_CODE, *_SETTINGS))]
            if len(found) > _MOST_FILES:
                break
        return sorted(found, key=self._distance)

    def _distance(self, path: Path) -> tuple[int, int, str]:
        here, there = self.file.parent.parts, path.parent.parts
        common = 0
        for mine, other in zip(here, there, strict=False):
            if mine != other:
                break
            common += 1
        steps = len(here) + len(there) - 2 * common
        kind = 0 if path.suffix == ".py" and not _is_test(path) else 1 if path.suffix in (".md", ".rst") else 2
        return (steps, kind, str(path))

    def text(self, path: Path) -> str:
        """The text of a file; empty for one that is too large or not text."""
        return _read(path)

    def mentioning(self, *words: str) -> Iterator[Script]:
        """Scripts whose text has one of the words, nearest first; the file itself is the first."""
        for path in [self.file, *self.files]:
            if path.suffix not in _CODE or (path == self.file and path is not self.file):
                continue
            text = self.text(path)
            if any(word in text for word in words):
                yield from (each for each in scripts_of(path, text) if any(word in each.text for word in words))


_texts: dict[Path, str] = {}
_scripts: dict[Path, list[Script]] = {}


def _read(path: Path) -> str:
    if path not in _texts:
        try:
            small = path.stat().st_size <= (_LARGEST_NOTEBOOK if path.suffix == ".ipynb" else _LARGEST)
            _texts[path] = path.read_text(encoding="utf-8", errors="replace") if small else ""
        except OSError:
            _texts[path] = ""
    return _texts[path]


def scripts_of(path: Path, text: str) -> list[Script]:
    """The pieces of Python in a file: itself, then the examples in its docstrings; of documents the code blocks."""
    if path not in _scripts:
        if path.suffix == ".py":
            own = Script(path, text)
            _scripts[path] = [own, *_docstring_examples(own)] if ">>>" in text or "xample" in text else [own]
        elif path.suffix == ".ipynb":
            _scripts[path] = _notebook(path, text)
        else:
            _scripts[path] = _blocks(path, text)
    return _scripts[path]


def root_of(file: Path) -> Path:
    """The folder that a repository's own commands are run in."""
    folder = file.parent
    best = folder
    for _ in range(_MOST_FOLDERS_UP):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            best = folder
        if (folder / ".git").exists() or folder.parent == folder or folder == Path.home():
            break
        folder = folder.parent
    cwd = Path.cwd().resolve()
    if file.is_relative_to(cwd) and best.is_relative_to(cwd) and len(file.relative_to(cwd).parts) <= _MOST_FOLDERS_UP:
        return cwd if any((cwd / mark).exists() for mark in _ROOT_MARKS) or best == file.parent else best
    return best


def _is_test(path: Path) -> bool:
    return path.name.startswith("test") or any(part.startswith("test") for part in path.parts[-3:-1])


def _blocks(path: Path, text: str) -> list[Script]:
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Script(path, _without_prompts(textwrap.dedent(match[2])), line))
    return [each for each in found if each.tree is not None]


def _notebook(path: Path, text: str) -> list[Script]:
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(each["source"]) for each in cells if each.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError):
        return []
    good = []
    for source in sources:
        plain = "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.split("\n"))
        if Script(path, plain).tree is not None:
            good.append(plain)
    return [Script(path, "\n".join(good))] if good else []


def _docstring_examples(script: Script) -> list[Script]:
    found = []
    for node in ast.walk(script.tree or ast.Module([], [])):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
            text = ast.get_docstring(node, clean=True)
            if not text or not node.body:
                continue
            line = node.body[0].lineno
            if ">>>" in text:
                found.append(Script(script.path, _without_prompts(text, only=True), line))
            elif (match := re.search(r"^\s*(?:Examples?|Usage)s?\s*:?:?\s*\n(.*)", text, re.S | re.M)) is not None:
                found.append(Script(script.path, textwrap.dedent(match[1]), line))
    return [each for each in found if each.tree is not None and each.tree.body]


def _without_prompts(text: str, *, only: bool = False) -> str:
    """The code behind ``>>>`` and ``...``; output is left out."""
    if ">>>" not in text:
        return text
    lines = []
    for line in text.split("\n"):
        plain = line.strip()
        if plain.startswith((">>> ", "... ")):
            lines.append(plain[4:])
        else:
            lines.append("" if only or not plain else "# " + plain)
    return "\n".join(lines)
