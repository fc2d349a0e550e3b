"""Where a script binds its names: assignments, loops, imports, definitions and parameters of each of its functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Owner: TypeAlias = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef

_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Binding:
    """One place that gives a name a value.

    ``kind`` is "value" (``value`` is the expression), "item" (the ``index``-th item of it), "element" (the first
    element of it), "import" or "definition" (``node`` is the statement), "parameter" (``value`` is its default).
    """

    name: str
    line: int
    kind: str
    node: ast.AST
    value: ast.expr | None = None
    index: int | None = None


@dataclass(frozen=True)
class Change:
    """``name.path = value`` or ``name["path"] = value``."""

    name: str
    line: int
    path: tuple[str, ...]
    value: ast.expr


def bindings_of(owner: Owner) -> dict[str, list[Binding]]:
    """All bindings of one function, class body or module by name, in the order of their lines."""
    found: dict[str, list[Binding]] = {}
    for each in _all(owner):
        found.setdefault(each.name, []).append(each)
    for several in found.values():
        several.sort(key=lambda each: each.line)
    return found


def changes_of(owner: Owner) -> list[Change]:
    """All assignments to fields and items of names, in the order of their lines."""
    found = []
    for node in _own_nodes(owner):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            path: list[str] = []
            target: ast.expr = node.targets[0]
            while not isinstance(target, ast.Name):
                if isinstance(target, ast.Attribute):
                    path.insert(0, target.attr)
                    target = target.value
                elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    path.insert(0, str(target.slice.value))
                    target = target.value
                else:
                    path.clear()
                    break
            if path and isinstance(target, ast.Name):
                found.append(Change(target.id, node.lineno, tuple(path), node.value))
    return sorted(found, key=lambda each: each.line)


def _own_nodes(owner: Owner) -> Iterator[ast.AST]:
    """The statements and expressions of ``owner``, without the insides of what is defined in it."""
    waiting: list[ast.AST] = list(owner.body) if not isinstance(owner, ast.Lambda) else []
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, _NESTED):
            waiting += ast.iter_child_nodes(node)


def _all(owner: Owner) -> Iterator[Binding]:
    if isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield from _parameters(owner)
    for node in _own_nodes(owner):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _targets(target, node, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield from _targets(node.target, node, node.value)
        elif isinstance(node, ast.For | ast.AsyncFor) and isinstance(node.target, ast.Name):
            yield Binding(node.target.id, node.lineno, "element", node, node.iter)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
                yield Binding(name, node.lineno, "import", node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Binding(node.name, node.lineno, "definition", node)


def _targets(target: ast.expr, node: ast.stmt | ast.NamedExpr, value: ast.expr) -> Iterator[Binding]:
    if isinstance(target, ast.Name):
        yield Binding(target.id, node.lineno, "value", node, value)
    elif isinstance(target, ast.Tuple | ast.List):
        for index, each in enumerate(target.elts):
            if isinstance(each, ast.Name):
                if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
                    yield Binding(each.id, node.lineno, "value", node, value.elts[index])
                else:
                    yield Binding(each.id, node.lineno, "item", node, value, index)


def _parameters(function: Function) -> Iterator[Binding]:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for parameter, default in [
        *zip(plain, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False),
    ]:
        yield Binding(parameter.arg, function.lineno - 1, "parameter", function, default)
    for variadic in (arguments.vararg, arguments.kwarg):
        if variadic is not None:
            yield Binding(variadic.arg, function.lineno - 1, "variadic", function)
