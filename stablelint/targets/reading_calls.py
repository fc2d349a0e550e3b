"""What a call in the source of a forward pass tells of the arguments in it; layers and modules of the user."""

from __future__ import annotations

import ast
import inspect
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
)
from stablelint.targets.layers import wanted_width
from stablelint.targets.reading_tensors import of_function, of_tensor, pattern_told

if TYPE_CHECKING:
    from stablelint.targets.reading_values import Values

#: The position of a Feed that is one of the tensors which make a recurrent layer's state.
PART_OF_STATE = 9
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


def called(frame: Values, node: ast.Call) -> object:
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


def _function(frame: Values, function: Any, args: list[object], kwargs: dict[str, object]) -> object:
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
            pattern_told(args[0], texts[0], sizes)
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


def of_module(frame: Values, module: nn.Module, args: list[object], kwargs: dict[str, object]) -> object:
    """A module of the user is read in turn; a layer of torch is noted."""
    if isinstance(module, nn.Sequential):
        value = args[0] if args else None
        for child in module:
            value = of_module(frame, child, [value], {})
        return value
    if not _is_layer(module):
        return frame.reader.call(module.forward, tuple(args), kwargs)
    if type(module).__name__ == "Rearrange" and args and isinstance(args[0], Ref):
        pattern_told(args[0], str(getattr(module, "pattern", "")), dict(getattr(module, "axes_lengths", {})))
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
            mates = tuple(ref.facts for ref in refs)
            for ref in refs:
                ref.facts.feeds.append(Feed(module, 0, ref.undo, sum(beside), mates))
    elif isinstance(value, Many) and position == 1 and isinstance(module, nn.RNNBase | nn.RNNCellBase):
        for part in value.parts:
            if isinstance(part, Ref):
                part.facts.feeds.append(Feed(module, PART_OF_STATE, part.undo))


#: Arguments of a whole encoder by their names in its layers.
_LAYER_NAMES = {"mask": "src_mask"}
_LOSSES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
}
