"""Reading a forward pass: what its source does with each argument, followed into the modules that it calls.

Nothing is run but the look-up of attributes of the model. What cannot be followed is left out: each fact only puts a
guess first, and a pass on fake tensors decides.
"""

from __future__ import annotations

import ast
import builtins
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
    without_axis,
)
from stablelint.targets.guess import LENGTH
from stablelint.targets.reading_calls import called

_DEEPEST = 8
_MOST_CALLS = 300
_MOST_STATEMENTS = 4000
_SAME = Known(object())
_PLAIN = (int, float, str, tuple, list, type(None))


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
            return _Frame(self, env, function).run(tree.body)
        finally:
            self.depth -= 1


class _Frame:
    """One function's names."""

    def __init__(self, reader: Reader, env: dict[str, object], function: FunctionType) -> None:
        self.reader = reader
        self.env = env
        self.names: Mapping[str, Any] = {**function.__globals__, **_enclosed(function)}
        self.returned: object = None

    def parent(self) -> object:
        """The value of ``super()``."""
        owner, one = self.names.get("__class__"), self.env.get("self")
        if isinstance(owner, type) and isinstance(one, Known) and isinstance(one.value, owner):
            return Known(super(owner, one.value))
        return None

    def run(self, body: list[ast.stmt]) -> object:
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
            except Exception:
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
        if isinstance(target, ast.Name):
            self.env[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            parts = self.unpacked(target.elts, value)
            for each, part in zip(target.elts, parts, strict=True):
                self.bind(each.value if isinstance(each, ast.Starred) else each, part)

    def unpacked(self, targets: list[ast.expr], value: object) -> list[object]:
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

    def value(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value=constant):
                return Known(constant)
            case ast.Name(id=name):
                if name in self.env:
                    return self.env[name]
                found = self.names.get(name, getattr(builtins, name, _SAME))
                return None if found is _SAME else Known(found)
            case ast.Attribute(value=inner, attr=attr):
                return self.attribute(self.value(inner), attr)
            case ast.Subscript(value=inner, slice=index):
                return self.subscript(self.value(inner), index)
            case ast.Call():
                return called(self, node)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.value(left), self.value(right))
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, self.value(operand))
            case ast.BoolOp(values=values):
                parts = [self.value(each) for each in values]
                return next((each for each in parts if isinstance(each, Ref)), None)
            case ast.Compare(left=left, comparators=[right], ops=[op]):
                return self.compared(op, self.value(left), self.value(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                decided = self.decided(test)
                if decided is not None:
                    return self.value(body if decided else orelse)
                first, other = self.value(body), self.value(orelse)
                return first if first is not None else other
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return Many(tuple(self.value(each) for each in parts))
            case ast.ListComp(elt=inner, generators=[only]) | ast.GeneratorExp(elt=inner, generators=[only]):
                self.bind(only.target, self.item(self.value(only.iter)))
                return Many((self.value(inner),))
            case ast.NamedExpr(target=target, value=inner):
                found = self.value(inner)
                self.bind(target, found)
                return found
            case ast.Starred(value=inner):
                return self.value(inner)
            case _:
                return None

    def attribute(self, base: object, attr: str) -> object:
        if isinstance(base, Known):
            try:
                return Known(getattr(base.value, attr))
            except Exception:
                return None
        if isinstance(base, Ref):
            if attr == "shape":
                return Shape(base)
            if attr in ("data", "real"):
                return base
        return None

    def subscript(self, base: object, index: ast.expr) -> object:
        at = None if isinstance(index, ast.Slice | ast.Tuple) else self.value(index)
        number = at.value if isinstance(at, Known) and isinstance(at.value, int) else None
        match base:
            case Shape(of=ref):
                return self.sizes(ref, number, index)
            case Many(parts=parts) if number is not None and -len(parts) <= number < len(parts):
                return parts[number]
            case Ref(facts=facts) if isinstance(at, Known) and isinstance(at.value, str):
                return Ref(facts.keys.setdefault(at.value, Facts()))
            case Ref(facts=facts) if number is not None and number >= 0 and not base.undo:
                return Ref(facts.items.setdefault(number, Facts()))
            case Ref():
                return self.indexed(base, index)
            case Known(value=value) if isinstance(at, Ref):
                at.facts.uses.add("index")
                if getattr(value, "ndim", 0):
                    at.facts.table = int(value.shape[0])  # type: ignore[attr-defined]
            case Known(value=value) if isinstance(at, Known):
                try:
                    return Known(value[at.value])  # type: ignore[index]
                except Exception:
                    return None
            case _:
                if isinstance(at, Ref):
                    at.facts.uses.add("index")
        return None

    def sizes(self, ref: Ref, number: int | None, index: ast.expr) -> object:
        if number is not None:
            rank = number + 1 if number >= 0 else -number
            tell_least(ref, rank)
            axis = axis_of(ref, number, max(rank, ref.facts.rank or 0))
            return None if axis is None else Size(ref.facts, axis)
        if isinstance(index, ast.Slice):
            low, high = (self.value(each) if each is not None else None for each in (index.lower, index.upper))
            match low, high:
                case None, Known(value=int(end)) if end > 0:
                    tell_least(ref, end)
                    return Many(tuple(Size(ref.facts, axis) for axis in range(end))) if not ref.undo else None
                case Known(value=int(start)), None if start < 0:
                    tell_least(ref, -start)
                    return Many(tuple(Size(ref.facts, axis) for axis in range(start, 0))) if not ref.undo else None
                case Known(value=int(start)), None:
                    return Tail(ref, start)
        return None

    def indexed(self, ref: Ref, index: ast.expr) -> object:
        """``x[:, t]``, ``x[..., None]``: the axes that go and come."""
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        place, kept, found = 0, 0, ref
        whole = not any(isinstance(each, ast.Constant) and each.value is Ellipsis for each in parts)
        for each in parts:
            value = None if isinstance(each, ast.Slice) else self.value(each)
            if isinstance(each, ast.Slice):
                place, kept = place + 1, kept + 1
            elif isinstance(value, Known) and value.value is None:
                found, place = found.after(without_axis(place)), place + 1
            elif isinstance(value, Ref):
                value.facts.uses.add("index")
                return None
            elif not (isinstance(value, Known) and value.value is Ellipsis):
                found, kept = found.after(with_axis(place, LENGTH)), kept + 1
        tell_least(ref, kept)
        return found if whole else None

    def binary(self, op: ast.operator, left: object, right: object) -> object:
        if isinstance(left, Known) and isinstance(right, Known):
            if not isinstance(left.value, _PLAIN) or not isinstance(right.value, _PLAIN):
                return None  # tensors and arrays are not computed with
            try:
                return Known(_OPERATORS[type(op)](left.value, right.value))
            except Exception:
                return None
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Ref):
                real = isinstance(op, ast.Mult | ast.Div | ast.Pow | ast.MatMult) and not isinstance(other, Size)
                if real and not (isinstance(other, Known) and isinstance(other.value, int)):
                    one.facts.uses.add("float")
                shape = tuple(getattr(other.value, "shape", ())) if isinstance(other, Known) else ()
                if shape and not one.undo and isinstance(op, ast.Add | ast.Mult | ast.Sub):
                    sizes = tuple(size if size > 1 else None for size in shape)
                    one.facts.shapes.append((None, *sizes[1:]) if len(sizes) > 2 else sizes)
        if isinstance(left, Size) and isinstance(op, ast.Mod | ast.FloorDiv):
            match right:
                case Known(value=int(factor)) if factor > 1:
                    left.facts.factors.setdefault(left.axis, factor)
        if isinstance(op, ast.MatMult):
            if isinstance(left, Ref) and isinstance(right, Known) and getattr(right.value, "ndim", 0) == 2:
                tell_size(left, -1, int(right.value.shape[0]), rank=left.facts.rank or 2)  # type: ignore[attr-defined]
            return None
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Ref) and one.undo and not isinstance(other, Known | Ref):
                return None  # an axis that was put in is there to be broadcast
        return left if isinstance(left, Ref) else right if isinstance(right, Ref) else None

    def unary(self, op: ast.unaryop, value: object) -> object:
        if isinstance(value, Ref):
            if isinstance(op, ast.Invert):
                value.facts.uses.add("compared")
            return value if isinstance(op, ast.USub) else None
        if isinstance(op, ast.USub) and isinstance(value, Known) and isinstance(value.value, int | float):
            return Known(-value.value)
        if isinstance(op, ast.Not) and isinstance(value, Known):
            return Known(not value.value)
        return None

    def compared(self, op: ast.cmpop, left: object, right: object) -> object:
        if isinstance(left, Known) and isinstance(right, Known) and type(op) in _COMPARISONS:
            if not isinstance(left.value, _PLAIN) or not isinstance(right.value, (*_PLAIN, dict)):
                return None
            try:
                return Known(_COMPARISONS[type(op)](left.value, right.value))
            except Exception:
                return None
        for each in (left, right):
            if isinstance(each, Ref):
                each.facts.uses.add("compared")
        return None


_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


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
