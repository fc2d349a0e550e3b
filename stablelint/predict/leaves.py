"""The values that a prediction starts from: parameters, constants and inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from stablelint.graph.op import Op, Parameter
from stablelint.predict.domain import Value, iid

#: Means within this many standard errors of zero are zero.
_ERRORS = 3.0


def known_array(op: Op) -> npt.NDArray[Any] | None:
    """The true value of a small tensor that depends on nothing."""
    if op.known is None:
        return None
    array = np.asarray(op.known)
    if array.dtype.kind not in "biuf":
        return None
    if array.size != op.numel:
        return None
    return array.reshape(op.shape)


def parameter_value(parameter: Parameter) -> Value:
    """Independent elements with the mean and deviation of the parameter.

    What nobody has filled is taken to be filled well, so that the rest of the model is judged for itself.
    """
    if parameter.mask is not None:
        masks = iid(parameter.shape, 0.0, 0.0)  # what it leaves open it does not change
        allowed = np.array(parameter.mask, dtype=bool)
        masks.allowed = allowed if allowed.size and not allowed.all() else None
        return masks
    unfilled = 1 / math.sqrt(max(math.prod(parameter.shape[-1:] if parameter.init == "empty" else ()), 1))
    std = parameter.std if math.isfinite(parameter.std) else unfilled
    mean = parameter.mean if math.isfinite(parameter.mean) else 0.0
    if abs(mean) <= _ERRORS * std / math.sqrt(max(parameter.numel, 1)):
        mean = 0.0
    value = iid(parameter.shape, mean, std * std)
    value.parameter = parameter
    return value


def leaf(op: Op) -> Value | npt.NDArray[Any] | None:
    """The value of an op without operands; None for integers of unknown content."""
    found = known_array(op)
    if found is not None:
        return found
    if op.parameter is not None and op.floating:
        return parameter_value(op.parameter)
    if not op.floating:
        return None
    return input_value(op)


def input_value(op: Op) -> Value:
    """Independent elements of N(0, 1), or with the moments of the example that was given; samples may have a part in
    common."""
    std = float(op.attrs.get("std", 1.0))
    value = iid(op.shape, float(op.attrs.get("mean", 0.0)), std * std)
    covariance = op.attrs.get("covariance")
    if covariance is not None and value.rank > 1:
        value.table[(0, *(1,) * (value.rank - 1))] += min(float(covariance), std * std)
    return value
