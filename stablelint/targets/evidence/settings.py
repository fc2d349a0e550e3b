"""Settings that a repository writes down: options, fields of classes, dicts, YAML, JSON, shell commands."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablelint.targets.callplan import SETTINGS
from stablelint.targets.evidence.fold import Unknown, fold
from stablelint.targets.evidence.options import is_reader_of_options, options_of
from stablelint.targets.evidence.scripts import Script, scripts_of
from stablelint.targets.spec import shown

if TYPE_CHECKING:
    from stablelint.targets.evidence.reader import Reader

_MOST_FILES = 24
_MOST_TEXT = 64 << 10


@dataclass(frozen=True)
class Source:
    """Names and values of one place; ``where`` says which."""

    where: str
    values: Mapping[str, Any]
    path: Path


class Settings:
    """All sources of settings of a repository, nearest to its file first; a file is read when it names a setting."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.used: dict[str, str] = {}
        self._found: dict[Path, list[Source]] = {}
        self._asked: dict[tuple[str, Path], tuple[Source, Any] | None] = {}

    def value(self, key: str, owner: str, script: Script) -> Any:
        """The value of a setting: that of the script, else of the first source that has it; raises Unknown."""
        if (key, script.path) not in self._asked:
            self._asked[key, script.path] = None  # while it is looked for
            self._asked[key, script.path] = self._search(key, script)
        found = self._asked[key, script.path]
        if found is None:
            raise Unknown(f"{owner}.{key}")
        self.used[key] = found[0].where
        return found[1]

    def _search(self, key: str, script: Script) -> tuple[Source, Any] | None:
        empty: tuple[Source, Any] | None = None
        for path in self._files([script.path], key):
            for source in self.sources(path):
                if key in source.values:
                    if source.values[key] is not None:
                        return source, source.values[key]
                    empty = empty or (source, None)
        return empty

    def best(self, keys: set[str], name: str = "") -> list[Source]:
        """Sources that tell at least some of the keys, best first; of equal ones that which is called like ``name``."""
        name = name.lower()
        texts = [(path, self.reader.repository.text(path)) for path in self._files([], *keys)]
        rich = sorted(texts, key=lambda each: -sum(key in each[1] for key in keys))[:_MOST_FILES]
        found = [source for path, _ in rich for source in self.sources(path)]

        def score(source: Source) -> tuple[int, bool]:
            told = sum(source.values.get(key) is not None for key in keys)
            return (-told, not (name and name in source.where.lower()))

        return sorted((each for each in found if keys & set(each.values)), key=score)

    def _files(self, first: list[Path], *keys: str) -> Iterator[Path]:
        repository = self.reader.repository
        for path in dict.fromkeys([*first, repository.file, *repository.files]):
            text = repository.text(path)
            if any(key in text for key in keys):
                yield path

    def sources(self, path: Path) -> list[Source]:
        """The sources in one file, found once."""
        if path not in self._found:
            self._found[path] = []  # while it is read
            text = self.reader.repository.text(path)
            if path.suffix in (".yaml", ".yml", ".json", ".sh"):
                self._found[path] = list(_of_file(path, text))
            else:
                for script in scripts_of(path, text):
                    own = path.suffix == ".py" and script.line == 1
                    self._found[path] += self._of_script(script) if own else self._dicts(script)
        return self._found[path]

    def _of_script(self, script: Script) -> Iterator[Source]:
        from stablelint.targets.evidence.scopes import Scope

        if is_reader_of_options(script):
            options = options_of(script, lambda node, at: fold(node, Scope.of(self.reader, script, at)))
            yield Source(f"the options of {shown(script.path)}", options, script.path)
        for node in script.tree.body if script.tree else ():
            if isinstance(node, ast.ClassDef) and _holds_settings(node):
                values = self._fields(script, node)
                if values:
                    yield Source(f"{node.name} in {script.place(node)}", values, script.path)
            elif isinstance(node, ast.FunctionDef) and node.name.lower().endswith((*SETTINGS, "hyperparameters")):
                fields = {
                    change.path[-1]: value
                    for change in self.reader.changes(node)
                    if (value := self._folded(script, change.value)) is not _MISSING
                }
                if fields:
                    yield Source(f"{node.name} in {script.place(node)}", fields, script.path)
        yield from self._dicts(script)
        constants = {
            each.targets[0].id: value
            for each in (script.tree.body if script.tree else ())
            if isinstance(each, ast.Assign) and len(each.targets) == 1 and isinstance(each.targets[0], ast.Name)
            if isinstance(each.value, ast.Constant | ast.List | ast.Tuple | ast.UnaryOp | ast.BinOp)
            if (value := self._folded(script, each.value)) is not _MISSING
        }
        if constants:
            yield Source(f"the constants of {shown(script.path)}", constants, script.path)

    def _fields(self, script: Script, node: ast.ClassDef) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in node.body:
            target: ast.expr | None = None
            value: ast.expr | None = None
            if isinstance(each, ast.AnnAssign):
                target, value = each.target, each.value
                if isinstance(value, ast.Call):  # dataclasses.field(default=...)
                    value = next((k.value for k in value.keywords if k.arg == "default"), value)
            elif isinstance(each, ast.Assign) and len(each.targets) == 1:
                target, value = each.targets[0], each.value
            elif isinstance(each, ast.FunctionDef) and each.name == "__init__":
                for change in self.reader.changes(each):
                    folded = self._folded(script, change.value)
                    if folded is not _MISSING:
                        found.setdefault(change.path[-1], folded)
            if isinstance(target, ast.Name) and value is not None:
                folded = self._folded(script, value)
                if folded is not _MISSING:
                    found[target.id] = folded
        return found

    def _dicts(self, script: Script) -> Iterator[Source]:
        for node in ast.walk(script.tree or ast.Module([], [])):
            if isinstance(node, ast.Dict) and len(node.keys) >= 2:
                keys = [each.value for each in node.keys if isinstance(each, ast.Constant)]
                named = len(keys) == len(node.keys) and all(isinstance(key, str) for key in keys)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
                named = len(node.keywords) >= 2
            else:
                continue
            value = self._folded(script, node) if named else _MISSING
            if isinstance(value, dict) and not all(isinstance(each, dict) for each in value.values()):
                yield Source(f"the dict in {script.place(node)}", value, script.path)

    def _folded(self, script: Script, node: ast.expr) -> Any:
        from stablelint.targets.evidence.scopes import Scope

        with contextlib.suppress(Unknown):
            return fold(node, Scope.of(self.reader, script, node))
        return _MISSING


_MISSING = object()


def _holds_settings(node: ast.ClassDef) -> bool:
    decorated = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    name = node.name.lower()
    return decorated or name.endswith(SETTINGS) or name.startswith(("config", "args", "hparams"))


def _of_file(path: Path, text: str) -> Iterator[Source]:
    if not text or len(text) > _MOST_TEXT:
        return
    if path.suffix == ".sh":
        options = _shell_options(text)
        if options:
            yield Source(f"the options in {shown(path)}", options, path)
        return
    try:
        value = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except Exception:  # a template, several documents, tags of its own
        return
    for place, each in _mappings(value, ""):
        yield Source(f"{shown(path)}{f' ({place})' if place else ''}", each, path)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        return None
    return yaml.safe_load(text)


def _mappings(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of a document, outer ones first."""
    if isinstance(value, dict):
        named = {str(key): each for key, each in value.items()}
        if any(not isinstance(each, dict | list) for each in named.values()):
            yield place, named
        for key, each in named.items():
            yield from _mappings(each, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list) and len(value) < 20:
        for each in value:
            yield from _mappings(each, place)


def _shell_options(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for match in re.finditer(r"--?([A-Za-z][\w-]*)[ =]+([^\s\\-][^\s\\]*)", text):
        with contextlib.suppress(ValueError):
            word = shlex.split(match[2])[0] if match[2] else ""
            if word and "$" not in word:
                found.setdefault(match[1].replace("-", "_"), _literal(word))
    return found


def _literal(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
