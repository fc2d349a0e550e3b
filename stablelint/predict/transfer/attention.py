"""Fused attention: ``softmax(scale * q k^T + mask) v`` from the rules of its parts."""

from __future__ import annotations

import math

import numpy as np

from stablelint.predict.call import Call, Result
from stablelint.predict.domain import Value, copied
from stablelint.predict.transfer.arithmetic import add, scaled
from stablelint.predict.transfer.contraction import multiply
from stablelint.predict.transfer.operators import CLOSED, dropped, masked
from stablelint.predict.transfer.shaping import expanded, permuted, reshaped
from stablelint.predict.transfer.softmax import softmax_of


def scaled_dot_product_attention(call: Call) -> Result:
    """With grouped queries, causal and explicit masks, dropout."""
    query, key, value = call.value("query"), call.value("key"), call.value("value")
    if call.attr("enable_gqa"):
        key, value = (_repeat_heads(item, query.shape[-3]) for item in (key, value))
    scale = call.number("scale", 1 / math.sqrt(max(query.shape[-1], 1)))
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scores = scaled(multiply(query, permuted(key, order)), scale)
    given = call.known("mask")
    if call.attr("is_causal"):
        scores = masked(scores, np.tril(np.ones(scores.shape[-2:], dtype=bool)))
    elif given is not None and given.dtype.kind == "b":
        scores = masked(scores, given)
    elif given is not None and bool((given < CLOSED).any()):
        scores = masked(scores, given > CLOSED)
    elif isinstance(call.operand("mask"), Value) or given is not None:
        scores = add(scores, call.value("mask"))
    weights = softmax_of(scores, -1)
    p = call.number("dropout_p", 0.0)
    if 0 < p < 1:
        weights = dropped(weights, 1 - p)
    result = copied(multiply(weights, value))
    result.attention = weights.attention
    return result


def _repeat_heads(value: Value, heads: int) -> Value:
    times = heads // value.shape[-3]
    if times <= 1:
        return value
    lead, (own, length, width) = value.shape[:-3], value.shape[-3:]
    copies = expanded(reshaped(value, (*lead, own, 1, length, width)), (*lead, own, times, length, width))
    return reshaped(copies, (*lead, heads, length, width))
