"""Inputs for a model from a call of it in a script of the repository."""

from __future__ import annotations

import inspect
from typing import Any

from stablelint.targets.evidence.reader import Reader
from stablelint.targets.evidence.tensors import seen_calls
from stablelint.targets.hints import Hint

_KINDS = {"normal": "float", "ids": "int", "false": "bool"}


def seen_inputs(function: Any, reader: Reader | None) -> list[Hint]:
    """The arguments of the call that tells most of them; empty when no script calls what ``function`` gives."""
    if reader is None or not (inspect.isroutine(function) or inspect.isclass(function)):
        return []
    call = next(iter(seen_calls(function, reader)), None)
    if call is None:
        return []
    where = call.where.removeprefix("the call in ")
    given = [(None, position, each) for position, each in enumerate(call.args)]
    named = [(name, None, each) for name, each in call.kwargs.items()]
    return [
        Hint(name, position, each.shape, _KINDS.get(each.kind or ""), each.high, where)
        for name, position, each in (*given, *named)
        if each is not None
    ]
