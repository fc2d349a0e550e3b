"""Mean-field facts about single layers that rules and predictions share; plain arithmetic, no arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

_SQRT2 = math.sqrt(2)


def _gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / _SQRT2))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _elu(x: float) -> float:
    return x if x > 0 else math.expm1(x)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "prelu": lambda x: x if x > 0 else 0.25 * x,
    "hardtanh": lambda x: min(max(x, -1.0), 1.0),
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "elu": _elu,
    "celu": _elu,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "softplus": _softplus,
    "tanh": math.tanh,
    "softsign": lambda x: x / (1 + abs(x)),
}


@cache
def gain_of(activation: str) -> float | None:
    """sqrt(E[phi'(z)^2]) for z ~ N(0, 1): the factor that an activation applies to the gradient's rms.

    A layer keeps the gradient if sqrt(fan * Var(w)) is the inverse of this (He et al. 2015, arXiv:1502.01852,
    eq. 10 and 14; Schoenholz et al. 2017, arXiv:1611.01232, eq. 5). None for functions that keep no scale
    whatever the weights are (sigmoid) or that are not elementwise. Simpson's rule on [-8, 8].
    """
    function = _FUNCTIONS.get(activation)
    if function is None:
        return None
    steps, half = 1600, 8.0
    width = 2 * half / steps
    total = 0.0
    for index in range(steps + 1):
        x = -half + index * width
        slope = (function(x + 1e-4) - function(x - 1e-4)) / 2e-4
        weight = 1 if index in (0, steps) else 4 if index % 2 else 2
        total += weight * slope * slope * math.exp(-x * x / 2)
    return math.sqrt(total * width / 3 / math.sqrt(2 * math.pi))
