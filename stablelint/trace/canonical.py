"""One name and one set of arguments for every spelling of an operation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from stablelint.trace.adjust import ADJUSTMENTS
from stablelint.trace.call import Call, plain
from stablelint.trace.signatures import (
    BINARY,
    CANONICAL,
    DEFAULTS,
    DIMS,
    DROPPED,
    KEYWORDS,
    REVERSED,
    SIGNATURES,
    VARIADIC,
    words,
)

Function = Callable[..., Any]


_INPLACE_DUNDERS = frozenset(
    f"__i{name}__" for name in words("add sub mul truediv floordiv mod pow and or xor matmul")
) | {"__setitem__"}
_NAMES_KEPT = {
    "__getitem__": "getitem",
    "__setitem__": "setitem",
    "__contains__": "contains",
    "rand": "rand",  # and ``__rand__`` is a bitwise and
} | dict.fromkeys(("__bool__", "__int__", "__float__", "__index__", "__complex__", "__format__", "is_nonzero"), "item")


def raw_name(function: Function) -> str:
    """The name under which torch knows ``function``: the attribute for a property, no overload."""
    if function is torch.autograd.grad:  # a property is called so, too
        return "autograd_grad"
    name = getattr(function, "__name__", None) or type(function).__name__
    if name in ("__get__", "__set__"):
        owner = getattr(getattr(function, "__self__", None), "__name__", "")
        return str(owner) if name == "__get__" else f"__set__{owner}"
    return str(name).split(".")[0]


def is_inplace(name: str) -> bool:
    """Whether the raw name is that of an in-place variant."""
    return name in _INPLACE_DUNDERS or (name.endswith("_") and not name.startswith("__"))


@lru_cache(maxsize=4096)
def canonical_name(name: str) -> str:
    """The canonical name of a raw one: ``__iadd__`` and ``add_`` are ``add``."""
    if name in _NAMES_KEPT:
        return _NAMES_KEPT[name]
    if name in REVERSED:
        return REVERSED[name]
    bare = name.strip("_")
    return CANONICAL.get(bare, bare)


def canonical(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Normalise one call."""
    raw = raw_name(function)
    call = Call(canonical_name(raw), inplace=is_inplace(raw))
    bound = _bind(function, call.name, args, kwargs)
    if raw in ("batch_norm", "instance_norm") and not inspect.isfunction(function):
        _reorder_builtin_norm(bound)
    if raw == "embedding" and not inspect.isfunction(function):
        bound["input"], bound["weight"] = bound.get("weight"), bound.get("input")
        bound = {key: bound[key] for key in ("input", "weight", *bound)}
    call.inplace = call.inplace or bound.get("inplace") is True
    if call.name in BINARY:
        _binary(call, bound, reverse=raw in REVERSED)
    else:
        special = ADJUSTMENTS.get(call.name)
        if special is not None:
            special(call, raw, bound)
        call.attrs.update(DEFAULTS.get(call.name, {}))
        _collect(call, bound)
    _normalise_dims(call)
    return call


def _bind(function: Function, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name."""
    if name == "einsum":
        rest = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
        return {"equation": args[0] if args else kwargs.get("equation"), "operands": list(rest)}
    names = _names(function, name, args[0] if args else None)
    bound: dict[str, Any] = {}
    if name in VARIADIC and len(args) > 2:
        args = (args[0], tuple(args[1:]))
    for place, value in enumerate(args):
        bound[names[place] if place < len(names) else f"arg{place}"] = value
    for key, value in kwargs.items():
        bound[KEYWORDS.get(key, "input" if key == "self" else key)] = value
    order = {key: place for place, key in enumerate(names)}
    return dict(sorted(bound.items(), key=lambda item: order.get(item[0], len(order))))


def _names(function: Function, name: str, first: Any) -> tuple[str, ...]:
    known = SIGNATURES.get(name)
    if known is not None:
        return known
    if name in BINARY:
        return ("input", "other")
    if name in VARIADIC:
        return ("input", VARIADIC[name])
    names = _inspected(function)
    return names if names or not isinstance(first, (torch.Tensor, list, tuple)) else ("input",)


@lru_cache(maxsize=4096)
def _inspected(function: Function) -> tuple[str, ...]:
    if not inspect.isfunction(function):
        return ()
    parameters = inspect.signature(function).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)


def _reorder_builtin_norm(bound: dict[str, Any]) -> None:
    """``torch.batch_norm`` takes weight and bias before the running statistics, ``F.batch_norm`` after them."""
    names = ("weight", "bias", "running_mean", "running_var")
    given = [bound.get(name) for name in ("running_mean", "running_var", "weight", "bias")]
    bound.update(zip(names, given, strict=True))


def _binary(call: Call, bound: dict[str, Any], *, reverse: bool) -> None:
    left, right = bound.pop("input", None), bound.pop("other", None)
    if reverse:
        left, right = right, left
    for name, operand in (("input", left), ("other", right)):
        if isinstance(operand, torch.Tensor):
            call.operands.append((name, operand))
        elif operand is not None:
            call.attrs["other"] = operand
            if name == "input" and call.name not in ("add", "mul", "maximum", "minimum", "eq", "ne"):
                call.attrs["reversed"] = True
    if bound.get("alpha") == 1:
        del bound["alpha"]
    _collect(call, bound)


def _collect(call: Call, bound: Mapping[str, Any]) -> None:
    """Sort arguments into tensor operands and attributes."""
    positions: dict[str, int | tuple[int, ...]] = {}
    for name, value in bound.items():
        if name in DROPPED or value is None:
            continue
        if isinstance(value, torch.Tensor):
            positions[name] = len(call.operands)
            call.operands.append((name, value))
            continue
        tensors = list(_tensors(value))
        if tensors:
            start = len(call.operands)
            call.operands.extend((name, tensor) for tensor in tensors)
            positions[name] = tuple(range(start, len(call.operands)))
        if not tensors or name == "index":
            attribute = plain(value)
            if attribute is not None:
                call.attrs[name] = attribute
    if call.name in SIGNATURES and positions:
        call.attrs["operands"] = positions


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    if isinstance(value, slice):
        return [tensor for item in (value.start, value.stop, value.step) for tensor in _tensors(item)]
    return []


def _normalise_dims(call: Call) -> None:
    if not call.operands:
        return
    rank = call.operands[0][1].dim() + (call.name in ("unsqueeze", "stack"))
    for key in DIMS & call.attrs.keys():
        value = call.attrs[key]
        if isinstance(value, tuple):
            call.attrs[key] = tuple(_axis(item, rank) for item in value)
        else:
            call.attrs[key] = _axis(value, rank)


def _axis(value: Any, rank: int) -> Any:
    return value + rank if isinstance(value, int) and not isinstance(value, bool) and value < 0 else value
