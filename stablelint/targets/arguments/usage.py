"""What a constructor does with each of its parameters, read from its source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_DEEPEST = 3
_OF_MODULES = {
    "parameters", "named_parameters", "state_dict", "load_state_dict", "modules", "children", "eval", "train", "cuda",
    "requires_grad_", "register_forward_hook", "zero_grad", "apply",
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """One use of a parameter.

    ``kind`` is "attribute" or "key" (``detail`` is its name), "called" (with that many arguments), "range", "iterated",
    "unpacked" (into that many names), "item" (a position), "length", "compared" (with that literal), "choice" (a key of
    a dict whose keys are ``detail``), "looked up" (``getattr(nn, p)``), "argument" (``detail`` is callee and position
    or name), "number" (arithmetic), "spread" (``**p``), or "parameters" (``p.parameters()`` and the like: a module).
    What other methods do with the attribute that holds it has the prefix "later ".
    """

    kind: str
    detail: Any = None


def uses(function: Callable[..., Any]) -> dict[str, list[Use]]:
    """The uses of every parameter of a function, or of a class's constructor; empty without a source."""
    return _uses(function, 0)


def constructor(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that takes the arguments: of a class the ``__init__`` that it has or inherits."""
    return function.__init__ if inspect.isclass(function) else function


def source_of(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """The syntax tree of a function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef)), None)


def _uses(function: Callable[..., Any], depth: int) -> dict[str, list[Use]]:
    target = constructor(function)
    node = source_of(target)
    if node is None:
        return {}
    names = {each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    aliases = _aliases(node, names)
    found: dict[str, list[Use]] = {name: [] for name in names}
    parents = {child: above for above in ast.walk(node) for child in ast.iter_child_nodes(above)}
    namespace = getattr(inspect.unwrap(target), "__globals__", {})
    for each in ast.walk(node):
        name = _parameter(each, names, aliases)
        if name is not None:
            found[name] += _use(each, parents, namespace, function, depth)
    if inspect.isclass(function) and aliases:
        for method in _methods(function, target):
            above = {child: over for over in ast.walk(method) for child in ast.iter_child_nodes(over)}
            for each in ast.walk(method):
                name = _parameter(each, set(), aliases)
                if name is not None:
                    found[name] += [
                        Use(f"later {use.kind}", use.detail) for use in _use(each, above, {}, function, depth)
                    ]
    return found


def _methods(kind: type, init: Callable[..., Any]) -> Iterator[ast.FunctionDef]:
    """The methods of a class of the user's, but for its constructor."""
    for value in vars(kind).values():
        if inspect.isfunction(value) and value is not init and (node := source_of(value)) is not None:
            yield node


def _aliases(node: ast.FunctionDef, names: set[str]) -> dict[str, str]:
    """``self.width = width``: the attribute stands for the parameter."""
    found = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Name) and each.value.id in names:
            for target in each.targets:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    found[target.attr] = each.value.id
    return found


def _parameter(node: ast.AST, names: set[str], aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name):
        return aliases.get(node.attr) if node.value.id == "self" else None
    return None


def _use(
    node: ast.AST, parents: dict[ast.AST, ast.AST], namespace: dict[str, Any], owner: Callable[..., Any], depth: int
) -> Iterator[Use]:
    above = parents.get(node)
    if isinstance(above, ast.Attribute):
        after = parents.get(above)
        method = isinstance(after, ast.Call) and after.func is above
        if method and above.attr in ("get", "pop") and isinstance(after, ast.Call) and after.args:
            if isinstance(after.args[0], ast.Constant) and isinstance(after.args[0].value, str):
                yield Use("key", after.args[0].value)
        elif method and above.attr in _OF_MODULES:
            yield Use("parameters")
        elif not (method and above.attr in ("items", "keys", "values", "lower", "upper", "copy", "split")):
            yield Use("attribute", above.attr)
    elif isinstance(above, ast.Subscript) and above.value is node:
        index = above.slice
        if isinstance(index, ast.Constant):
            yield Use("key", index.value) if isinstance(index.value, str) else Use("item", index.value)
        else:
            yield Use("item")
    elif isinstance(above, ast.Subscript):
        if isinstance(above.value, ast.Dict):
            yield Use("choice", tuple(key.value for key in above.value.keys if isinstance(key, ast.Constant)))
        elif isinstance(above.value, ast.Name) and isinstance(namespace.get(above.value.id), dict):
            yield Use("choice", tuple(namespace[above.value.id]))
        else:
            yield Use("number")
    elif isinstance(above, ast.Call) and above.func is node:
        yield Use("called", len(above.args) + len(above.keywords))
    elif isinstance(above, ast.Call):
        yield from _passed(node, above, namespace, owner, depth, None)
    elif isinstance(above, ast.keyword):
        call = parents.get(above)
        if above.arg is None:
            yield Use("spread")
        elif isinstance(call, ast.Call):
            yield from _passed(node, call, namespace, owner, depth, above.arg)
    elif (isinstance(above, ast.For | ast.comprehension) and above.iter is node) or isinstance(above, ast.Starred):
        yield Use("iterated")
    elif isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Tuple):
        yield Use("unpacked", len(above.targets[0].elts))
    elif isinstance(above, ast.Compare):
        for each in (above.left, *above.comparators):
            if isinstance(each, ast.Constant):
                yield Use("compared", each.value)
            elif isinstance(each, ast.List | ast.Tuple | ast.Set) and each is not node:
                yield from (Use("compared", item.value) for item in each.elts if isinstance(item, ast.Constant))
    elif isinstance(above, ast.BinOp):
        other = above.right if above.left is node else above.left
        listed = isinstance(above.op, ast.Add) and isinstance(other, ast.List)
        yield Use("iterated") if listed else Use("number")


def _passed(
    node: ast.AST,
    call: ast.Call,
    namespace: dict[str, Any],
    owner: Callable[..., Any],
    depth: int,
    keyword: str | None,
) -> Iterator[Use]:
    name = ast.unparse(call.func)
    position = keyword if keyword is not None else next(i for i, each in enumerate(call.args) if each is node)
    if name == "range":
        yield Use("range")
    elif name == "len":
        yield Use("length")
    elif name in ("zip", "enumerate", "list", "tuple", "sum", "map", "reversed"):
        yield Use("iterated")
    elif name == "getattr" and position == 1:
        yield Use("looked up", ast.unparse(call.args[0]))
    else:
        yield Use("argument", (name, position))
        callee = _callee(call, namespace, owner)
        if callee is not None and depth < _DEEPEST:
            inner = _uses(callee, depth + 1)
            target = position if isinstance(position, str) else _name_at(callee, position)
            yield from inner.get(target or "", ())


def _callee(call: ast.Call, namespace: dict[str, Any], owner: Callable[..., Any]) -> Callable[..., Any] | None:
    """The user's class that a call constructs, or the base whose constructor ``super().__init__`` is."""
    text = ast.unparse(call.func)
    if text.startswith("super(") and text.endswith(".__init__") and inspect.isclass(owner):
        mro = owner.__mro__
        defined = next((index for index, kind in enumerate(mro) if "__init__" in vars(kind)), 0)
        return next((kind for kind in mro[defined + 1 :] if "__init__" in vars(kind)), None)
    value: Any = namespace.get(text.partition(".")[0])
    for part in text.split(".")[1:]:
        value = getattr(value, part, None)
    return value if inspect.isclass(value) and not value.__module__.startswith("torch.") else None


def _name_at(callee: Callable[..., Any], position: int) -> str | None:
    try:
        names = list(inspect.signature(callee).parameters)
    except (TypeError, ValueError):
        return None
    return names[position] if position < len(names) else None
