"""SL914: squashing functions on their flat ends, layer after layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from stablelint.finding import Hit, Level
from stablelint.graph.families import CONTRACTIONS, WEIGHTED
from stablelint.rule import rule
from stablelint.signals import Signal, Signals
from stablelint.signals.signals import near as near_mean
from stablelint.symptoms.uncertainty import capped, facts, near

#: Smooth functions that are flat on both sides. Those with corners (hardtanh, ReLU6) are flat there by design.
SMOOTH = frozenset({"sigmoid", "tanh", "softsign", "erf"})


@rule(
    code="SL914",
    summary="squashing activations so far out on their flat ends that few ways through the network are left open",
)
def saturated_activation(
    signals: Signals, *, error_below: float = 0.01, warning_below: float = 0.1, note_above: float = 0.5
) -> Iterator[Hit]:
    """Multiply the shares of open elements along the trunk: gates beside it, and what a skip passes by, do no harm.

    The output's own squashing is a warning at most. Of the networks of `scripts/calibrate.py` that leave less than
    0.01 open none trains at any setting on both seeds; all above 0.1 train as far as saturation goes.
    """
    rows = [row for row in signals.trunk if row.name in SMOOTH and row.saturated is not None]
    if not rows:
        return
    worst = max(rows, key=lambda row: row.saturated or 0.0)
    share = worst.saturated or 0.0
    way = _open(rows)
    if way >= warning_below and share <= note_above:
        return
    # the layers that do it: those with at least half of the worst one's share
    flat = [row for row in rows if (row.saturated or 0.0) >= share / 2]
    # behind the last layer the loss decides what a flat end means (logits of a sure model, samples of a generator)
    last = max((row.op for row in signals.trunk if row.name in WEIGHTED | CONTRACTIONS), default=-1)
    hidden = _open([row for row in rows if row.op < last])
    doubt = near_mean(hidden, error_below, _margin([row for row in rows if row.op < last]))
    level = Level.ERROR if hidden < error_below else Level.WARNING if way < warning_below else Level.NOTE
    layers = f"{len(rows)} such layers in a row leave" if len(rows) > 1 else "that leaves"
    yield Hit(
        flat[0].site,
        f"{share:.0%} of the elements of {worst.label} are saturated (derivative below 1% of the largest); "
        f"{layers} {way:.1g} of the ways through the network open" + near(error_below, doubt, signals),
        fix="scale down the weights or inputs in front, or normalise before the activation",
        facts={"saturated": share, "open": way, "layers": len(rows), **facts(doubt)},
        span=tuple(row.op for row in flat),
        modules=tuple(row.site.module for row in flat),
        level=capped(level, doubt, signals),
    )


def _open(rows: Sequence[Signal]) -> float:
    """The share of ways through all of ``rows`` on which no element is saturated."""
    return math.prod(1 - (row.saturated or 0.0) for row in rows)


def _margin(rows: Sequence[Signal]) -> float:
    """What the margins of the shares amount to in the product, in decades: that of a sum, for they vary together."""
    return sum(row.margins.get("saturated", 0.0) / max(1 - (row.saturated or 0.0), 1e-9) for row in rows) / math.log(10)
