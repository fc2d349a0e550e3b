"""The calls of one class or function in a repository, with the arguments whose values the text tells."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stablelint.targets.evidence.fold import Loose, Unknown, fold
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.evidence.scopes import Changed, Scope
from stablelint.targets.evidence.scripts import Script

_MOST_CALLS = 60


@dataclass(frozen=True)
class CallSite:
    """One call: the values that are known by parameter, the parameters whose values are not, and where it stands.

    ``loose`` are parameters that get an object of settings of which the call tells only what ``given`` holds.
    """

    where: str
    script: Script = field(repr=False)
    node: ast.Call = field(repr=False)
    known: dict[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    loose: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether nothing is left to guess."""
        return not self.unknown and not self.loose


def call_sites(function: Callable[..., Any], reader: Reader) -> Iterator[CallSite]:
    """The calls of ``function`` that fit its signature, nearest first."""
    name = function.__name__
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    count = 0
    for script, node in reader.call_nodes(name, reader.repository.mentioning(f"{name}(")):
        if not means(function, script, node, reader):
            continue
        found = _site(signature, script, node, reader)
        if found is not None:
            yield found
            count += 1
            if count >= _MOST_CALLS:
                return


def means(function: Callable[..., Any], script: Script, node: ast.Call, reader: Reader) -> bool:
    """Whether the name at a call is this function: another file may define another class of the same name."""
    if script.path == reader.file:
        return True
    table = reader.table(script.tree) if script.tree is not None else {}
    head = node.func
    while isinstance(head, ast.Attribute):
        head = head.value
    bindings = table.get(head.id, []) if isinstance(head, ast.Name) else []
    if any(each.kind == "definition" for each in bindings):
        return False
    for each in bindings:
        if isinstance(each.node, ast.ImportFrom) and each.node.module and isinstance(node.func, ast.Name):
            path = reader._file_of(script, each.node.module, each.node.level)
            if path is not None and path != reader.file:
                text = reader.repository.text(path)
                if f"class {function.__name__}" in text or f"def {function.__name__}" in text:
                    return False
    return True


def _site(signature: inspect.Signature, script: Script, node: ast.Call, reader: Reader) -> CallSite | None:
    scope = Scope.of(reader, script, node)
    names = [
        each.name
        for each in signature.parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    variadic = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    given: dict[str, ast.expr] = {}
    unpacked: list[ast.expr] = []
    for index, argument in enumerate(node.args):
        if isinstance(argument, ast.Starred):
            break
        if index >= len(names):
            return None
        given[names[index]] = argument
    for keyword in node.keywords:
        if keyword.arg is None:
            unpacked.append(keyword.value)
        elif keyword.arg in signature.parameters or variadic:
            given[keyword.arg] = keyword.value
        else:
            return None
    known: dict[str, Any] = {}
    unknown: list[str] = []
    loose: dict[str, dict[str, Any]] = {}
    for each in unpacked:
        try:
            value = fold(each, scope)
        except Unknown:
            continue
        if isinstance(value, dict):
            known |= {key: item for key, item in value.items() if key in signature.parameters or variadic}
    for name, expression in given.items():
        try:
            value = fold(expression, scope)
        except Unknown:
            unknown.append(name)
            continue
        if isinstance(value, Loose):
            loose[name] = dict(value.given) if isinstance(value, Changed) else {}
        else:
            known[name] = value
    return CallSite(f"the call in {script.place(node)}", script, node, known, tuple(unknown), loose)
