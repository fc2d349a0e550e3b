"""How much of a network's ways squashing functions leave open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from stablelint.graph.families import CONTRACTIONS, WEIGHTED
from stablelint.signals.signals import Signal

#: Smooth functions that are flat on both sides. Those with corners (hardtanh, ReLU6) are flat there by design.
SMOOTH = frozenset({"sigmoid", "tanh", "softsign", "erf"})


def squashing(trunk: Iterable[Signal]) -> list[Signal]:
    """The rows of smooth squashing functions whose saturated share is known."""
    return [row for row in trunk if row.name in SMOOTH and row.saturated is not None]


def hidden(trunk: Sequence[Signal]) -> list[Signal]:
    """Those in front of the last layer; behind it the loss decides what a flat end means (a sure model's logits)."""
    last = max((row.op for row in trunk if row.name in WEIGHTED | CONTRACTIONS), default=-1)
    return [row for row in squashing(trunk) if row.op < last]


def open_ways(rows: Iterable[Signal]) -> float:
    """The share of ways through all of ``rows`` on which no element is saturated."""
    return math.prod(1 - (row.saturated or 0.0) for row in rows)
