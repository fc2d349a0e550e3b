"""Classes of the user's file that may be arguments of another one."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from stablelint.targets.arguments.usage import constructor, source_of
from stablelint.targets.arguments.values import WIDTH
from stablelint.targets.callplan import Call
from stablelint.targets.classes import is_abstract, module_classes
from stablelint.targets.evidence.reader import Reader

_MOST_MODULES = 3


def related_classes(function: Callable[..., Any], module: ModuleType) -> tuple[type, ...]:
    """Classes that ``function`` may take as an argument: of its file, those that it does not construct by name."""
    node = source_of(constructor(function))
    named = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node is not None else set()
    return tuple(kind for kind in module_classes(module) if kind is not function and kind.__name__ not in named)


def works_on_images(function: Callable[..., Any], module: ModuleType) -> bool:
    """Whether a class constructs two-dimensional convolutions, itself or in a class of its file."""
    seen: set[str] = set()
    waiting: list[Any] = [function]
    while waiting:
        each = waiting.pop()
        node = source_of(constructor(each))
        for inner in ast.walk(node) if node is not None else ():
            name = inner.id if isinstance(inner, ast.Name) else inner.attr if isinstance(inner, ast.Attribute) else ""
            if "Conv2d" in name or "conv3x3" in name:
                return True
            value = vars(module).get(name)
            if name not in seen and inspect.isclass(value) and issubclass(value, nn.Module):
                seen.add(name)
                waiting.append(value)
    return False


def modules_for(
    name: str, annotation: Any, owner: Callable[..., Any], reader: Reader, planned: Callable[[type], Call | None]
) -> list[Any]:
    """Modules for an argument that is one: of the annotated class, of one that is called alike, a small layer."""
    own = [kind for kind in module_classes(reader.module) if kind is not owner]
    if inspect.isclass(annotation) and annotation is not nn.Module and issubclass(annotation, nn.Module):
        first = [annotation, *(kind for kind in annotation.__subclasses__() if kind is not owner)]
    else:
        word = name.lower().replace("_", "")
        first = [kind for kind in own if (word and word in kind.__name__.lower()) or kind.__name__.lower() in word]
    found: list[Any] = []
    for kind in dict.fromkeys(first):
        if len(found) < _MOST_MODULES and not is_abstract(kind) and kind.forward is not nn.Module.forward:
            call = planned(kind)
            if call is not None:
                found.append(call)
    return [*found, Call(nn.Linear, (WIDTH, WIDTH)), Call(nn.Identity)]
