"""The names that an expression of a script may use, and what they stand for."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stablelint.targets.callplan import SETTINGS, Call, holds_settings
from stablelint.targets.evidence.bindings import Binding, Owner, bindings_of
from stablelint.targets.evidence.fold import Loose, Unknown, fold
from stablelint.targets.evidence.options import is_reader_of_options, options_of
from stablelint.targets.evidence.scripts import Script

if TYPE_CHECKING:
    from stablelint.targets.evidence.reader import Reader

_PARSERS = ("parse_args", "parse_known_args", "parse", "get_args", "cli", "load", "safe_load", "get_cfg", "full_load")


class Self(Loose):
    """``self`` in a method: its fields are what the methods of its class assign."""

    def __init__(self, node: ast.ClassDef) -> None:
        super().__init__("self")
        self.node = node


class Options(dict[str, Any]):
    """The options of a command line with their defaults; one that has none may be told by something else."""


@dataclass(frozen=True)
class Scope:
    """The place of an expression: a script, the functions and classes around it, and the line up to which names count.

    ``local`` are names of a comprehension. ``depth`` counts how often a parameter was followed to a caller.
    """

    reader: Reader
    script: Script
    owners: tuple[Owner, ...]
    line: int
    local: Mapping[str, Any] = field(default_factory=dict)
    depth: int = 0

    @classmethod
    def of(cls, reader: Reader, script: Script, node: ast.AST, depth: int = 0) -> Scope:
        """The scope of a node of a script."""
        owners: list[Owner] = []
        above = script.parents.get(node)
        while above is not None:
            if isinstance(above, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                owners.append(above)
            above = script.parents.get(above)
        return cls(reader, script, tuple(owners), getattr(node, "lineno", 1 << 30), depth=depth)

    def bound(self, names: Mapping[str, Any]) -> Scope:
        """The same with further names."""
        return replace(self, local={**self.local, **names})

    def binds(self, name: str) -> bool:
        """Whether the script gives the name a meaning of its own."""
        return name in self.local or any(name in self._table(owner) for owner in self.owners)

    def setting(self, key: str, owner: str) -> Any:
        """The value of a setting that some source of the repository tells; raises Unknown."""
        return self.reader.settings.value(key, owner, self.script)

    def lookup(self, name: str, node: ast.AST, depth: int) -> Any:
        """What a name stands for where ``node`` is; raises Unknown."""
        if name in self.local:
            return self.local[name]
        for level, owner in enumerate(self.owners):
            if isinstance(owner, ast.ClassDef) and level > 0:
                continue  # names of a class body are not seen in its methods
            binding = self._binding(owner, name, getattr(node, "lineno", self.line))
            if binding is not None:
                return self._value(binding, owner, self.owners[level:], name, depth)
        found = self._starred(name)
        if found is not None:
            return found[0]
        if name.lower().endswith(SETTINGS):
            return Loose(name)
        raise Unknown(f"the name {name}")

    def compiled(self, node: ast.Lambda) -> Any:
        """A lambda as a function over what its free names stand for; raises Unknown when one is not known."""
        own = set(bindings_of(node))
        free = {each.id for each in ast.walk(node.body) if isinstance(each, ast.Name)} - own
        names: dict[str, Any] = {}
        for name in free:
            if not hasattr(builtins, name):
                names[name] = fold(ast.copy_location(ast.Name(name, ast.Load()), node), self)
        code = compile(ast.fix_missing_locations(ast.Expression(node)), str(self.script.path), "eval")
        return eval(code, names)

    def options(self, node: ast.Call) -> Any:
        """The options that a call like ``parser.parse_args()`` gives; None for any other call."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in _PARSERS:
            return None
        if name == "cli" and node.args:  # tyro, jsonargparse: a class of settings with its defaults
            function = fold(node.args[0], self)
            return Call(function) if inspect.isclass(function) else None
        if name.startswith("parse") and is_reader_of_options(self.script):
            return Options(options_of(self.script, lambda each, at: fold(each, Scope.of(self.reader, self.script, at))))
        return Loose("options")

    def makes(self, function: Any) -> bool:
        """Whether a function may be called when a model is built: one of the user's, or of torch."""
        return (inspect.isroutine(function) and self.reader.is_users(function)) or _is_torch(function)

    def asks_now(self, function: Any) -> bool:
        """Whether a call is made at once because its fields are wanted: of settings, or of what makes settings."""
        name = getattr(function, "__name__", "").lower()
        return (inspect.isclass(function) and holds_settings(function)) or (
            inspect.isroutine(function) and name.endswith(SETTINGS)
        )

    # ---- bindings

    def _table(self, owner: Owner) -> dict[str, list[Binding]]:
        return self.reader.table(owner)

    def _binding(self, owner: Owner, name: str, line: int) -> Binding | None:
        """The last binding before the line; in the module, seen from a function, the last of all."""
        several = self._table(owner).get(name)
        if not several:
            return None
        before = [each for each in several if each.line < line or each.kind in ("import", "definition")]
        if owner is self.owners[0]:
            return before[-1] if before else None
        values = [each for each in several if each.kind == "value"]
        return values[-1] if values and not isinstance(owner, ast.ClassDef) else several[-1]

    def _value(self, binding: Binding, owner: Owner, owners: tuple[Owner, ...], name: str, depth: int) -> Any:
        inside = replace(self, owners=owners, line=binding.line, local={})
        if binding.kind == "import":
            return self.reader.imported(self.script, binding)
        if binding.kind == "definition":
            return self.reader.defined(self.script, binding.name, owners)
        if binding.kind == "parameter":
            return self._parameter(binding, owners, name, depth)
        if binding.value is None:
            raise Unknown(f"the value of {name}")
        try:
            value = fold(binding.value, inside, depth)
        except Unknown:
            if name.lower().endswith(SETTINGS) and binding.kind == "value":
                return self._changed(Loose(name), owner, binding, inside, depth)
            raise
        if binding.kind == "item":
            return value[binding.index]
        if binding.kind == "element":
            return next(iter(value))
        return self._changed(value, owner, binding, inside, depth)

    def _changed(self, value: Any, owner: Owner, binding: Binding, inside: Scope, depth: int) -> Any:
        """``value`` after the assignments to its fields that follow its binding."""
        changes = [
            each for each in self.reader.changes(owner) if each.name == binding.name and binding.line < each.line
        ]
        last = self.line if owner is self.owners[0] else 1 << 30
        changes = [each for each in changes if each.line < last]
        if not changes:
            return value
        if isinstance(value, Loose) and not isinstance(value, Self):
            value = Changed(value.name)
        for change in changes:
            at = replace(inside, line=change.line)
            try:
                new = fold(change.value, at, depth)
                target = value
                for key in change.path[:-1]:
                    target = target[key] if isinstance(target, dict) else getattr(target, key)
                if isinstance(target, Changed):
                    target.given[change.path[-1]] = new
                elif isinstance(target, dict):
                    target[change.path[-1]] = new
                elif not isinstance(target, Call | Loose):
                    setattr(target, change.path[-1], new)
            except (Unknown, AttributeError, KeyError, TypeError):
                continue
        return value

    def _parameter(self, binding: Binding, owners: tuple[Owner, ...], name: str, depth: int) -> Any:
        function = binding.node
        method = len(owners) > 1 and isinstance(owners[1], ast.ClassDef)
        if method and isinstance(function, ast.FunctionDef) and function.args.args[:1]:
            assert isinstance(owners[1], ast.ClassDef)
            if function.args.args[0].arg == name:
                return Self(owners[1])
        told = self.reader.passed(function, owners, name, self.depth)
        if told is not None:
            return told[0]
        if binding.value is not None:
            return fold(binding.value, replace(self, owners=owners[1:], local={}), depth)
        if name.lower().endswith(SETTINGS):
            return Loose(name)
        raise Unknown(f"the parameter {name}")

    def own(self, owner: Self, name: str, depth: int) -> Any:
        """``self.name``: what a method of the class assigns to it."""
        for function in owner.node.body:
            if isinstance(function, ast.FunctionDef):
                for change in self.reader.changes(function):
                    if change.path == (name,) and function.args.args and change.name == function.args.args[0].arg:
                        return fold(change.value, Scope.of(self.reader, self.script, change.value, self.depth), depth)
        table = self._table(owner.node)
        if name in table and table[name][-1].value is not None:
            return fold(table[name][-1].value, Scope.of(self.reader, self.script, owner.node, self.depth), depth)  # type: ignore[arg-type]
        if name.lower().endswith(SETTINGS):
            return Loose(name)
        raise Unknown(f"self.{name}")

    def _starred(self, name: str) -> tuple[Any] | None:
        """A name that ``from x import *`` may have brought."""
        for node in self._stars():
            found = self.reader.starred(self.script, node, name)
            if found is not None:
                return found
        return None

    def _stars(self) -> Iterator[ast.ImportFrom]:
        for owner in self.owners:
            for binding in self._table(owner).get("*", ()):
                if isinstance(binding.node, ast.ImportFrom):
                    yield binding.node


class Changed(Loose):
    """Settings of which a script gives some itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.given: dict[str, Any] = {}


def _is_torch(function: Callable[..., Any]) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("torch.")
