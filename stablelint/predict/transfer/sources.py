"""Tensors that an op makes on the spot: constants and random numbers."""

from __future__ import annotations

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Value, iid


def zeros(call: Call) -> Result:
    """zeros, and memory that nobody has written to."""
    return iid(call.shape, 0.0, 0.0)


def ones(call: Call) -> Result:
    """ones."""
    return Value(call.shape, np.ones((2,) * len(call.shape)), 1.0)


def uniform(call: Call) -> Result:
    """U(0, 1)."""
    return iid(call.shape, 0.5, 1 / 12)


def normal(call: Call) -> Result:
    """N(0, 1)."""
    return iid(call.shape, 0.0, 1.0)


def bernoulli(call: Call) -> Result:
    """Zeros and ones."""
    given = call.optional(0) if call.op.attrs.get("p") is None and call.op.attrs.get("arg1") is None else None
    p = call.number("p", call.number("arg1", 0.5)) if given is None else min(max(given.mean, 0.0), 1.0)
    return iid(call.shape, p, p * (1 - p))


def filled(call: Call) -> Result:
    """full and full_like: one number."""
    given = (call.op.attrs.get(name) for name in ("fill_value", "value", "arg1"))
    number = next((float(found) for found in given if isinstance(found, (int, float))), 0.0)
    return Value(call.shape, np.full((2,) * len(call.shape), number * number), number)
