"""How to call a class or factory of the user's file without asking: no arguments, a default config, or a call site."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Call:
    """A call with all its arguments; those that are themselves calls of settings classes are made anew every time."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self) -> Any:
        """Make the arguments and call."""
        return self.function(*made(self.args), **made(dict(self.kwargs)))


def plan(function: Callable[..., Any], module: ModuleType, tree: ast.Module | None) -> Call | None:
    """A call that needs no argument from outside, or None.

    In this order: all parameters have defaults; every required one is annotated with a class of settings that itself
    can be made without arguments, or is called like one (``config``) and the module defines such a class; the file
    calls ``function`` somewhere with literals or with names of the module.
    """
    required = required_parameters(function)
    if required is None:
        return None
    if not required:
        return Call(function)
    settings = _settings(function, required, module)
    if settings is not None:
        return Call(function, (), {name: Call(kind) for name, kind in settings.items()})
    site = next(_call_sites(function, module, tree), None) if tree is not None else None
    if site is None:
        return None
    return Call(function, *site)


def required_parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Parameters without a default, ``self`` left out; None when the signature cannot be read."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
    ]


def resolved_hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of a function or of a class's constructor, resolved as far as that is possible."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(target)
    except Exception:  # a forward reference to what does not exist here
        return dict(getattr(target, "__annotations__", {}))


#: What parameters and classes that hold settings are called, or end with.
SETTINGS = (
    "config",
    "configs",
    "cfg",
    "conf",
    "args",
    "params",
    "hparams",
    "hps",
    "opt",
    "opts",
    "options",
    "settings",
    "flags",
)


def _settings(
    function: Callable[..., Any], required: list[inspect.Parameter], module: ModuleType
) -> dict[str, type] | None:
    """By parameter: the class of settings that it is annotated with, or that the module has for it."""
    hints = resolved_hints(function)
    kinds: dict[str, type] = {}
    for parameter in required:
        kind = hints.get(parameter.name)
        if kind is None and parameter.name.lower().endswith(SETTINGS):
            kind = _only_settings(function, module)
        if not (inspect.isclass(kind) and _is_settings(kind)):
            return None
        kinds[parameter.name] = kind
    return kinds


def _only_settings(function: Callable[..., Any], module: ModuleType) -> type | None:
    """The one class of settings that the module defines; of several the one that is called after ``function``."""
    own = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and _is_settings(kind)
    ]
    if len(own) > 1:
        own = [kind for kind in own if kind.__name__.lower().startswith(function.__name__.lower())]
    return own[0] if len(own) == 1 else None


def _is_settings(kind: type) -> bool:
    """Whether a class holds settings and can be made without arguments: a dataclass, or a class named like one."""
    return holds_settings(kind) and required_parameters(kind) == []


def holds_settings(kind: type) -> bool:
    """Whether a class holds settings by its kind or its name."""
    return dataclasses.is_dataclass(kind) or kind.__name__.lower().endswith(SETTINGS)


def made(value: Any) -> Any:
    """``value`` with every call in it made; settings are copied, for a constructor may change them."""
    if isinstance(value, Call):
        return value()
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(made(each) for each in value)
    if isinstance(value, list):
        return [made(each) for each in value]
    if type(value) is dict:
        return {key: made(each) for key, each in value.items()}
    if isinstance(value, str | int | float | ModuleType) or callable(value) or not hasattr(value, "__dict__"):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied is shared
        return value


def _call_sites(
    function: Callable[..., Any], module: ModuleType, tree: ast.Module
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of calls of ``function`` in the file, in its order, where all of them can be known."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        if _last_name(node.func) != function.__name__:
            continue
        try:
            args, kwargs = _arguments(node, module)
            inspect.signature(function).bind(*args, **kwargs)
        except (ValueError, TypeError):
            continue
        yield args, kwargs


def _arguments(node: ast.Call, module: ModuleType) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if any(isinstance(arg, ast.Starred) for arg in node.args) or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("an unpacked argument")
    args = tuple(_value(arg, module) for arg in node.args)
    return args, {str(keyword.arg): _value(keyword.value, module) for keyword in node.keywords}


def _value(node: ast.expr, module: ModuleType) -> Any:
    """A literal, a name of the module, or a settings class called with such; raises ValueError for anything else."""
    if isinstance(node, ast.Name) and hasattr(module, node.id):
        return getattr(module, node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        kind = getattr(module, node.func.id, None)
        if inspect.isclass(kind) and (dataclasses.is_dataclass(kind) or _is_settings(kind)):
            return Call(kind, *_arguments(node, module))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = getattr(module, node.value.id, None)
        if isinstance(owner, ModuleType) and hasattr(owner, node.attr):  # nn.ReLU
            return getattr(owner, node.attr)
    return ast.literal_eval(node)


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None
