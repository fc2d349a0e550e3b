"""The values of expressions in the source of a forward pass, as far as they are the arguments or sizes of them."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stablelint.targets.evidence.operators import BINARY, COMPARE
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
    tell_size,
    with_axis,
    without_axis,
)
from stablelint.targets.guess import LENGTH
from stablelint.targets.reading_calls import called

if TYPE_CHECKING:
    from stablelint.targets.reading import Reader

_SAME = Known(object())
_PLAIN = (int, float, str, tuple, list, type(None))


class Values:
    """Expressions with the names of one function; ``reading.Frame`` reads its statements."""

    reader: Reader
    env: dict[str, object]
    names: Mapping[str, Any]

    def decided(self, test: ast.expr) -> bool | None:
        """Whether a test holds; None when it cannot be told."""
        raise NotImplementedError

    def bind(self, target: ast.expr, value: object) -> None:
        """Give a name a value."""
        raise NotImplementedError

    def item(self, value: object) -> object:
        """What a loop over a value gives."""
        raise NotImplementedError

    def parent(self) -> object:
        """The value of ``super()``."""
        owner, one = self.names.get("__class__"), self.env.get("self")
        if isinstance(owner, type) and isinstance(one, Known) and isinstance(one.value, owner):
            return Known(super(owner, one.value))
        return None

    def value(self, node: ast.expr) -> object:
        """The value of an expression; None where nothing is known of it."""
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
        """An attribute of a value."""
        if isinstance(base, Known):
            try:
                return Known(getattr(base.value, attr))
            except Exception:  # a property of the user's may raise
                return None
        if isinstance(base, Ref):
            if attr == "shape":
                return Shape(base)
            if attr in ("data", "real"):
                return base
        return None

    def subscript(self, base: object, index: ast.expr) -> object:
        """A part of a value."""
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
                except Exception:  # so may an item
                    return None
            case _:
                if isinstance(at, Ref):
                    at.facts.uses.add("index")
        return None

    def sizes(self, ref: Ref, number: int | None, index: ast.expr) -> object:
        """Sizes taken out of a shape."""
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
        """The result of an operator, which tells whether the argument holds floats."""
        if isinstance(left, Known) and isinstance(right, Known):
            plain = isinstance(left.value, _PLAIN) and isinstance(right.value, _PLAIN)
            if not plain or isinstance(op, ast.Pow):
                return None  # tensors and arrays are not computed with, and a power may be endless
            try:
                return Known(BINARY[type(op)](left.value, right.value))
            except Exception:  # of values that do not go together
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
        """The result of an operator with one operand."""
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
        """The result of a comparison; a mask is compared with numbers."""
        if isinstance(left, Known) and isinstance(right, Known) and type(op) in COMPARE:
            if not isinstance(left.value, _PLAIN) or not isinstance(right.value, (*_PLAIN, dict)):
                return None
            try:
                return Known(COMPARE[type(op)](left.value, right.value))
            except Exception:  # of values that do not go together
                return None
        for each in (left, right):
            if isinstance(each, Ref):
                each.facts.uses.add("compared")
        return None
