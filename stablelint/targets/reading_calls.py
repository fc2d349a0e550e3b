"""What a call in the source of a forward pass tells of its arguments: layers, functions and methods of tensors."""

from __future__ import annotations

import ast
import inspect
import math
import re
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stablelint.targets.facts import (
    Features,
    Feed,
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
from stablelint.targets.layers import wanted_width

if TYPE_CHECKING:
    from stablelint.targets.reading import _Frame

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
#: The position of a Feed that is one of the tensors which make a recurrent layer's state.
PART_OF_STATE = 9
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
_PASSING = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.ELU,
    nn.LeakyReLU,
    nn.Softmax,
)


def called(frame: _Frame, node: ast.Call) -> object:
    """The value of a call, with what it tells noted in the facts of its arguments."""
    args: list[object] = []
    for each in node.args:
        value = frame.value(each)
        args += value.parts if isinstance(each, ast.Starred) and isinstance(value, Many) else [value]
    kwargs = {each.arg: frame.value(each.value) for each in node.keywords if each.arg is not None}
    if isinstance(node.func, ast.Name) and node.func.id == "super" and not args:
        return frame.parent()
    if isinstance(node.func, ast.Attribute):
        base = frame.value(node.func.value)
        if isinstance(base, Ref):
            return of_tensor(base, node.func.attr, args, kwargs)
        if isinstance(base, Known) and not isinstance(base.value, nn.Module) and node.func.attr == "get" and args:
            return None
        function = frame.attribute(base, node.func.attr)
        if function is None and any(isinstance(each, Ref) for each in args):
            return of_tensor(args[0], node.func.attr, args[1:], kwargs) if isinstance(args[0], Ref) else None
    else:
        function = frame.value(node.func)
    if not isinstance(function, Known):
        return None
    return _function(frame, function.value, args, kwargs)


def _function(frame: _Frame, function: Any, args: list[object], kwargs: dict[str, object]) -> object:
    if isinstance(function, nn.Module):
        return of_module(frame, function, args, kwargs)
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", ""))
    if isinstance(owner, nn.Module) and name in ("forward", "__call__") and _is_layer(owner):
        return of_module(frame, owner, args, kwargs)
    home = str(getattr(function, "__module__", "") or "")
    if isinstance(function, MethodType | FunctionType) and not home.startswith(("torch", "einops")):
        if name in ("exists", "default") and args and isinstance(args[0], Ref):
            args[0].facts.uses.add("none")
            return Known(value=True) if name == "exists" else args[0]
        return frame.reader.call(function, tuple(args), kwargs)
    if isinstance(owner, dict | list | str | tuple):
        return None
    if name in ("rearrange", "repeat", "reduce") and home.startswith("einops"):
        texts = [each.value for each in args if isinstance(each, Known) and isinstance(each.value, str)]
        sizes = {key: each.value for key, each in kwargs.items() if isinstance(each, Known)}
        if texts and args and isinstance(args[0], Ref):
            _pattern(args[0], texts[0], sizes)
        return None
    if function is isinstance and len(args) == 2 and isinstance(args[0], Ref):
        kinds = getattr(args[1], "value", None)
        parts = args[1].parts if isinstance(args[1], Many) else ()
        return Known(value=kinds is torch.Tensor or any(getattr(each, "value", None) is torch.Tensor for each in parts))
    return of_function(name, args, kwargs)


def _is_layer(module: nn.Module) -> bool:
    """Whether torch's own forward is what runs: a subclass that only changes the constructor is a layer, too."""
    home = str(getattr(type(module).forward, "__module__", ""))
    return home.startswith(("torch.nn", "einops")) or type(module).__module__.startswith(("torch.nn", "einops"))


def of_module(frame: _Frame, module: nn.Module, args: list[object], kwargs: dict[str, object]) -> object:
    """A module of the user is read in turn; a layer of torch is noted."""
    if isinstance(module, nn.Sequential):
        value = args[0] if args else None
        for child in module:
            value = of_module(frame, child, [value], {})
        return value
    if not _is_layer(module):
        return frame.reader.call(module.forward, tuple(args), kwargs)
    if type(module).__name__ == "Rearrange" and args and isinstance(args[0], Ref):
        _pattern(args[0], str(getattr(module, "pattern", "")), dict(getattr(module, "axes_lengths", {})))
        return None
    if isinstance(module, nn.Transformer):
        for part, value in zip((module.encoder, module.decoder), args, strict=False):
            of_module(frame, part, [value], {})
        return None
    if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder):
        module = module.layers[0]
        kwargs = {_LAYER_NAMES.get(key, key): value for key, value in kwargs.items()}
    if isinstance(module, nn.modules.loss._Loss):
        return of_function(_LOSSES.get(type(module), "mse_loss"), args, kwargs)
    try:
        given = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
    except TypeError:
        return None
    for position, value in enumerate(list(given.arguments.values())[1:]):
        _fed(module, position, value)
    first = args[0] if args else None
    if isinstance(module, nn.Flatten) and isinstance(first, Ref):
        return of_tensor(first, "flatten", [Known(module.start_dim)], {})
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return Features(module.embedding_dim)
    if isinstance(module, nn.Linear):
        return Features(module.out_features)
    if isinstance(module, nn.RNNBase):
        return Many((Features(module.hidden_size * (2 if module.bidirectional else 1)), None))
    keeps = isinstance(module, (*_PASSING, nn.LayerNorm, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.RMSNorm))
    return first if keeps else None


def _fed(module: nn.Module, position: int, value: object) -> None:
    if isinstance(value, Ref) and (position or wanted_width(module) is not None or isinstance(module, nn.Embedding)):
        value.facts.feeds.append(Feed(module, position, value.undo))
    elif isinstance(value, Joined) and position == 0 and wanted_width(module) is not None:
        refs = [each for each in value.parts if isinstance(each, Ref)]
        beside = [each.count for each in value.parts if isinstance(each, Features)]
        if len(refs) + len(beside) == len(value.parts):
            for each in refs:
                mates = tuple(ref.facts for ref in refs)
                each.facts.feeds.append(Feed(module, 0, each.undo, sum(beside), mates))
    elif isinstance(value, Many) and position == 1 and isinstance(module, nn.RNNBase | nn.RNNCellBase):
        for each in value.parts:
            if isinstance(each, Ref):
                each.facts.feeds.append(Feed(module, PART_OF_STATE, each.undo))


#: Arguments of a whole encoder by their names in its layers.
_LAYER_NAMES = {"mask": "src_mask"}
_LOSSES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
}


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
    weight = second.value if isinstance(second, Known) else None
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
        tell_size(first, -1, int(weight.shape[-1 if name == "linear" else 0]), rank=first.facts.rank or 2)  # type: ignore[union-attr]
        return Features(int(weight.shape[0 if name == "linear" else 1]))  # type: ignore[union-attr]
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
    if name in ("range", "arange") and isinstance(args[-1] if args else None, Ref):
        args[-1].facts.uses.add("number")  # type: ignore[union-attr]
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
    if isinstance(first, Ref) and isinstance(first, Ref):
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


def _pattern(ref: Ref, pattern: str, sizes: dict[str, Any]) -> None:
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
