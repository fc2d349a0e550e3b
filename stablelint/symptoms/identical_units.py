"""SL907: units that compute and learn the same."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.graph.families import WEIGHTED
from stablelint.rule import rule
from stablelint.signals import Signals


@rule(
    code="SL907",
    summary="all units of a layer compute the same value and get the same gradient, so they stay copies of one",
)
def identical_units(signals: Signals, *, error_above: float = 0.999999) -> Iterator[Hit]:
    """Look for layers whose units agree in value and in gradient to float precision."""
    copies = [
        row
        for row in signals.trunk
        if row.name in WEIGHTED and row.unit_similarity is not None and row.unit_similarity > error_above
    ]
    if copies:
        yield Hit(
            copies[0].site,
            f"all units of {copies[0].label} have the same value and the same gradient, in {len(copies)} "
            f"{'layer' if len(copies) == 1 else 'layers'}",
            fix="initialise the weights at random; only biases and gains may be constant",
            facts={"layers": len(copies)},
            span=tuple(row.op for row in copies),
            modules=tuple(row.site.module for row in copies),
            level=Level.ERROR,
        )
