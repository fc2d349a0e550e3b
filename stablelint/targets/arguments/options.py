"""What a constructor's parameter might be, best first: numbers, texts, lists, classes, modules, settings, spaces."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stablelint.targets.arguments import spaces
from stablelint.targets.arguments.usage import Use
from stablelint.targets.arguments.values import (
    DEPTH,
    IMAGE,
    WIDTH,
    is_switch,
    is_text,
    numbers,
    stages,
    switch,
    texts,
)
from stablelint.targets.callplan import SETTINGS, Call

_ENVIRONMENTS = re.compile(r"(train_|test_|eval_)?(env|envs|environment|vec_env)")
_OBSERVATIONS = re.compile(r".*(observation|obs|ob|state)_?space")
_ACTIONS = re.compile(r".*(action|ac|act)_?space")
_SHAPES = re.compile(r".*(shape|input_dims|in_size|img_size_tuple|resolution|grid_size)")
_CLASSES = re.compile(r".*(block|cell|layer|norm_layer|act_layer|conv_layer|module_class|cls|klass|.*_class)")
_ACTIVATION = re.compile(r".*(act|activation|nonlin|nonlinearity|relu)(_?(fn|func|function|layer|cls))?\d*")
_NORM = re.compile(r".*norm.*")
_MODULES = re.compile(
    r".*(net|network|model|module|encoder|decoder|backbone|generator|discriminator|denoise_fn|unet|base_model|"
    r"attention|attn|transformer|embedding|submodule|fn|body|head|critic|actor|teacher|student|extractor|sublayer|layer)"
)
_FUNCTIONS = re.compile(r".*(fn|func|function|fun)")
_DEVICE = re.compile(r"(.*_)?devices?(_id)?")
_ANY_SIZES: tuple[Any, ...] = (WIDTH, 4, 1, 0.1, None)


@dataclass(frozen=True)
class Surroundings:
    """What the user's file offers: block classes, whether it works on images."""

    classes: tuple[type, ...]
    images: bool


def options(
    name: str,
    uses: Sequence[Use],
    annotation: Any,
    around: Surroundings,
    module_of: Callable[[str, Any], list[Any]],
) -> list[Any]:
    """Values for a parameter, best first; ``module_of(name, annotation)`` gives modules of the user's."""
    lower, kinds = name.lower(), {use.kind for use in uses}
    if _DEVICE.fullmatch(lower):
        return ["cpu"]
    if lower in ("dtype", "factory_kwargs"):
        return [torch.float32 if lower == "dtype" else {}]
    special = _special(lower, around) or _tensors(lower, annotation, uses)
    if special:
        return special
    typed = _typed(annotation, lower, uses)
    callable_ = _callables(lower, uses, kinds, annotation, around, module_of)
    listed = bool(kinds & {"iterated", "unpacked", "item", "length", "later iterated", "later item"})
    choices = [key for use in uses if use.kind == "choice" for key in use.detail]
    found: list[Any] = [*typed, *choices]
    if callable_ and not typed:
        found += callable_
    if is_text(uses):
        found += texts(name, uses)
    if listed and "range" not in kinds:
        found += _lists(lower, uses)
    compared = [use.detail for use in uses if use.kind == "compared" and isinstance(use.detail, int)]
    if is_switch(lower) and not kinds & {"range", "number"}:
        found += [switch(lower), not switch(lower)]
    found += [*numbers(lower), *compared]
    if "range" in kinds and not numbers(lower):
        found.insert(0, DEPTH)
    found += texts(name, uses) if not is_text(uses) else []
    if not listed:
        found += _lists(lower, uses)
    found += callable_ if typed else _late_callables(lower, around, module_of, annotation)
    return _distinct([*found, *_ANY_SIZES])


def _distinct(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not any(type(value) is type(each) and _same(value, each) for each in found):
            found.append(value)
    return found


def _same(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except Exception:  # tensors, arrays
        return first is second


def _special(lower: str, around: Surroundings) -> list[Any]:
    """Environments, spaces, shapes, settings: objects of a known make."""
    if _ENVIRONMENTS.fullmatch(lower):
        return [Call(spaces.Environment, (around.images,)), Call(spaces.Environment, (not around.images,))]
    if _OBSERVATIONS.fullmatch(lower):
        shapes = [spaces.FRAMES, (spaces.OBSERVATION,)]
        return [Call(spaces.Box, (shape,)) for shape in (shapes if around.images else reversed(shapes))]
    if _ACTIONS.fullmatch(lower):
        return [Call(spaces.actions)]
    return []


_TENSOR_METHODS = {
    "unsqueeze", "squeeze", "view", "reshape", "size", "t", "transpose", "permute", "expand", "detach", "sum", "mean",
    "float", "long", "numel", "clone", "repeat", "flatten", "data", "sqrt", "log", "exp", "max", "min",
}  # fmt: skip


def _tensors(lower: str, annotation: Any, uses: Sequence[Use]) -> list[Any]:
    """Tensors, where the constructor treats the parameter as one."""
    named = {"Parameter", "register_buffer", "from_pretrained", "as_tensor"}
    wants = annotation is torch.Tensor or any(
        (use.kind == "attribute" and use.detail in _TENSOR_METHODS)
        or (use.kind == "argument" and str(use.detail[0]).rpartition(".")[2] in named)
        for use in uses
    )
    if not wants:
        return []
    if re.fullmatch(r"(a|adj.*|graph|adjacency.*|affinity|laplacian|supports?)", lower):
        return [Call(torch.eye, (WIDTH // 2,))]
    matrix = re.search(r"matrix|table|embed|weights|vectors|kernel", lower)
    shapes = [(WIDTH, WIDTH), (WIDTH,)] if matrix else [(WIDTH,), (WIDTH, WIDTH)]
    return [Call(torch.ones if lower.endswith("weight") else torch.randn, shape) for shape in shapes]


def _typed(annotation: Any, lower: str, uses: Sequence[Use]) -> list[Any]:
    """Values of the type that is written beside the parameter."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if annotation is bool or text == "bool":
        return [switch(lower), not switch(lower)]
    if annotation is int or text == "int":
        return [each for each in (*numbers(lower), WIDTH, 4, 1) if isinstance(each, int)]
    if annotation is float or text == "float":
        return [float(each) for each in (*numbers(lower), 0.1, 1.0) if isinstance(each, int | float)]
    if annotation is str or text == "str":
        return [*texts(lower, uses), "relu", "cpu", ""]
    if annotation in (list, tuple) or re.match(r"(typing\.)?([Ll]ist|[Tt]uple|Sequence|Iterable)\b", text):
        return _lists(lower, uses)
    if annotation is dict or re.match(r"(typing\.)?([Dd]ict|Mapping)\b", text):
        return []
    return []


def _lists(lower: str, uses: Sequence[Use]) -> list[Any]:
    unpacked = [use.detail for use in uses if use.kind == "unpacked" and isinstance(use.detail, int)]
    items = [
        use.detail + 1 for use in uses if use.kind.endswith("item") and isinstance(use.detail, int) and use.detail >= 0
    ]
    if _SHAPES.fullmatch(lower) or re.fullmatch(r".*(size|resolution)", lower):
        shapes = [(3, IMAGE, IMAGE), (spaces.OBSERVATION,), (IMAGE, IMAGE), (1, 28, 28)]
        count = max([*unpacked, *items], default=0)
        return sorted(shapes, key=lambda each: len(each) != count)
    counts = unpacked or ([max(items)] if items and max(items) > 1 else [4, 3, 2, 1])
    found: list[Any] = [stages(lower, count) for count in counts]
    return [*found, *(tuple(each) for each in found[:1])]


def _callables(
    lower: str,
    uses: Sequence[Use],
    kinds: set[str],
    annotation: Any,
    around: Surroundings,
    module_of: Callable[[str, Any], list[Any]],
) -> list[Any]:
    """Classes, functions and modules, where the constructor or its methods call the parameter."""
    if inspect.isclass(annotation) and issubclass(annotation, nn.Module):
        return module_of(lower, annotation)
    called = [use.detail for use in uses if use.kind == "called"]
    later = [use.detail for use in uses if use.kind == "later called"]
    if called:
        if _ACTIVATION.fullmatch(lower):
            return [nn.ReLU, nn.GELU]
        if _NORM.fullmatch(lower):
            return [nn.BatchNorm2d, nn.LayerNorm] if around.images else [nn.LayerNorm, nn.BatchNorm1d]
        if re.fullmatch(r".*conv.*", lower):
            return [nn.Conv2d, nn.Conv1d]
        blocks = [
            kind for kind in around.classes if _CLASSES.fullmatch(kind.__name__.lower()) or "expansion" in vars(kind)
        ]
        return [*blocks, *(kind for kind in around.classes if kind not in blocks), nn.Identity]
    if later or kinds & {"parameters", "later parameters"}:
        if _ACTIVATION.fullmatch(lower):
            return [Call(nn.ReLU), functional.relu]
        if _FUNCTIONS.fullmatch(lower) and not kinds & {"parameters", "later parameters"}:
            return [torch.tanh, *module_of(lower, None)]
        return module_of(lower, None)
    return []


def _late_callables(
    lower: str, around: Surroundings, module_of: Callable[[str, Any], list[Any]], annotation: Any
) -> list[Any]:
    if _ACTIVATION.fullmatch(lower):
        return [Call(nn.ReLU), nn.ReLU]
    if _NORM.fullmatch(lower):
        return [nn.LayerNorm, nn.BatchNorm2d]
    if _CLASSES.fullmatch(lower) and around.classes:
        return list(around.classes[:3])
    return module_of(lower, annotation) if _MODULES.fullmatch(lower) else []


def holds_settings_by_use(name: str, uses: Sequence[Use]) -> bool:
    """Whether a parameter is an object or dict of settings: it is called like one, or its fields are read."""
    lower = name.lower()
    if _ENVIRONMENTS.fullmatch(lower) or _OBSERVATIONS.fullmatch(lower) or _ACTIONS.fullmatch(lower):
        return False
    fields = {use.detail for use in uses if use.kind.removeprefix("later ") in ("attribute", "key")}
    fields -= {
        "shape",
        "size",
        "dim",
        "device",
        "dtype",
        "ndim",
        "T",
        "to",
        "append",
        "out_channels",
        "__class__",
        "__name__",
    }
    called = any(use.kind.removeprefix("later ") in ("called", "parameters") for use in uses)
    named = lower.endswith(SETTINGS) and not any(use.kind in ("range", "number") for use in uses)
    return not called and (named or len(fields) >= 2 or any(use.kind == "spread" for use in uses))
