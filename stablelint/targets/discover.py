"""Finding the models of a user's file or module."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from stablelint.errors import BuildTargetError, ImportTargetError, did_you_mean
from stablelint.targets.callplan import Call, plan, required_parameters, resolved_hints
from stablelint.targets.classes import main_classes
from stablelint.targets.loading import LeftOut, short
from stablelint.targets.spec import shown

#: Public functions of these names build the model of their file.
FACTORY_NAMES = frozenset({"build", "build_model", "make_model", "create_model", "get_model", "model"})

_NO_FACTORIES = ("test", "main", "train", "eval", "demo", "example_inputs")


@dataclass(frozen=True)
class Found:
    """Something in a module that gives a model.

    ``kind`` is "factory", "annotated", "returning", "class", "instance" or "searched". A "factory" has one of the known
    names or a name that the user gave, an "annotated" function says that it returns a model, a "returning" one was seen
    to. ``make`` needs no argument; for an instance it returns the instance itself. The arguments of a "searched" class
    or function are still to be found.
    """

    name: str
    kind: str
    make: Callable[[], Any]
    value: Any


def discover(module: ModuleType, source: str) -> list[Found]:
    """The models that a file defines: functions and instances, then classes, each in the order of their definition.

    A factory of a known name settles it: functions that return a model are then targets too, classes and instances
    are its parts. Without one, main classes that need arguments are "searched"; a class without arguments that another
    one uses then waits until that is known not to reach it.
    """
    tree = ast.parse(source)
    assigned = {name for node in tree.body for name in _assigned_names(node)}
    found = [each for name, value in vars(module).items() if (each := _look_at(name, value, module, tree, assigned))]
    helpers = _called_inside(tree, {each.name for each in found})
    found = [each for each in found if each.kind not in ("annotated", "returning") or each.name not in helpers]
    if any(each.kind == "factory" for each in found):
        return [each for each in found if each.kind in ("factory", "annotated")]
    main = main_classes(module, tree)
    wanted = [kind for kind in main if kind not in [each.value for each in found]]
    if not wanted:
        return found
    ready = {each.value: each for each in found if each.kind == "class"}
    others = [each for each in found if each.kind != "class"]
    return others + [ready.get(kind) or Found(kind.__name__, "searched", _not_yet, kind) for kind in main]


def searched(name: str, value: Any, module: ModuleType, source: str | None) -> Found:
    """A class or function, ready to be called where that is plain, else with arguments that are to be found."""
    make = plan(value, module, ast.parse(source) if source is not None else None)
    if make is None:
        return Found(name, "searched", _not_yet, value)
    return Found(name, "class" if inspect.isclass(value) else "factory", make, value)


def no_values(name: str, function: Any, error: BaseException | None) -> str:
    """The sentence for a class or function for which no arguments were found."""
    needed = ", ".join(parameter.name for parameter in required_parameters(function) or ())
    why = f" (the likeliest failed with {short(error)})" if error is not None else ""
    short_name = name.rpartition(":")[2]
    return (
        f"{name} needs {needed or 'arguments'}, and no values were found with which it can be built{why}; add "
        f"`def build(): return {short_name}(...)`, or check '{name}(...)'"
    )


def _not_yet() -> Any:
    raise BuildTargetError("its arguments are not known yet")


def named(module: ModuleType, name: str, source: str | None, where: str) -> Found:
    """What ``where:name`` means; raises one sentence when there is no such thing or it cannot be called."""
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            public = [key for key, each in vars(module).items() if not key.startswith("_") and callable(each)]
            raise ImportTargetError(f"{where} has no {name}{did_you_mean(name, public)}")
        value = getattr(value, part)
    if isinstance(value, nn.Module):
        return Found(name, "instance", lambda: value, value)
    if not callable(value):
        raise BuildTargetError(f"{where}:{name} is a {type(value).__name__}, not a factory, a class or a model")
    return searched(name, value, module, source)


def no_model(source: str, left_out: Sequence[LeftOut] = (), missing: Sequence[str] = ()) -> str:
    """The sentence for a file without a model; what could not be run or found in it is named."""
    if left_out:
        first = left_out[0]
        return f"{source} defines no model: {shown(first.file)}:{first.line} {first.why} while it is imported"
    if missing:
        names = ", ".join(missing)
        return f"{source} defines no model; it imports {names}, which cannot be found: install {names}"
    return f"{source} defines no model; add `def build(): return ...`"


def _look_at(name: str, value: Any, module: ModuleType, tree: ast.Module, assigned: set[str]) -> Found | None:
    if name.startswith("_"):
        return None
    if isinstance(value, nn.Module):
        return Found(name, "instance", lambda: value, value) if name in assigned and _trains(value) else None
    if getattr(value, "__module__", None) != module.__name__ or getattr(value, "__name__", None) != name:
        return None
    if inspect.isfunction(value):
        if name in FACTORY_NAMES:
            make = plan(value, module, tree)
            return Found(name, "factory", make, value) if make else None
        kind = _model_function(value, module, tree) if required_parameters(value) == [] else None
        return Found(name, kind, Call(value), value) if kind else None
    if inspect.isclass(value) and issubclass(value, nn.Module) and _is_complete(value):
        make = plan(value, module, tree)
        return Found(name, "class", make, value) if make else None
    return None


def _is_complete(kind: type[nn.Module]) -> bool:
    return kind.forward is not nn.Module.forward and not inspect.isabstract(kind)


def _trains(model: nn.Module) -> bool:
    return any(True for _ in model.parameters())


def _assigned_names(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id


def _called_inside(tree: ast.Module, found: set[str]) -> set[str]:
    """Functions that the classes or other models of the file call: they make parts."""
    called: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node.name in found):
            calls = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]
            called |= {each.id for each in calls if isinstance(each, ast.Name)} - {node.name}
    return called


def _model_function(function: types.FunctionType, module: ModuleType, tree: ast.Module) -> str | None:
    """The kind of a function that gives a model, None for any other."""
    if function.__name__.startswith(_NO_FACTORIES):
        return None
    hint = resolved_hints(function).get("return")
    if hint is not None:
        hint = typing.get_origin(hint) or hint
        return "annotated" if inspect.isclass(hint) and issubclass(hint, nn.Module) else None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return "returning" if any(_is_model_call(each, node, module) for each in _returned(node)) else None
    return None


def _returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    for statement in function.body:
        if isinstance(statement, ast.Return) and statement.value is not None:
            yield statement.value


def _is_model_call(value: ast.expr, function: ast.FunctionDef, module: ModuleType) -> bool:
    if isinstance(value, ast.Name):
        assigned = [node.value for node in function.body if isinstance(node, ast.Assign) and value.id in _names(node)]
        return (
            bool(assigned) and not isinstance(assigned[-1], ast.Name) and _is_model_call(assigned[-1], function, module)
        )
    if not isinstance(value, ast.Call):
        return False
    kind: Any = module
    for part in ast.unparse(value.func).split("."):
        kind = getattr(kind, part, None)
    return inspect.isclass(kind) and issubclass(kind, nn.Module)


def _names(node: ast.Assign) -> set[str]:
    return set(_assigned_names(node))
