"""SL914: squashing functions on their flat ends, layer after layer."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.signals.saturation import hidden, open_ways, squashing
from stablelint.signals.signals import near_threshold
from stablelint.symptoms.uncertainty import capped, facts, near


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
    rows = squashing(signals.trunk)
    if not rows:
        return
    worst = max(rows, key=lambda row: row.saturated or 0.0)
    share = worst.saturated or 0.0
    way = open_ways(rows)
    if way >= warning_below and share <= note_above:
        return
    # the layers that do it: those with at least half of the worst one's share
    flat = [row for row in rows if (row.saturated or 0.0) >= share / 2]
    inner = open_ways(hidden(signals.trunk))
    doubt = near_threshold(inner, error_below, signals.margins.get("open"))
    level = Level.ERROR if inner < error_below else Level.WARNING if way < warning_below else Level.NOTE
    layers = f"{len(rows)} such layers in a row leave" if len(rows) > 1 else "that leaves"
    yield Hit(
        flat[0].site,
        f"{share:.0%} of the elements of {worst.label} are saturated (derivative below 1% of the largest); "
        f"{layers} {way:.1g} of the ways through the network open" + near(error_below, doubt, signals),
        fix="scale down the weights or inputs in front, or normalise before the activation",
        facts={"saturated": share, "open": way, "layers": len(rows), **facts(doubt)},
        span=tuple(row.op for row in flat),
        modules=tuple(row.site.module for row in flat),
        level=capped(level, doubt),
    )
