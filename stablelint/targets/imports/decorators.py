"""Decorators of packages that are missing: they are dropped from what they decorate."""

from __future__ import annotations

import ast
import copy
from typing import Any, TypeVar

from stablelint.targets.imports.left_out import Record
from stablelint.targets.imports.names import root
from stablelint.targets.imports.placeholder import Placeholder, touch

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Statement = TypeVar("_Statement", bound=ast.stmt)


def dropped(node: ast.stmt, namespace: dict[str, Any], file: str) -> ast.stmt:
    """A definition without the decorators that stand for something missing, also those inside it."""
    if not isinstance(node, _Definition):
        return node
    if not any(_is_missing(each, namespace, file) for inner in _definitions(node) for each in inner.decorator_list):
        return node
    copied = copy.deepcopy(node)
    for inner in _definitions(copied):
        inner.decorator_list = [each for each in inner.decorator_list if not _is_missing(each, namespace, file)]
    return copied


def without(node: _Definition, namespace: dict[str, Any], record: Record) -> _Definition | None:
    """A definition without the decorators that name something missing or left out, None if there are none."""

    def is_lost(decorator: ast.expr) -> bool:
        names = {each.id for each in ast.walk(decorator) if isinstance(each, ast.Name)}
        lost = any(isinstance(namespace.get(name), Placeholder) for name in names)
        start = root(decorator)
        return lost or (start is not None and start not in namespace and record.binding(start) is not None)

    if not any(is_lost(each) for inner in _definitions(node) for each in inner.decorator_list):
        return None
    copied = copy.deepcopy(node)
    for inner in _definitions(copied):
        inner.decorator_list = [each for each in inner.decorator_list if not is_lost(each)]
    return copied


def _definitions(node: _Definition) -> list[_Definition]:
    return [each for each in ast.walk(node) if isinstance(each, _Definition)]


def _is_missing(decorator: ast.expr, namespace: dict[str, Any], file: str) -> bool:
    value = _value(decorator, namespace)
    if not isinstance(value, Placeholder):
        return False
    touch(value._reason, file)
    return True


def _value(node: ast.expr, namespace: dict[str, Any]) -> Any:
    """What a decorator starts from: the object of a dotted name, whatever it is then called with."""
    if isinstance(node, ast.Call):
        return _value(node.func, namespace)
    if isinstance(node, ast.Name):
        return namespace.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, namespace)
        return owner if isinstance(owner, Placeholder) else getattr(owner, node.attr, None)
    return None
