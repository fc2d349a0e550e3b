"""The options that a script's command line takes, with their defaults."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from stablelint.targets.evidence.scripts import Script

_NOT_GIVEN = object()


def is_reader_of_options(script: Script) -> bool:
    """Whether the script declares options of its own."""
    return any(word in script.text for word in (".add_argument(", "click.option(", ".DEFINE_"))


def options_of(script: Script, value: Callable[[ast.expr, ast.AST], Any]) -> dict[str, Any]:
    """The options by name, with their defaults; one without a default is left out.

    ``value(node, at)`` folds an expression at a place and may raise.
    """
    found: dict[str, Any] = {}
    for node in _declarations(script):
        name, default = _option(node, value)
        if name and default is not _NOT_GIVEN and name not in found:
            found[name] = default
    return found


def _declarations(script: Script) -> Iterator[ast.Call]:
    for node in ast.walk(script.tree or ast.Module([], [])):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "add_argument" or ast.unparse(node.func) == "click.option":
            yield node
        elif node.func.attr.startswith("DEFINE_"):  # absl: name, default, help
            given = [ast.keyword("default", each) for each in node.args[1:2]]
            yield ast.copy_location(ast.Call(node.func, node.args[:1], [*given, *node.keywords]), node)


def _option(node: ast.Call, value: Callable[[ast.expr, ast.AST], Any]) -> tuple[str, Any]:
    flags = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    given = {each.arg: each.value for each in node.keywords if each.arg}
    long = next((each for each in flags if each.startswith("--")), flags[0] if flags else "")
    name = long.split("/")[0].lstrip("-").replace("-", "_")

    def folded(key: str) -> Any:
        with contextlib.suppress(Exception):
            return value(given[key], node)
        return _NOT_GIVEN

    if "dest" in given:
        dest = folded("dest")
        name = dest if isinstance(dest, str) else name
    if "default" in given:
        return name, _typed(folded("default"), given.get("type"))
    action = folded("action") if "action" in given else None
    if action in ("store_true", "store_false"):
        return name, action == "store_false"
    if "is_flag" in given:
        return name, False
    if "choices" in given:
        choices = folded("choices")
        if isinstance(choices, list | tuple) and choices:
            return name, choices[0]
    return name, None if long.startswith("-") and "required" not in given and "type" not in given else _NOT_GIVEN


def _typed(default: Any, kind: ast.expr | None) -> Any:
    """argparse passes a default that is a text through the option's type."""
    if isinstance(default, str) and isinstance(kind, ast.Name):
        with contextlib.suppress(ValueError):
            return {"int": int, "float": float}.get(kind.id, str)(default)
    return default
