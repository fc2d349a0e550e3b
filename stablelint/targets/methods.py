"""Models without a forward pass of their own: the method, or the part, that does their work instead."""

from __future__ import annotations

import ast
import functools
import inspect
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import nn

from stablelint.targets.reading import parsed

#: Names of methods that do the work, most telling first.
_NAMES = (
    "get_action_and_value",
    "act",
    "evaluate_actions",
    "evaluate",
    "get_value",
    "encode",
    "predict",
    "score",
    "step",
    "loss",
    "compute_loss",
    "decode",
)
#: Methods that train, store or draw, and methods of nn.Module itself.
_NOT = ("train", "eval", "update", "save", "load", "reset", "init", "fit", "plot", "set_", "add_", "to_", "configure")

#: The method that inputs were found for, by class.
_chosen: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def has_forward(model: nn.Module) -> bool:
    """Whether the class defines a forward that does more than raise."""
    forward = getattr(type(model), "forward", None)
    if "forward" in getattr(model, "__dict__", {}):
        return True
    if forward is None or forward is nn.Module.forward or getattr(forward, "__name__", "") == "_forward_unimplemented":
        return False
    tree = parsed(forward) if isinstance(forward, FunctionType) else None
    return tree is None or not _only_raises(tree)


def working_methods(model: nn.Module) -> list[str]:
    """Public methods that reach parameters and take an argument, best first; a part's name last.

    A part is proposed, as ``"trunk."`` with a dot, where it holds all parameters.
    """
    found: list[tuple[int, int, str]] = []
    for name in dir(type(model)):
        function = inspect.unwrap(getattr(type(model), name, None))  # type: ignore[arg-type]
        if name.startswith("_") or hasattr(nn.Module, name) or not isinstance(function, FunctionType):
            continue
        tree = parsed(function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        if tree is None or not parameters or name.startswith(_NOT) or _only_raises(tree) or _trains(tree):
            continue
        reached = len(_reached(model, tree, set()))
        if reached:
            found.append((_NAMES.index(name) if name in _NAMES else len(_NAMES), -reached, name))
    wide = [child for child, each in model.named_children() if any(True for _ in each.parameters())]
    parts = [f"{wide[0]}."] if len(wide) == 1 else []
    return [name for *_, name in sorted(found)] + parts


def through(model: nn.Module, name: str | None = None) -> nn.Module:
    """``model``; one without a forward is called through its method ``name``, by default the one found before."""
    if has_forward(model) and name is None:
        return model
    name = name or _chosen.get(type(model)) or next(iter(working_methods(model)), None)
    if name is not None:
        object.__setattr__(model, "forward", _bound(model, name))
    return model


def settle_on(model: nn.Module, name: str) -> None:
    """Further instances of the class are called through this method, too."""
    _chosen[type(model)] = name


def remark_of(model: nn.Module) -> str | None:
    """``Agent has no forward: checked through get_action_and_value(x)``; None for a model that has one."""
    method = vars(model).get("forward")
    name = getattr(method, "__stablelint_method__", None) or getattr(method, "__name__", None)
    if method is None or name is None or has_forward_of_class(model):
        return None
    arguments = ", ".join(
        each.name for each in inspect.signature(method).parameters.values() if each.default is each.empty
    )
    return f"{type(model).__name__} has no forward: checked through {name}({arguments})"


def has_forward_of_class(model: nn.Module) -> bool:
    """The same as :func:`has_forward`, whatever the instance was given since."""
    given = vars(model).pop("forward", None)
    try:
        return has_forward(model)
    finally:
        if given is not None:
            object.__setattr__(model, "forward", given)


def _bound(model: nn.Module, name: str) -> Callable[..., Any]:
    if not name.endswith("."):
        return getattr(model, name)  # type: ignore[no-any-return]
    part = getattr(model, name[:-1])

    def forward(*args: Any, **kwargs: Any) -> Any:
        return part(*args, **kwargs)

    forward.__signature__ = inspect.signature(part.forward)  # type: ignore[attr-defined]
    forward.__stablelint_method__ = name[:-1]  # type: ignore[attr-defined]
    return functools.update_wrapper(forward, part.forward, assigned=())


def _only_raises(tree: ast.FunctionDef) -> bool:
    """Whether a body is a docstring and then ``raise``, ``pass`` or nothing."""
    body = [each for each in tree.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    return all(isinstance(each, ast.Raise | ast.Pass) for each in body)


def _trains(tree: ast.FunctionDef) -> bool:
    """Whether a method trains, or works without gradients: its outputs carry none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("zero_grad", "backward", "no_grad", "inference_mode"):
            return True
    return False


def _reached(model: nn.Module, tree: ast.FunctionDef, seen: set[str]) -> set[str]:
    """Names of the children and parameters that a method uses, also through other methods of the model."""
    found: set[str] = set()
    own = {name for name, _ in model.named_children()} | {name for name, _ in model.named_parameters(recurse=False)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"):
            continue
        if node.attr in own:
            found.add(node.attr)
        elif node.attr not in seen:
            seen.add(node.attr)
            inner = getattr(type(model), node.attr, None)
            other = parsed(inspect.unwrap(inner)) if isinstance(inner, FunctionType) else None
            if other is not None:
                found |= _reached(model, other, seen)
    return found
