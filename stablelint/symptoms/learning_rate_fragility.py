"""SL909: few or no learning rates at which the loss falls."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import LEARNED, Signal, Signals


@rule(
    code="SL909",
    summary="a few optimiser steps tell the samples of one batch apart at one of the usual learning rates or at none",
    deep=True,
)
def learning_rate_fragility(
    signals: Signals,
    *,
    least_progress: float = LEARNED,
    least_drop: float = 0.02,
    warning_up_to: int = 2,
    own_warning_up_to: int = 1,
) -> Iterator[Hit]:
    """Count the rates at which the fits of :class:`stablelint.signals.Learning` learn, and at which they are lost.

    A fit that is on its way and too slow for the steps counts neither way, and most must be lost.
    With the model's own loss there is no loss of knowing nothing; a relative fall of ``least_drop`` is then enough, and
    fewer settings, for it also asks for what all samples have in common, which large steps overshoot.
    """
    learning = None if signals.deep is None else signals.deep.learning
    if learning is None or not learning.fits:
        return
    learned = learning.learned(least_drop if learning.own_loss else least_progress)
    lost = [fit for fit in learning.fits if fit not in learned and not learning.slow(fit)]
    enough = own_warning_up_to if learning.own_loss else warning_up_to
    if len(learned) > enough or 2 * len(lost) <= len(learning.fits):
        return
    best = max(learning.fits, key=learning.progress)
    tried = ", ".join(fit.label for fit in learning.fits)
    nothing = "its first value" if learning.own_loss else "that of the best answer that is the same for all samples"
    where = f"only {' and '.join(fit.label for fit in learned)} of" if learned else "none of"
    place = _place(signals)
    yield Hit(
        place.site,
        f"{where} {len(learning.fits)} settings ({tried}) bring the loss of {learning.steps} steps on one batch below "
        f"{nothing}; {best.label} takes away most, {learning.progress(best):.0%}",
        fix="look at what the other findings say of the gradient; put the norm before the layer, scale the branches "
        "down with depth, or warm the rate up",
        facts={"learned": len(learned), "settings": len(learning.fits), "best": learning.best},
        span=tuple(row.op for row in signals.trunk),
        modules=(place.site.module,),
        level=Level.WARNING if learned else Level.ERROR,
    )


def _place(signals: Signals) -> Signal:
    """Where the gradient breaks, else where the samples come together, else the end of the trunk."""
    if signals.breaks is not None:
        return signals.breaks.signal
    alike = [row for row in signals.trunk if row.similarity is not None and row.similarity > 0.99]
    return alike[0] if alike else (signals.trunk or signals.rows)[-1]
