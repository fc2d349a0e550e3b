"""SL910: NaN or infinity on zeros, duplicates, padding or large values."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals, Trigger


@rule(
    code="SL910",
    summary="a value or gradient becomes NaN or infinite on a batch that is unusual but occurs in real data",
    deep=True,
)
def non_finite_on_unusual_input(signals: Signals) -> Iterator[Hit]:
    """Report each op once, with all triggers that reach it.

    Large values and whole masks alone, a NaN that an exact zero hides, and what one optimiser step ends are notes.

    On a normal batch it is non-finite (SL903), which is an error; this is not tried again then.
    """
    groups: dict[tuple[int, str], list[Trigger]] = {}
    for trigger in () if signals.deep is None else signals.deep.triggers:
        groups.setdefault((trigger.op, trigger.direction), []).append(trigger)
    for found in groups.values():
        first = found[0]
        names = ", ".join(trigger.trigger for trigger in found)
        inputs = "" if first.low is None else f", from inputs between {first.low:.2g} and {first.high:.2g}"
        hidden = ", which an exact zero mask hides from the parameters" if first.masked else ""
        rare = all(trigger.masked or trigger.rare for trigger in found)
        yield Hit(
            first.site,
            f"{first.name} yields {first.what} in the {first.direction} pass on {names}{inputs}{hidden}",
            fix="keep its argument away from the point where it or its derivative is infinite (add eps inside the "
            "root, clamp before log or division), or keep such samples out of the data",
            facts={"triggers": names, "direction": first.direction, "op": first.name},
            span=(first.op,),
            modules=(first.site.module,),
            level=Level.NOTE if rare else Level.WARNING,
        )
