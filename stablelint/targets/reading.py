"""Reading a forward pass: what its source does with each argument, followed into the modules that it calls.

Nothing is run but the look-up of attributes of the model. What cannot be followed is left out: each fact only puts a
guess first, and a pass on fake tensors decides.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from stablelint.targets.facts import (
    Facts,
    Known,
    Many,
    Ref,
    Shape,
    Size,
    Tail,
    axis_of,
    tell_least,
    tell_rank,
    tell_size,
    with_axis,
)
from stablelint.targets.guess import LENGTH
from stablelint.targets.reading_values import Values

_DEEPEST = 8
_MOST_CALLS = 300
_MOST_STATEMENTS = 4000


def facts_of(method: Callable[..., Any], names: tuple[str, ...]) -> dict[str, Facts]:
    """What the source of a bound method tells of its arguments ``names``; empty facts where it cannot be read."""
    found = {name: Facts() for name in names}
    try:
        Reader().call(method, (), {name: Ref(facts) for name, facts in found.items()})
    except Exception:  # a construct that nobody thought of
        return found
    return found


@functools.lru_cache(maxsize=512)
def parsed(function: FunctionType) -> ast.FunctionDef | None:
    """The definition of a function; None where there is no source of it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return tree.body[0] if tree.body and isinstance(tree.body[0], ast.FunctionDef) else None


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """The names of the functions around a function, which it uses."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet bound
            continue
    return found


class Reader:
    """One reading, with a limit on the work."""

    def __init__(self) -> None:
        self.calls = 0
        self.statements = 0
        self.depth = 0

    def call(self, function: Any, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """The value that a function or bound method of the user returns."""
        bound = (function.__self__,) if isinstance(function, MethodType) else ()
        function = inspect.unwrap(getattr(function, "__func__", function))
        tree = parsed(function) if isinstance(function, FunctionType) else None
        if tree is None or self.calls >= _MOST_CALLS or self.depth >= _DEEPEST:
            return None
        self.calls += 1
        try:
            given = inspect.signature(function).bind_partial(*map(Known, bound), *args, **kwargs)
        except TypeError:
            return None
        given.apply_defaults()
        env: dict[str, object] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            value = given.arguments.get(name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                env[name] = Many(tuple(value)) if isinstance(value, tuple) and value else None
            elif parameter.kind is not parameter.VAR_KEYWORD:
                ours = name in kwargs or isinstance(value, Ref | Known | Many | Shape | Size) or value is None
                env[name] = value if ours and value is not parameter.default else Known(value)
        self.depth += 1
        try:
            return Frame(self, env, function).run(tree.body)
        finally:
            self.depth -= 1


class Frame(Values):
    """One function's names."""

    def __init__(self, reader: Reader, env: dict[str, object], function: FunctionType) -> None:
        self.reader = reader
        self.env = env
        self.names: Mapping[str, Any] = {**function.__globals__, **_enclosed(function)}
        self.returned: object = None

    def run(self, body: list[ast.stmt]) -> object:
        """Read a body; what it returns."""
        self.block(body)
        return self.returned

    def block(self, body: list[ast.stmt]) -> bool:
        """Read statements; False when what follows is not reached."""
        for each in body:
            self.reader.statements += 1
            if self.reader.statements > _MOST_STATEMENTS or not self.statement(each):
                return False
        return True

    def statement(self, node: ast.stmt) -> bool:
        """Read one statement; False when the next is not reached."""
        match node:
            case ast.Return(value=value):
                found = self.value(value) if value is not None else None
                self.returned = self.returned if self.returned is not None else found
                return False
            case ast.Raise() | ast.Continue() | ast.Break():
                return False
            case ast.Assign(targets=targets, value=value):
                found = self.value(value)
                for target in targets:
                    self.bind(target, found)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self.bind(target, self.value(value))
            case ast.AugAssign(target=target, op=op, value=value):
                self.bind(target, self.binary(op, self.value(target), self.value(value)))
            case ast.Expr(value=value):
                self.value(value)
            case ast.Assert(test=test):
                self.holds(test)
            case ast.If(test=test, body=body, orelse=orelse):
                return self.branch(test, body, orelse)
            case ast.For(target=target, iter=each, body=body):
                self.bind(target, self.item(self.value(each)))
                self.block(body)
            case ast.While(test=test, body=body):
                self.value(test)
                self.block(body)
            case ast.With(items=items, body=body):
                for item in items:
                    self.value(item.context_expr)
                return self.block(body)
            case ast.Try(body=body):
                return self.block(body)
            case _:
                pass
        return True

    def branch(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> bool:
        """Read both sides of a condition that cannot be decided."""
        decided = self.decided(test)
        if decided is not None:
            return self.block(body if decided else orelse)
        if body and isinstance(body[-1], ast.Raise):
            self.holds(test, negated=True)
            return self.block(orelse)
        before = dict(self.env)
        goes_on = self.block(body)
        first, self.env = self.env, before
        other = self.block(orelse)
        if goes_on:
            self.env = {name: first.get(name) or self.env.get(name) for name in {**self.env, **first}}
        return goes_on or other

    def decided(self, test: ast.expr) -> bool | None:
        """Whether a test holds, assuming that all arguments are given; None when it cannot be told."""
        if isinstance(test, ast.BoolOp):
            each = [self.decided(part) for part in test.values]
            stop = isinstance(test.op, ast.Or)
            return stop if stop in each else None if None in each else not stop
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self.decided(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Is | ast.IsNot):
            left, right = self.value(test.left), self.value(test.comparators[0])
            if isinstance(right, Known) and right.value is None and left is not None:
                if isinstance(left, Ref):
                    left.facts.uses.add("none")
                missing = isinstance(left, Known) and left.value is None
                return missing == isinstance(test.ops[0], ast.Is)
        found = self.value(test)
        if isinstance(found, Known):
            try:
                return bool(found.value)
            except Exception:  # a tensor of several elements, a placeholder
                return None
        if isinstance(found, Ref) and not found.undo:
            found.facts.uses.add("number")
        return None

    def holds(self, test: ast.expr, *, negated: bool = False) -> None:
        """A condition that the author demands."""
        if isinstance(test, ast.BoolOp):
            for part in test.values:
                self.holds(part, negated=negated)
            return
        if isinstance(test, ast.Compare):
            sides = [self.value(each) for each in (test.left, *test.comparators)]
            for left, op, right in zip(sides, test.ops, sides[1:], strict=False):
                wanted = ast.NotEq if negated else ast.Eq
                if isinstance(op, wanted | (ast.Gt if negated else ast.LtE)):
                    self.equal(left, right)
                    self.equal(right, left)
            return
        self.value(test)

    def equal(self, left: object, right: object) -> None:
        """The author demands that two values are the same."""
        match left, right:
            case Size(facts=facts, axis=axis), Known(value=int(size)) if not isinstance(size, bool):
                facts.sizes.setdefault(axis, size)
            case Shape(of=ref), Known(value=tuple(sizes)):
                for axis, size in enumerate(sizes):
                    if isinstance(size, int):
                        tell_size(ref, axis, size)
            case Tail(of=ref, start=start), Known(value=tuple(sizes)) | Many(parts=tuple(sizes)):
                tell_rank(ref, start + len(sizes))
                for axis, size in enumerate(sizes):
                    number = size.value if isinstance(size, Known) else size
                    if isinstance(number, int):
                        tell_size(ref, start + axis, number, rank=start + len(sizes))
            case Shape(of=ref), Many(parts=tuple(sizes)):
                tell_rank(ref, len(sizes))
            case Many(parts=parts), Known(value=tuple(sizes)) | Many(parts=tuple(sizes)):
                for part, size in zip(parts, sizes, strict=False):
                    self.equal(part, size if isinstance(size, Known) else Known(size))
            case _:
                pass

    def item(self, value: object) -> object:
        """What a loop over a value gives."""
        match value:
            case Many(parts=parts):
                return parts[0] if parts else None
            case Ref():
                value.facts.uses.add("looped")
                return value.after(with_axis(0, LENGTH))
            case Known(value=nn.ModuleList() | nn.Sequential() | list() | tuple() as parts) if len(parts):
                return Known(next(iter(parts)))
            case _:
                return None

    def bind(self, target: ast.expr, value: object) -> None:
        """Give names a value."""
        if isinstance(target, ast.Name):
            self.env[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            parts = self.unpacked(target.elts, value)
            for each, part in zip(target.elts, parts, strict=True):
                self.bind(each.value if isinstance(each, ast.Starred) else each, part)

    def unpacked(self, targets: list[ast.expr], value: object) -> list[object]:
        """The values of several names on the left of an assignment."""
        count = len(targets)
        star = next((at for at, each in enumerate(targets) if isinstance(each, ast.Starred)), None)
        places = [at if star is None or at < star else at - count for at in range(count)]
        match value:
            case Shape(of=ref):
                if star is None:
                    tell_rank(ref, count)
                    if not ref.undo:
                        names = [each.id if isinstance(each, ast.Name) else "_" for each in targets]
                        ref.facts.axis_names = ref.facts.axis_names or tuple(names)
                else:
                    tell_least(ref, count - 1)
                axes = [axis_of(ref, place, count) for place in places]
                return [None if at == star or (a := axes[at]) is None else Size(ref.facts, a) for at in range(count)]
            case Tail(of=ref, start=start) if star is None:
                tell_rank(ref, start + count)
                axes = [axis_of(ref, start + at, start + count) for at in range(count)]
                return [None if axis is None else Size(ref.facts, axis) for axis in axes]
            case Many(parts=parts) if len(parts) == count:
                return list(parts)
            case Ref(facts=facts) if not value.undo:
                facts.uses.add("pair")
                return [Ref(facts.items.setdefault(at, Facts())) for at in range(count)]
            case Known(value=tuple() | list() as parts) if len(parts) == count:
                return [Known(each) for each in parts]
            case _:
                return [None] * count


def passed_on(model: nn.Module) -> nn.Module | None:
    """The part of the model to which ``forward(*args)`` hands its arguments on; None when it does not."""
    function = inspect.unwrap(getattr(model.forward, "__func__", model.forward))
    tree = parsed(function) if isinstance(function, FunctionType) else None
    star = tree.args.vararg.arg if tree is not None and tree.args.vararg is not None else None
    for node in ast.walk(tree) if tree is not None and star is not None else ():
        if isinstance(node, ast.Call) and any(
            isinstance(each, ast.Starred) and isinstance(each.value, ast.Name) and each.value.id == star
            for each in node.args
        ):
            path = ast.unparse(node.func).removesuffix(".forward").split(".")
            value: object = model
            for part in path[1:] if path[0] == "self" else ():
                value = getattr(value, part, None)
            if isinstance(value, nn.Module) and value is not model:
                return value
    return None
