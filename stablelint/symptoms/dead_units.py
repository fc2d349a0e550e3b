"""SL904: units that are zero for every sample."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.symptoms.uncertainty import capped, facts, near_share, within


@rule(code="SL904", summary="units that are zero with zero derivative for every sample and so never learn")
def dead_units(signals: Signals, *, error_above: float = 0.95, warning_above: float = 0.8) -> Iterator[Hit]:
    """Look at the rectifiers of the trunk; those beside it may be off without stopping the gradient.

    Half of the units of a healthy but collapsed layer are off for all samples, so the threshold lies well above.
    """
    dead = [row for row in signals.trunk if row.dead is not None and row.dead > warning_above]
    if not dead:
        return
    worst = max(dead, key=lambda row: row.dead or 0.0)
    first = dead[0]
    doubt = within(worst.dead or 0.0, error_above, worst.margins.get("dead"))
    level = Level.ERROR if (worst.dead or 0.0) > error_above else Level.WARNING
    yield Hit(
        first.site,
        f"{worst.dead or 0:.0%} of the units of {worst.label} are zero for the whole batch and have zero gradient"
        + near_share(error_above, doubt, signals),
        fix="look at the bias and the scale of the layer in front (a large negative bias, a zero gain), or use "
        "LeakyReLU or GELU",
        facts={"dead": worst.dead, "layers": len(dead), **facts(doubt)},
        span=tuple(row.op for row in dead),
        modules=tuple(row.site.module for row in dead),
        level=capped(level, doubt),
    )
