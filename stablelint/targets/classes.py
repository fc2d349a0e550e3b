"""The module classes of a user's file: which of them people would call its models, and which a model stands for."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType

from torch import nn

_LOSSES = re.compile(r".*(Loss|Criterion|Metric)\d*")


def module_classes(module: ModuleType) -> list[type[nn.Module]]:
    """The module classes that a file defines, in its order, private ones too."""
    found = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
        and value.__name__ == name
        and "__stand_in__" not in vars(value)
    ]
    return list(dict.fromkeys(found))


def main_classes(module: ModuleType, tree: ast.Module | None) -> list[type[nn.Module]]:
    """The classes that no other class of the file builds or extends, and that no call gets as an argument.

    Private and abstract classes and losses are none, unless the file has no others.
    """
    classes = module_classes(module)
    names = {each.__name__ for each in classes}
    used = _used(tree, names) if tree is not None else set()
    top = [each for each in classes if each.__name__ not in used]
    main = [each for each in top if not is_helper(each)]
    return main or [each for each in top if not inspect.isabstract(each)]


def is_helper(kind: type[nn.Module]) -> bool:
    """Whether a class is private, abstract, empty, or a loss: nobody expects a verdict on it."""
    name = kind.__name__
    return name.startswith("_") or is_abstract(kind) or not has_work(kind) or _LOSSES.fullmatch(name) is not None


def has_work(kind: type[nn.Module]) -> bool:
    """Whether a class has a forward pass, or another public method of its own that may be one."""
    own = [base for base in kind.__mro__ if not base.__module__.startswith("torch.") and base is not object]
    names = {name for base in own for name, value in vars(base).items() if inspect.isfunction(value)}
    return kind.forward is not nn.Module.forward or any(not name.startswith("_") for name in names)


def is_abstract(kind: type) -> bool:
    """Whether a class leaves methods to its subclasses."""
    if inspect.isabstract(kind):
        return True
    return any(getattr(value, "__isabstractmethod__", False) for value in vars(kind).values())


def _used(tree: ast.Module, names: set[str]) -> set[str]:
    """Classes that another class of the file mentions, and those that a call takes as an argument."""
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            inside = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and each.id in names}
            used |= inside - {node.name}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) not in ("super", "isinstance", "issubclass"):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            used |= {each.id for each in given if isinstance(each, ast.Name) and each.id in names}
    return used


def stands_for(model: nn.Module, module: ModuleType | None) -> tuple[str, ...]:
    """Classes that a checked model speaks for: its own, and those of its parts and their bases in its file."""
    own = type(model)
    home = module.__name__ if module is not None else own.__module__
    found: dict[str, None] = {own.__name__: None}
    for kind in {type(each) for each in model.modules()}:
        for base in kind.__mro__:
            if base.__module__ == home and issubclass(base, nn.Module):
                found[base.__name__] = None
    return (own.__name__, *sorted(set(found) - {own.__name__}))
