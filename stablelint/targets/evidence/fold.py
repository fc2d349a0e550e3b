"""The value of an expression in a script, as far as its text tells; nothing of the script is run for it.

Literals, names bound before, module constants, arithmetic, a few harmless functions, options of ``argparse`` and the
like. A call of a class is kept as a :class:`~stablelint.targets.callplan.Call`, so that it is made anew for each seed.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stablelint.targets.callplan import Call
from stablelint.targets.evidence.operators import BINARY, COMPARE, HARMLESS, HARMLESS_METHODS, UNARY

if TYPE_CHECKING:
    from stablelint.targets.evidence.scopes import Scope

_MOST_ITEMS = 4096
_DEEPEST = 24


class Unknown(Exception):  # noqa: N818 (a value, not a mistake)
    """An expression whose value the text does not tell."""


class Loose:
    """An object whose fields are settings that something else may tell: ``args`` of a function, ``self.config``."""

    def __init__(self, name: str) -> None:
        self.name = name


def fold(node: ast.expr, scope: Scope, depth: int = 0) -> Any:
    """The value of ``node``; raises Unknown where the text does not tell it."""
    if depth > _DEEPEST:
        raise Unknown("too deep")
    handler = _HANDLERS.get(type(node))
    if handler is None:
        raise Unknown(f"a {type(node).__name__}")
    try:
        return handler(node, scope, depth + 1)
    except Unknown:
        raise
    except RecursionError:
        raise Unknown("it refers to itself") from None
    except Exception as error:  # arithmetic of what the text says: 1 // 0, an index out of range
        raise Unknown(f"{type(error).__name__}: {error}") from None


def _constant(node: ast.Constant, _scope: Scope, _depth: int) -> Any:
    return node.value


def _name(node: ast.Name, scope: Scope, depth: int) -> Any:
    return scope.lookup(node.id, node, depth)


def _sequence(node: ast.List | ast.Tuple | ast.Set, scope: Scope, depth: int) -> Any:
    items: list[Any] = []
    for each in node.elts:
        if isinstance(each, ast.Starred):
            items += list(_plain(fold(each.value, scope, depth)))
        else:
            items.append(fold(each, scope, depth))
    return items if isinstance(node, ast.List) else tuple(items) if isinstance(node, ast.Tuple) else set(items)


def _dict(node: ast.Dict, scope: Scope, depth: int) -> Any:
    """A dict with the entries that are known; one whose keys are not is left out."""
    found: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        try:
            if key is None:
                found.update(fold(value, scope, depth))
            else:
                found[fold(key, scope, depth)] = fold(value, scope, depth)
        except (Unknown, TypeError):
            continue
    if node.keys and not found:
        raise Unknown("no entry of a dict is known")
    return found


def _binary(node: ast.BinOp, scope: Scope, depth: int) -> Any:
    function = BINARY.get(type(node.op))
    if function is None:
        raise Unknown("an operator")
    left, right = _plain(fold(node.left, scope, depth)), _plain(fold(node.right, scope, depth))
    if isinstance(node.op, ast.Pow) and not (abs(left) <= 1 << 16 and abs(right) <= 64):
        raise Unknown("a power")
    if isinstance(node.op, ast.Mult) and _too_long(left, right):
        raise Unknown("a long sequence")
    return function(left, right)


def _too_long(left: Any, right: Any) -> bool:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            return len(sequence) * count > _MOST_ITEMS
    return False


def _unary(node: ast.UnaryOp, scope: Scope, depth: int) -> Any:
    return UNARY[type(node.op)](_plain(fold(node.operand, scope, depth)))


def _compare(node: ast.Compare, scope: Scope, depth: int) -> Any:
    left = fold(node.left, scope, depth)
    for op, other in zip(node.ops, node.comparators, strict=True):
        right = fold(other, scope, depth)
        if not COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _boolean(node: ast.BoolOp, scope: Scope, depth: int) -> Any:
    value: Any = None
    for each in node.values:
        value = fold(each, scope, depth)
        if bool(value) is isinstance(node.op, ast.Or):
            break
    return value


def _choice(node: ast.IfExp, scope: Scope, depth: int) -> Any:
    try:
        test = bool(fold(node.test, scope, depth))
    except Unknown:
        test = False  # `x if given else usual`: what was not given is not there
    return fold(node.body if test else node.orelse, scope, depth)


def _attribute(node: ast.Attribute, scope: Scope, depth: int) -> Any:
    owner = fold(node.value, scope, depth)
    found = _field(owner, node.attr, scope, depth)
    if found is not None:
        return found[0]
    if isinstance(owner, Call | dict | list | tuple | str) or not hasattr(owner, node.attr):
        raise Unknown(f"the attribute {node.attr}")
    return getattr(owner, node.attr)


def _field(owner: Any, name: str, scope: Scope, depth: int) -> tuple[Any] | None:
    """A field of an object that holds settings; None when ``owner`` is something else."""
    from stablelint.targets.evidence.scopes import Changed, Options, Self

    if isinstance(owner, Self):
        return (scope.own(owner, name, depth),)
    if isinstance(owner, Changed) and name in owner.given:
        return (owner.given[name],)
    if isinstance(owner, Loose):
        return (scope.setting(name, owner.name),)
    if isinstance(owner, Options) and name not in owner:
        return (scope.setting(name, "options"),)
    if isinstance(owner, dict) and name in owner:  # omegaconf, a Namespace that is read as a dict
        return (owner[name],)
    return None


def _subscript(node: ast.Subscript, scope: Scope, depth: int) -> Any:
    owner = fold(node.value, scope, depth)
    if isinstance(node.slice, ast.Slice):
        ends = (node.slice.lower, node.slice.upper, node.slice.step)
        return owner[slice(*(None if each is None else fold(each, scope, depth) for each in ends))]
    index = fold(node.slice, scope, depth)
    if isinstance(owner, Loose) and not isinstance(index, str):
        raise Unknown("an item of an unknown sequence")
    found = _field(owner, index, scope, depth) if isinstance(index, str) else None
    return owner[index] if found is None else found[0]


def _joined(node: ast.JoinedStr, scope: Scope, depth: int) -> Any:
    parts = []
    for each in node.values:
        value = each.value if isinstance(each, ast.FormattedValue) else each
        parts.append(str(_plain(fold(value, scope, depth))))
    return "".join(parts)


def _comprehension(node: ast.ListComp | ast.GeneratorExp, scope: Scope, depth: int) -> Any:
    if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
        raise Unknown("a comprehension")
    generator = node.generators[0]
    items = list(_plain(fold(generator.iter, scope, depth)))[:_MOST_ITEMS]
    assert isinstance(generator.target, ast.Name)
    found = []
    for item in items:
        inner = scope.bound({generator.target.id: item})
        if all(fold(test, inner, depth) for test in generator.ifs):
            found.append(fold(node.elt, inner, depth))
    return found


def _lambda(node: ast.Lambda, scope: Scope, _depth: int) -> Any:
    """A function of the script that uses nothing but its own arguments and the names of the script."""
    return scope.compiled(node)


def _call(node: ast.Call, scope: Scope, depth: int) -> Any:
    if isinstance(node.func, ast.Attribute) and node.func.attr in HARMLESS_METHODS:
        found = _method(node, node.func, scope, depth)
        if found is not None:
            return found[0]
    options = scope.options(node)
    if options is not None:
        return options
    if isinstance(node.func, ast.Name) and node.func.id in HARMLESS and not scope.binds(node.func.id):
        values = [_plain(fold(each, scope, depth)) for each in node.args]
        named = {str(each.arg): _plain(fold(each.value, scope, depth)) for each in node.keywords}
        result = HARMLESS[node.func.id](*values, **named)
        return list(result) if isinstance(result, range | zip) else result
    if isinstance(node.func, ast.Name) and node.func.id in ("getattr",) and len(node.args) == 3:
        try:
            return fold(ast.Attribute(node.args[0], fold(node.args[1], scope, depth)), scope, depth)
        except Unknown:
            return fold(node.args[2], scope, depth)
    function = fold(node.func, scope, depth)
    return _called(function, node, scope, depth)


def _method(node: ast.Call, func: ast.Attribute, scope: Scope, depth: int) -> tuple[Any] | None:
    try:
        owner = fold(func.value, scope, depth)
    except Unknown:
        return None
    if func.attr == "get" and isinstance(owner, Loose) and node.args:
        try:
            return (scope.setting(str(fold(node.args[0], scope, depth)), owner.name),)
        except Unknown:
            return (fold(node.args[1], scope, depth),) if len(node.args) > 1 else None
    if not isinstance(owner, dict | str | list):
        return None
    values = [fold(each, scope, depth) for each in node.args]
    return (getattr(owner, func.attr)(*values, **{str(e.arg): fold(e.value, scope, depth) for e in node.keywords}),)


def _called(function: Any, node: ast.Call, scope: Scope, depth: int) -> Any:
    """A call of what exists: classes stay calls, a few functions of torch and math are asked now."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", "")
    if function is getattr(math, name, None) or name in ("device", "is_available", "device_count"):
        values = [_plain(fold(each, scope, depth)) for each in node.args]
        return "cpu" if name == "device" else False if name == "is_available" else function(*values)
    if inspect.isclass(function) or scope.makes(function):
        args: list[Any] = []
        for each in node.args:
            if isinstance(each, ast.Starred):
                args += list(_plain(fold(each.value, scope, depth)))
            else:
                args.append(fold(each, scope, depth))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = fold(keyword.value, scope, depth)
            if keyword.arg is None:
                kwargs.update(_settings_of(value, function))
            else:
                kwargs[keyword.arg] = value
        call = Call(function, tuple(args), kwargs)
        return call() if scope.asks_now(function) else call
    raise Unknown(f"a call of {module}.{name}" if name else "a call")


def _settings_of(value: Any, function: Callable[..., Any]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Unknown(f"unpacked arguments of {getattr(function, '__name__', 'a call')}")


def _plain(value: Any) -> Any:
    if isinstance(value, Loose | Call):
        raise Unknown("arithmetic with an object")
    return value


_HANDLERS: Mapping[type[ast.expr], Callable[..., Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.List: _sequence,
    ast.Tuple: _sequence,
    ast.Set: _sequence,
    ast.Dict: _dict,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: _choice,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.JoinedStr: _joined,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.Lambda: _lambda,
    ast.Call: _call,
}
