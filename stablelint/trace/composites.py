"""Python functions of torch that are recorded op by op instead of as one op."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch.nn.functional as F

#: Inside are the projections, the scores and the softmax that rules look for.
ENTERED: frozenset[Callable[..., Any]] = frozenset({F.multi_head_attention_forward})


@cache
def opened(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` without its own dispatch to an active TorchFunctionMode, which would call it again for ever.

    The copy shares the code and sees a copy of the module's names; nothing of torch is changed.
    """
    assert isinstance(function, FunctionType)
    names = dict(function.__globals__)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        names[name] = _never
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _never(*_args: object) -> bool:
    return False
