"""Inputs that scripts feed to a model: shapes of tensors as far as the text of the script tells them."""

from __future__ import annotations

import ast
import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from stablelint.targets.evidence.bindings import Owner
from stablelint.targets.evidence.calls import means
from stablelint.targets.evidence.fold import Unknown, fold
from stablelint.targets.evidence.reader import Reader, last_name
from stablelint.targets.evidence.scopes import Scope
from stablelint.targets.evidence.scripts import Script

_MOST_CALLS = 8
_DEEPEST = 12
_FLOATS = {"randn", "rand", "zeros", "ones", "empty", "normal", "uniform", "FloatTensor", "Tensor", "random_sample"}
_SAME = {
    "to", "cuda", "cpu", "float", "double", "half", "detach", "clone", "contiguous", "requires_grad_", "Variable",
    "type", "relu", "sigmoid", "tanh", "normal_", "uniform_", "from_numpy", "as_tensor", "astype", "copy", "type_as",
}  # fmt: skip
_WRAPPERS = {"to", "cuda", "cpu", "eval", "train", "float", "double", "DataParallel", "compile", "half", "prepare"}


@dataclass(frozen=True)
class Seen:
    """One tensor that a script makes: sizes (None: not told), ``kind`` "normal", "ids" or "false", and ``high``."""

    shape: tuple[int | None, ...] | None
    kind: str | None = "normal"
    high: int | None = None


@dataclass(frozen=True)
class SeenCall:
    """The arguments of one call of a model: by position, or by name; None where nothing is known."""

    args: tuple[Seen | None, ...]
    kwargs: dict[str, Seen | None]
    where: str

    @property
    def known(self) -> int:
        """How many arguments have a shape."""
        return sum(each is not None and each.shape is not None for each in (*self.args, *self.kwargs.values()))


def seen_calls(function: Callable[..., Any], reader: Reader) -> list[SeenCall]:
    """Calls of what ``function`` gives, in scripts around its file; those that tell most first."""
    name = function.__name__
    found: list[SeenCall] = []
    for script, node in reader.call_nodes(name, reader.repository.mentioning(f"{name}(")):
        if means(function, script, node, reader):
            found += [each for each in _calls_of(script, node, reader) if each.known]
        if len(found) >= _MOST_CALLS:
            break
    return sorted(found, key=lambda each: -each.known)[:3]


def _calls_of(script: Script, node: ast.Call, reader: Reader) -> Iterator[SeenCall]:
    """Calls of the name that the constructed model is bound to; also ``Net()(x)``."""
    above: ast.AST | None = node
    parent = script.parents.get(node)
    while parent is not None and _wraps(parent, above):
        above, parent = parent, script.parents.get(parent)
    if isinstance(parent, ast.Call) and parent.func is above:
        yield _seen(script, parent, reader)
        return
    names = {ast.unparse(each) for each in parent.targets} if isinstance(parent, ast.Assign) else set()
    if not names:
        return
    home: ast.AST | None = parent
    while home is not None and not isinstance(home, ast.FunctionDef | ast.Module):
        home = script.parents.get(home)
    if any(each.startswith("self.") for each in names):
        while home is not None and not isinstance(home, ast.ClassDef | ast.Module):
            home = script.parents.get(home)
    for each in ast.walk(home) if home is not None else ():
        if isinstance(each, ast.Call) and ast.unparse(each.func) in names:
            yield _seen(script, each, reader)


def _wraps(parent: ast.AST, inner: ast.AST | None) -> bool:
    if isinstance(parent, ast.Attribute):
        return parent.value is inner and parent.attr in _WRAPPERS
    if isinstance(parent, ast.Call):
        if parent.func is inner:
            return isinstance(inner, ast.Attribute)
        return inner in parent.args[:1] and last_name(parent.func) in _WRAPPERS
    return False


def _seen(script: Script, node: ast.Call, reader: Reader) -> SeenCall:
    scope = Scope.of(reader, script, node)
    args: list[Seen | None] = []
    for each in node.args:
        if isinstance(each, ast.Starred):
            break
        args.append(_tensor(each, scope, 0))
    kwargs = {str(each.arg): _tensor(each.value, scope, 0) for each in node.keywords if each.arg}
    return SeenCall(tuple(args), kwargs, f"the call in {script.place(node)}")


def _tensor(node: ast.expr, scope: Scope, depth: int) -> Seen | None:
    if depth > _DEEPEST:
        return None
    if isinstance(node, ast.Name):
        return _named(node, scope, depth)
    if isinstance(node, ast.Call):
        with contextlib.suppress(Unknown):
            return _made(node, scope, depth)
        return None
    if isinstance(node, ast.BinOp):
        return _tensor(node.left, scope, depth + 1) or _tensor(node.right, scope, depth + 1)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value is None:
        inner = _tensor(node.value, scope, depth + 1)
        return None if inner is None or inner.shape is None else replace(inner, shape=(1, *inner.shape))
    return None


def _named(node: ast.Name, scope: Scope, depth: int) -> Seen | None:
    """The tensor that a name was last given before the line."""
    for level, owner in enumerate(scope.owners):
        bindings = [
            each
            for each in scope.reader.table(owner).get(node.id, ())
            if each.kind in ("value", "item") and each.value is not None
        ]
        line = getattr(node, "lineno", scope.line)
        before = [each for each in bindings if each.line < line] if level == 0 else bindings
        if before:
            last = before[-1]
            inside = replace(scope, owners=_from(scope.owners, level), line=last.line)
            value = last.value
            assert value is not None
            if last.kind == "item":
                return None
            return _tensor(value, inside, depth + 1)
    return None


def _from(owners: tuple[Owner, ...], level: int) -> tuple[Owner, ...]:
    return owners[level:]


def _made(node: ast.Call, scope: Scope, depth: int) -> Seen | None:
    name = last_name(node.func) or ""
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name in ("randint", "random_integers"):
        values = [fold(each, scope) for each in node.args]
        named = {each.arg: each.value for each in node.keywords}
        sizes = named.get("size")
        shape = fold(sizes, scope) if sizes is not None else values[-1] if len(values) > 1 else None
        bounds = values if sizes is not None else values[:-1]
        high = fold(named["high"], scope) if "high" in named else bounds[-1] if bounds else None
        return Seen(_sizes(shape), "ids", high if isinstance(high, int) else None)
    if name in _FLOATS and not (owner is not None and _is_tensor(owner, scope, depth)):
        values = [fold(each, scope) for each in node.args]
        if name in ("normal", "uniform"):
            return None
        dtype = next((ast.unparse(each.value) for each in node.keywords if each.arg == "dtype"), "")
        kind = "false" if "bool" in dtype else "ids" if re.search("long|int", dtype) else "normal"
        return Seen(_sizes(values[0] if len(values) == 1 and isinstance(values[0], list | tuple) else values), kind)
    if name in ("tensor", "LongTensor", "array"):
        value = fold(node.args[0], scope)
        flat, shape = value, []
        while isinstance(flat, list | tuple) and flat:
            shape.append(len(flat))
            flat = flat[0]
        high = _largest(value) + 1 if isinstance(flat, int) else None
        return Seen(tuple(shape), "ids" if isinstance(flat, int) else "normal", high)
    if name == "arange":
        return Seen((int(fold(node.args[-1], scope)),), "ids")
    if name in ("rand_like", "randn_like", "ones_like", "zeros_like") and node.args:
        return _tensor(node.args[0], scope, depth + 1)
    inner = _tensor(owner, scope, depth + 1) if owner is not None else None
    inner = inner or (_tensor(node.args[0], scope, depth + 1) if node.args and name in _SAME else None)
    if name in ("view", "reshape") and node.args:
        return _reshaped(node, scope, inner)
    if inner is None:
        return None
    return _changed(name, node, scope, inner)


def _changed(name: str, node: ast.Call, scope: Scope, inner: Seen) -> Seen | None:
    if name in ("long", "int"):
        return replace(inner, kind="ids")
    if name == "bool":
        return replace(inner, kind="false")
    if name in _SAME:
        return inner
    if inner.shape is None:
        return None
    shape = list(inner.shape)
    if name == "unsqueeze":
        axis = int(fold(node.args[0], scope))
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        return replace(inner, shape=tuple(shape))
    if name in ("permute", "transpose"):
        axes = [fold(each, scope) for each in node.args]
        axes = list(axes[0]) if axes and isinstance(axes[0], list | tuple) else axes
        if name == "transpose":
            first, second = axes
            shape[first], shape[second] = shape[second], shape[first]
            return replace(inner, shape=tuple(shape))
        return replace(inner, shape=tuple(shape[axis] for axis in axes))
    return None


def _reshaped(node: ast.Call, scope: Scope, inner: Seen | None) -> Seen | None:
    """The sizes that ``x.view(-1, 784)`` asks for; what is not told stays open."""
    sizes: list[int | None] = []
    given = node.args[0].elts if isinstance(node.args[0], ast.Tuple | ast.List) else node.args
    for each in given:
        try:
            size = fold(each, scope)
        except Unknown:
            size = None
        sizes.append(size if isinstance(size, int) and size > 0 else None)
    if inner is not None and inner.shape is not None and sizes.count(None) == 1 and None not in inner.shape:
        known = math.prod(each for each in sizes if each)
        total = math.prod(each for each in inner.shape if each)
        if known and total % known == 0:
            sizes[sizes.index(None)] = total // known
    if all(each is None for each in sizes):
        return None
    return Seen(tuple(sizes), inner.kind if inner is not None else "normal")


def _is_tensor(owner: ast.expr, scope: Scope, depth: int) -> bool:
    return _tensor(owner, scope, depth + 1) is not None


def _sizes(value: Any) -> tuple[int | None, ...] | None:
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, list | tuple) or not value:
        return None
    return tuple(each if isinstance(each, int) and each > 0 else None for each in value)


def _largest(value: Any) -> int:
    return max((_largest(each) for each in value), default=0) if isinstance(value, list | tuple) else int(value)
