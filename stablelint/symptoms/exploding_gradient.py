"""SL902: small changes of a layer blow up on their way to the output."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.symptoms.uncertainty import capped, facts, near


@rule(code="SL902", summary="the gradient grows so much towards the first layers that no step size is stable")
def exploding_gradient(signals: Signals, *, error_above: float = 1e3, note_above: float = 10**2.5) -> Iterator[Hit]:
    """Look at the largest sensitivity along the trunk; the site is where it passes the threshold.

    A relative weight change of 1e-3, one Adam step of a usual size, then moves the output by its healthy size. Of
    the networks of `scripts/calibrate.py` one that trains lies above 1e3, against 13 that do not; released
    architectures stay below 10**2.3.
    """
    trunk = [row for row in signals.trunk if row.sensitivity is not None]
    finite = [row for row in trunk if math.isfinite(row.sensitivity or 0.0)]
    if not trunk or (not finite and signals.nonfinite is not None):
        return
    overflowed = len(finite) < len(trunk) and signals.nonfinite is None
    largest = max((row.sensitivity or 0.0 for row in finite), default=math.inf)
    strongest = next(row for row in trunk if (row.sensitivity or 0.0) == largest) if finite else trunk[0]
    doubt = None if overflowed else signals.doubt(strongest, largest, error_above)
    if largest <= note_above and not overflowed and doubt is None:
        return
    # where the gradient itself passes the threshold on its way back; a stream that only grows forward is as
    # sensitive at its end as at its start
    last = next((row.grad_rms for row in reversed(trunk) if row.grad_rms), None) or 1.0
    grown = (row for row in reversed(trunk) if (row.grad_rms or 0.0) > note_above * last)
    first = next(grown, strongest)
    ratio, growth = signals.gradient_ratio, signals.growth_per_block
    tail = "" if ratio is None or growth is None else f"; gradient first/last block {ratio:.1e}, {growth:.2g} per block"
    level = Level.ERROR if largest > error_above or overflowed else Level.NOTE
    yield Hit(
        first.site,
        f"changing {strongest.label} by 1% of its own size moves the model's output by {largest / 100:.1e}{tail}"
        + near(error_above, doubt, signals),
        fix="scale the weights or the residual branches down, or normalise",
        facts={
            "sensitivity": largest,
            "gradient_ratio": ratio,
            "growth_per_block": growth,
            "depth": signals.depth,
            **facts(doubt),
        },
        span=(trunk[0].op, trunk[-1].op),
        modules=(first.site.module,),
        level=capped(level, doubt),
    )
