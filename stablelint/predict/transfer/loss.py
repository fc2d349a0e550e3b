"""Losses inside the model: built from the other rules where they are sums of elementwise functions.

cross entropy over n classes:  d/dlogits = (p - y) / N;  per element E[(p - y)^2] = (P - 2/n + 1) / n, with
P = E[sum p^2] at the spread of the logits, and -1 / (n - 1) of it between classes; two samples share what their
predictions share, E[p p'] - 1/n^2, as targets are taken as independent of them.
"""

from __future__ import annotations

import math

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Table, Value, iid
from stablelint.predict.functions import softplus
from stablelint.predict.gaussian import Function
from stablelint.predict.transfer.arithmetic import add, mul
from stablelint.predict.transfer.elementwise import apply
from stablelint.predict.transfer.reduction import summed
from stablelint.predict.transfer.shaping import fitted
from stablelint.predict.transfer.softmax import overlap

_DISTANCES = {
    "mse_loss": Function("square", lambda x: x * x),
    "l1_loss": Function("abs", np.abs),
    "smooth_l1_loss": Function("huber", lambda x: np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)),
    "huber_loss": Function("huber", lambda x: np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)),
}


def distance(call: Call) -> Result:
    """A function of the difference to the target: squared, absolute, Huber."""
    return _reduced(call, apply(add(call.value("input"), _target(call), -1.0), _DISTANCES[call.op.name]))


def bce_with_logits(call: Call) -> Result:
    """``softplus(x) - x y`` with even labels: ``softplus(x) - x / 2`` and a coin that adds or takes away x / 2."""
    logits = call.value("input")
    even = apply(logits, Function("bce_with_logits", lambda x: softplus(x) - 0.5 * x))
    return _reduced(call, add(even, mul(logits, iid(logits.shape, 0.0, 0.25)), -1.0))


def bce(call: Call) -> Result:
    """``-y log p - (1 - y) log(1 - p)`` with even labels."""
    probabilities = call.value("input")
    log = Function("bce", lambda p: -0.5 * np.log(np.clip(p, 1e-12, 1)) - 0.5 * np.log(np.clip(1 - p, 1e-12, 1)))
    return _reduced(call, apply(probabilities, log))


def kl_div(call: Call) -> Result:
    """``y (log y - input)``: the input is weighted by the target probabilities."""
    value = call.value("input")
    classes = max(value.shape[-1], 1) if value.shape else 1
    target = iid(value.shape, 1 / classes, 1 / classes**2)
    return _reduced(call, add(mul(target, value), iid(value.shape, 1 / classes, 0.0), -math.log(classes)))


def cross_entropy(call: Call) -> Result:
    """From logits; classes lie on axis 1, or on axis 0 without a batch."""
    logits = call.value("input")
    axis = 1 if logits.rank > 1 else 0
    size = logits.shape[axis]
    spread = np.maximum(np.take(logits.table, 1, axis) - np.take(logits.table, 0, axis), 0.0)
    variance = float(spread.flat[-1])
    factor = _factor(call, logits, axis)
    shared = np.zeros(spread.shape)
    for pattern in np.ndindex(*spread.shape):
        correlation = float(np.clip(spread[pattern] / variance, 0, 1)) if variance > 0 else 0.0
        shared[pattern] = overlap(variance, correlation, size, None, same_row=True).product - 1 / size
    shared.flat[-1] += 1 - 1 / size

    def pull(g: Table) -> Table:
        each = float(g.flat[-1]) * factor**2 * np.maximum(shared, 0.0) / size
        return np.stack([-each / max(size - 1, 1), each], axis)

    loss = math.log(max(size, 1)) + min(variance / 2, math.sqrt(2 * variance * math.log(max(size, 2))))
    count = logits.power and math.prod(logits.shape) / size
    total = loss * factor * count
    return Value(call.shape, np.full((2,) * len(call.shape), total * total), total, ((logits, pull),))


def nll_loss(call: Call) -> Result:
    """The negative log probability of the target, which is drawn evenly."""
    value = call.value("input")
    axis = 1 if value.rank > 1 else 0
    size, factor = value.shape[axis], _factor(call, value, axis)

    def pull(g: Table) -> Table:
        scale = float(g.flat[-1]) * factor**2
        back = np.full(value.table.shape, scale / size**2)
        back.flat[-1] = scale / size
        same_place = [1] * value.rank
        same_place[axis] = 0
        back[tuple(same_place)] = 0.0
        return back

    total = -value.mean * factor * math.prod(value.shape) / size
    return Value(call.shape, np.full((2,) * len(call.shape), total * total), total, ((value, pull),))


def _factor(call: Call, value: Value, axis: int) -> float:
    """What one sample's loss is multiplied by."""
    if call.attr("reduction", "mean") != "mean":
        return 1.0
    return value.shape[axis] / max(math.prod(value.shape), 1)


def _reduced(call: Call, value: Value) -> Value:
    how = call.attr("reduction", "mean")
    if how == "none" or value.shape == call.shape:
        return fitted(value, call.shape)
    factor = 1.0 if how == "sum" else 1 / max(math.prod(value.shape), 1)
    return fitted(summed(value, tuple(range(value.rank)), factor), call.shape)


def _target(call: Call) -> Value:
    return call.optional("target") or iid(call.value("input").shape, 0.0, 1.0)
