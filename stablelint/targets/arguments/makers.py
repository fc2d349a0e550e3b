"""Classes that make themselves: ``Net.from_name("small")`` somewhere in the repository."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from stablelint.targets.callplan import Call
from stablelint.targets.evidence.fold import Unknown, fold
from stablelint.targets.evidence.reader import Reader
from stablelint.targets.evidence.scopes import Scope

_MAKERS = (
    "from_name",
    "from_config",
    "from_preset",
    "from_cfg",
    "from_args",
    "build",
    "create",
    "small",
    "base",
    "tiny",
)
_MOST = 3


def calls_of_makers(function: Callable[..., Any], reader: Reader) -> Iterator[tuple[Call, str]]:
    """Calls of a class's own class methods that give an instance, with where they stand; their arguments are known."""
    found = 0
    for name in _MAKERS:
        maker = getattr(function, name, None)
        if not inspect.ismethod(maker) or maker.__self__ is not function:
            continue
        whole = f"{function.__name__}.{name}"
        for script, node in reader.call_nodes(name, reader.repository.mentioning(f"{whole}(")):
            if found >= _MOST or not ast.unparse(node.func).endswith(whole):
                continue
            try:
                call = fold(node, Scope.of(reader, script, node))
            except Unknown:
                continue
            if isinstance(call, Call):
                found += 1
                yield call, f"the call in {script.place(node)}"
