"""The elementwise functions of torch as numpy functions of one variable, by canonical name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from stablelint.predict.gaussian import Array, Function

_ERF = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function."""
    return np.asarray(_ERF(np.asarray(x, dtype=np.float64)), dtype=np.float64)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow."""
    return np.asarray(np.logaddexp(0, x))


def positive(x: Array) -> Array:
    """The argument of a root or logarithm: an average of squares, so its normal tail below zero is an artefact."""
    return np.asarray(np.maximum(x, max(0.1 * float(np.median(x)), 1e-30)))


def reciprocal(x: Array) -> Array:
    """``1 / x`` cut off near the pole, at a tenth of the typical value."""
    middle = float(np.median(x))
    limit = 0.1 * abs(middle) if middle else 1e-12
    return np.asarray(1 / np.where(np.abs(x) < limit, np.copysign(limit, middle if middle else 1.0), x))


def power(x: Array, exponent: float) -> Array:
    """``x ** exponent``; anything but a whole positive power is taken away from the pole."""
    if exponent == int(exponent) and exponent >= 0:
        return np.asarray(x**exponent)
    return reciprocal(x) if exponent == -1 else np.asarray(positive(x) ** exponent)


def _elu(x: Array, alpha: float) -> Array:
    return np.asarray(np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _threshold(x: Array, at: float, value: float) -> Array:
    return np.asarray(np.where(x > at, x, value), dtype=np.float64)


#: Functions without arguments. What is piecewise constant has derivative 0 almost everywhere.
_PLAIN: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "logsigmoid": lambda x: -softplus(-x),
    "log_sigmoid": lambda x: -softplus(-x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanhshrink": lambda x: x - np.tanh(x),
    "exp": lambda x: np.exp(np.minimum(x, 80.0)),
    "exp2": lambda x: np.exp2(np.minimum(x, 115.0)),
    "expm1": lambda x: np.expm1(np.minimum(x, 80.0)),
    "log": lambda x: np.log(positive(x)),
    "log2": lambda x: np.log2(positive(x)),
    "log10": lambda x: np.log10(positive(x)),
    "log1p": lambda x: np.log1p(np.maximum(x, -0.999)),
    "sqrt": lambda x: np.sqrt(positive(x)),
    "rsqrt": lambda x: 1 / np.sqrt(positive(x)),
    "reciprocal": reciprocal,
    "square": lambda x: x * x,
    "neg": lambda x: -x,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinc": np.sinc,
    "sinh": lambda x: np.sinh(np.clip(x, -80, 80)),
    "cosh": lambda x: np.cosh(np.clip(x, -80, 80)),
    "asin": lambda x: np.arcsin(np.clip(x, -1, 1)),
    "acos": lambda x: np.arccos(np.clip(x, -1, 1)),
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "erf": erf,
    "erfc": lambda x: 1 - erf(x),
    "logit": lambda x: np.log(np.clip(x, 1e-6, 1 - 1e-6) / (1 - np.clip(x, 1e-6, 1 - 1e-6))),
}

#: Functions with arguments: the attributes with their defaults, and the function of x and the attributes.
_WITH_ARGUMENTS: dict[str, tuple[tuple[tuple[str, float], ...], Callable[..., Array]]] = {
    "leaky_relu": ((("negative_slope", 0.01),), lambda x, slope: np.where(x > 0, x, slope * x)),
    "elu": ((("alpha", 1.0),), _elu),
    "celu": ((("alpha", 1.0),), lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x / alpha, 0)))),
    "hardtanh": ((("min", -1.0), ("max", 1.0)), lambda x, low, high: np.clip(x, low, high)),
    "clamp": ((("min", -math.inf), ("max", math.inf)), lambda x, low, high: np.clip(x, low, high)),
    "softplus": ((("beta", 1.0),), lambda x, beta: softplus(beta * x) / beta),
    "threshold": ((("threshold", 0.0), ("value", 0.0)), _threshold),
    "hardshrink": ((("lambd", 0.5),), lambda x, lambd: np.where(np.abs(x) > lambd, x, 0.0)),
    "softshrink": ((("lambd", 0.5),), lambda x, lambd: np.sign(x) * np.maximum(np.abs(x) - lambd, 0.0)),
    "rrelu": (
        (("lower", 1 / 8), ("upper", 1 / 3)),
        lambda x, lower, upper: np.where(x > 0, x, 0.5 * (lower + upper) * x),
    ),
}

#: Piecewise constant functions: they have values and no gradient.
STEPS: dict[str, Callable[[Array], Array]] = {
    "sign": np.sign,
    "round": np.round,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "heaviside": lambda x: np.heaviside(x, 0.5),
}

UNARY = frozenset(_PLAIN) | frozenset(_WITH_ARGUMENTS) | {"gelu"}


def function(name: str, attrs: Mapping[str, object]) -> Function | None:
    """The function of a canonical op; None for a name that is no elementwise function."""
    if name == "gelu":
        if attrs.get("approximate") == "tanh":
            return Function("gelu_tanh", _gelu_tanh)
        return Function("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))))
    if name in _PLAIN:
        return Function(name, _PLAIN[name])
    if name in STEPS:
        return Function(name, STEPS[name])
    if name not in _WITH_ARGUMENTS:
        return None
    defaults, of = _WITH_ARGUMENTS[name]
    given = (attrs.get(key) for key, _ in defaults)
    values = tuple(
        float(value) if isinstance(value, (int, float)) else default
        for value, (_, default) in zip(given, defaults, strict=True)
    )
    return Function((name, *values), lambda x: of(x, *values))
