"""SL903: NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals


@rule(code="SL903", summary="a value or gradient is NaN or infinite although what it is computed from is finite")
def non_finite(signals: Signals) -> Iterator[Hit]:
    """Report the first op of the forward pass, or of the backward pass when the forward one is finite."""
    found = signals.nonfinite
    if found is None:
        return
    hidden = ", which an exact zero mask hides from the parameters on these inputs" if found.masked else ""
    yield Hit(
        found.site,
        f"{found.name} yields {found.what} in the {found.direction} pass{hidden}",
        fix="keep its argument away from the point where it or its derivative is infinite (add eps inside the root, "
        "clamp before log or division)",
        facts={"direction": found.direction, "op": found.name, "masked": found.masked},
        span=(found.op, *found.beside),
        modules=(found.site.module,),
        level=Level.WARNING if found.masked else Level.ERROR,
    )
