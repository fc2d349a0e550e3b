"""What functions and methods of tensors in the source of a forward pass tell of the arguments in them."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import nn

from stablelint.targets.facts import (
    Features,
    Joined,
    Known,
    Many,
    Ref,
    Shape,
    Size,
    axis_of,
    of_rank,
    permuted,
    swapped,
    tell_least,
    tell_rank,
    tell_size,
    with_axis,
    without_axis,
)
from stablelint.targets.guess import LENGTH

_SAME = frozenset(
    [
        "to",
        "cuda",
        "cpu",
        "contiguous",
        "clone",
        "detach",
        "type",
        "type_as",
        "half",
        "double",
        "relu",
        "relu_",
        "tanh",
        "sigmoid",
        "abs",
        "neg",
        "clamp",
        "clamp_",
        "exp",
        "sin",
        "cos",
        "sqrt",
        "log",
        "square",
        "pow",
        "add",
        "sub",
        "mul",
        "div",
        "add_",
        "mul_",
        "softmax",
        "log_softmax",
        "dropout",
        "gelu",
        "silu",
        "leaky_relu",
        "elu",
        "requires_grad_",
        "checkpoint",
        "normalize",
        "layer_norm",
        "nan_to_num",
        "round",
        "floor",
    ]
)
_REDUCING = frozenset(
    ["mean", "sum", "max", "min", "argmax", "std", "var", "norm", "prod", "logsumexp", "amax", "amin"]
)
_REAL = frozenset(
    [
        "sqrt",
        "log",
        "exp",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "sin",
        "cos",
        "mul",
        "div",
        "normalize",
        "gelu",
        "silu",
        "matmul",
        "mm",
        "bmm",
    ]
)


def of_tensor(ref: Ref, name: str, args: list[object], kwargs: dict[str, object]) -> object:
    """A method of a tensor."""
    numbers = _numbers([*args, *kwargs.values()])
    if name == "size":
        if not args and not kwargs:
            return Shape(ref)
        if numbers:
            rank = numbers[0] + 1 if numbers[0] >= 0 else -numbers[0]
            tell_least(ref, rank)
            axis = axis_of(ref, numbers[0], max(rank, ref.facts.rank or 0))
            return None if axis is None else Size(ref.facts, axis)
        return None
    if name in ("long", "int"):
        ref.facts.uses.add("index")
        return ref
    if name in ("float", "bool"):
        return ref
    if name == "permute" and args:
        order = _numbers(list(args[0].parts)) if isinstance(args[0], Many) else _numbers(args)
        if order:
            tell_rank(ref, len(order))
            return ref.after(permuted(tuple(order)))
        return None
    if name in ("transpose", "swapaxes", "transpose_") and len(numbers) == 2:
        tell_least(ref, max(each + 1 if each >= 0 else -each for each in numbers))
        return ref.after(swapped(*numbers))
    if name == "t":
        tell_rank(ref, 2)
        return ref.after(swapped(0, 1))
    if name == "unsqueeze" and numbers:
        return ref.after(without_axis(numbers[0]))
    if name == "flatten" and (numbers or not args):
        tell_least(ref, (numbers or [0])[0] + 1)
        return ref.after(of_rank(2 if numbers == [1] else 1))
    if name in ("view", "reshape"):
        return _reshaped(ref, list(args[0].parts) if args and isinstance(args[0], Many) else args)
    if name in ("split", "chunk", "split_with_sizes"):
        return _split(ref, args, kwargs)
    if name in ("gather", "index_select", "scatter", "scatter_", "index_add", "index_add_", "scatter_add_"):
        if len(args) > 1 and isinstance(args[1], Ref):
            args[1].facts.uses.add("index")
        return None
    if name in ("masked_fill", "masked_fill_") and args:
        _masked(args)
        return ref
    if name == "unbind" or (name in _REDUCING and numbers and "keepdim" not in kwargs):
        axis = numbers[0] if numbers else 0
        tell_least(ref, axis + 1 if axis >= 0 else -axis)
        gone = ref.after(with_axis(axis, LENGTH))
        return Many((gone,)) if name == "unbind" else gone
    if name in ("items", "keys", "values", "get"):
        if name == "get" and args and isinstance(args[0], Known) and isinstance(args[0].value, str):
            return Ref(ref.facts.keys.setdefault(args[0].value, type(ref.facts)()))
        return None
    if name in ("mm", "matmul", "bmm"):
        ref.facts.uses.add("float")
        return of_function(name, [ref, *args], kwargs)
    if name in _REAL:
        ref.facts.uses.add("float")
    return ref if name in _SAME else None


def of_function(name: str, args: list[object], kwargs: dict[str, object]) -> object:
    """A function of torch, by its name."""
    first = args[0] if args else kwargs.get("input")
    second = args[1] if len(args) > 1 else kwargs.get("target", kwargs.get("weight", kwargs.get("mat2")))
    weight: Any = second.value if isinstance(second, Known) else None
    if name in ("cat", "concat", "concatenate", "hstack") and isinstance(first, Many):
        axis = next(iter(_numbers([kwargs.get("dim", args[1] if len(args) > 1 else Known(0))])), 0)
        behind = next((each for each in first.parts if isinstance(each, Ref) and each.undo), None)
        return behind if axis != -1 and behind is not None else Joined(first.parts)  # one after the other
    if name == "stack":
        return None
    if name == "einsum" and isinstance(first, Known):
        operands = [part for each in args[1:] for part in (each.parts if isinstance(each, Many) else (each,))]
        for term, operand in zip(str(first.value).split("->")[0].split(","), operands, strict=False):
            if isinstance(operand, Ref) and "." not in term:
                tell_rank(operand, len(term.strip()))
        return None
    if name in ("cross_entropy", "nll_loss") and isinstance(second, Ref):
        second.facts.uses.add("classes")
        return None
    if name.startswith("binary_cross_entropy"):
        for each in (second, first if name == "binary_cross_entropy" else None):
            if isinstance(each, Ref):
                each.facts.uses.add("chances")
        return None
    if name in ("pack_padded_sequence", "pad_packed_sequence") and isinstance(second, Ref):
        second.facts.uses.add("lengths")
        return first
    if name in ("embedding", "one_hot") and isinstance(first, Ref):
        first.facts.uses.add("index")
        shape = tuple(getattr(weight, "shape", ()))
        first.facts.table = int(shape[0]) if shape else weight if isinstance(weight, int) else None
        return Features(int(shape[-1])) if shape else None
    if name in ("linear", "matmul", "mm") and isinstance(first, Ref) and getattr(weight, "ndim", 0) == 2:
        tell_size(first, -1, int(weight.shape[-1 if name == "linear" else 0]), rank=first.facts.rank or 2)
        return Features(int(weight.shape[0 if name == "linear" else 1]))
    if name in ("matmul", "mm", "bmm", "mul", "baddbmm"):
        for each in (first, second):
            if isinstance(each, Ref):
                each.facts.uses.add("float")
                if name in ("bmm", "mm"):
                    tell_rank(each, 3 if name == "bmm" else 2)
        return first if name == "mul" else None
    if name == "where" and len(args) == 3:
        if isinstance(first, Ref):
            first.facts.uses.add("open_ones")
        return next((each for each in args[1:] if isinstance(each, Ref)), None)
    last = args[-1] if args else None
    if name in ("range", "arange") and isinstance(last, Ref):
        last.facts.uses.add("number")
        return None
    if name == "range":
        return Many((Known(0),))
    if name in ("zip", "enumerate"):
        return (
            Many((Many(tuple(_item(each) for each in args)),))
            if name == "zip"
            else Many((Many((Known(0), _item(first))),))
        )
    if name in ("int", "float") and isinstance(first, Size):
        return first
    if name in ("max", "min", "list", "tuple") and isinstance(first, Many | Ref):
        return first
    if isinstance(first, Ref):
        return of_tensor(first, name, args[1:], kwargs)
    return None


def _item(value: object) -> object:
    if isinstance(value, Many):
        return value.parts[0] if value.parts else None
    if isinstance(value, Ref):
        value.facts.uses.add("looped")
        return value.after(with_axis(0, LENGTH))
    held = value.value if isinstance(value, Known) else None
    return Known(next(iter(held))) if isinstance(held, nn.ModuleList | list | tuple) and len(held) else None


def _numbers(values: list[object]) -> list[int]:
    return [each.value for each in values if isinstance(each, Known) and type(each.value) is int]


def _masked(args: list[object]) -> None:
    mask = args[0]
    if isinstance(mask, Ref):
        mask.facts.uses.add("open_ones" if "compared" in mask.facts.uses else "open_false")


def _reshaped(ref: Ref, args: list[object]) -> object:
    sizes = [each.value if isinstance(each, Known) and isinstance(each.value, int) else None for each in args]
    own = [isinstance(each, Size) and each.facts is ref.facts and each.axis == at for at, each in enumerate(args)]
    kept = next((at for at, each in enumerate(own) if not each), len(own))
    rest = sizes[kept:]
    fixed = [each for each in rest if each is not None]
    if kept and rest and len(fixed) == len(rest) and -1 not in fixed:
        if kept == 1 and not ref.undo:
            ref.facts.elements.append(math.prod(fixed))
        elif kept > 1 and ref.facts.rank == kept + 1:
            tell_size(ref, kept, math.prod(fixed), rank=kept + 1)
    if kept == 0 and sizes[:1] == [-1] and len(fixed) == len(sizes):
        ref.facts.elements.append(math.prod(fixed[1:]))
    if sizes == [-1]:
        return ref.after(of_rank(1))
    flat = len(args) == 2 and ((kept == 1 and sizes[1] is not None) or (sizes[0] == -1 and sizes[1] is not None))
    return ref.after(of_rank(2)) if flat else None


def _split(ref: Ref, args: list[object], kwargs: dict[str, object]) -> object:
    parts = kwargs.get("split_size_or_sections", kwargs.get("split_size", args[0] if args else None))
    along = _numbers([kwargs.get("dim", args[1] if len(args) > 1 else Known(0))])
    held = parts.value if isinstance(parts, Known) else None
    numbers = _numbers(list(parts.parts)) if isinstance(parts, Many) else held if isinstance(held, list | tuple) else []
    if along and numbers and all(isinstance(each, int) for each in numbers):
        tell_size(ref, along[0], sum(numbers), rank=ref.facts.rank or 2)
        return Many(tuple(Features(each) if along[0] == -1 else None for each in numbers))
    return None


def pattern_told(ref: Ref, pattern: str, sizes: dict[str, Any]) -> None:
    """``rearrange(x, "b c (h p) (w q) -> ...", p=4)``: the number of axes, and what divides some."""
    left = pattern.split("->")[0]
    axes = re.findall(r"\([^)]*\)|\S+", left)
    if "..." in left:
        tell_least(ref, len(axes) - 1)
        return
    tell_rank(ref, len(axes))
    ref.facts.uses.add("pattern")
    for place, axis in enumerate(axes):
        known = [int(sizes[each]) for each in re.findall(r"\w+", axis) if isinstance(sizes.get(each), int)]
        at = axis_of(ref, place, len(axes))
        if at is not None and known:
            whole = len(known) == len(re.findall(r"\w+", axis))
            (ref.facts.sizes if whole else ref.facts.factors).setdefault(at, math.prod(known))
    if not ref.undo:
        ref.facts.axis_names = ref.facts.axis_names or tuple(axes)
