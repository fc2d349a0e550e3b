"""SL908: a recurrent layer that forgets at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.signals.signals import near as near_mean
from stablelint.symptoms.uncertainty import capped, facts, near


@rule(
    code="SL908", summary="a recurrent layer passes almost nothing of the gradient from one time step to the one before"
)
def gradient_decay_in_time(signals: Signals, *, error_below: float = 0.35, error_above: float = 3.0) -> Iterator[Hit]:
    """Look at the factor per time step.

    PyTorch's defaults give 0.5 to 0.6 (gates near 1/2; recurrent weights of spectral radius 1/sqrt(3)). Below 0.35
    seven steps lose three decades: the layer sees no sequence. The least that trains in `scripts/calibrate.py` has
    0.58. A factor of 3 overflows float32 in 80 steps.
    """
    for row in signals.rows:
        if row.retention is None or math.isnan(row.retention):
            continue
        threshold = error_below if row.retention < 1 else error_above
        doubt = near_mean(row.retention, threshold, row.margins.get("retention"))
        if error_below <= row.retention <= error_above and doubt is None:
            continue
        verb = "keeps" if row.retention < 1 else "multiplies by"
        yield Hit(
            row.site,
            f"{row.name} {verb} {row.retention:.1e} of the gradient per time step" + near(threshold, doubt, signals),
            fix="set the forget-gate bias to 1 or more (an LSTM's second quarter), or scale the recurrent weights "
            "to spectral radius 1",
            facts={"retention": row.retention, **facts(doubt)},
            span=(row.op,),
            modules=(row.site.module,),
            level=capped(Level.ERROR, doubt),
        )
