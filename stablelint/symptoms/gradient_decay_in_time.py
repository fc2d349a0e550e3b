"""SL908: a recurrent layer that forgets at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signal, Signals
from stablelint.signals.signals import near_threshold
from stablelint.symptoms.uncertainty import capped, facts, near


@rule(
    code="SL908", summary="a recurrent layer passes almost nothing of the gradient from one time step to the one before"
)
def gradient_decay_in_time(
    signals: Signals, *, error_below: float = 0.35, error_above: float = 3.0, heard_below: float = 0.1
) -> Iterator[Hit]:
    """Look at the factor per time step, and with ``--deep`` at how much of a long sequence is heard at all.

    PyTorch's defaults give 0.5 to 0.6 (gates near 1/2; recurrent weights of spectral radius 1/sqrt(3)). Below 0.35
    seven steps lose three decades: the layer sees no sequence. The least that trains in `scripts/calibrate.py` has
    0.58. A factor of 3 overflows float32 in 80 steps. With 0.6 the last 14 steps are heard: what a sequence of 200 can
    be told by those, it learns, so that is a warning, and for who asks.
    """
    for row in signals.rows:
        if row.retention is None or math.isnan(row.retention):
            continue
        threshold = error_below if row.retention < 1 else error_above
        doubt = near_threshold(row.retention, threshold, row.margins.get("retention"))
        if not error_below <= row.retention <= error_above or doubt is not None:
            yield _decay(signals, row, threshold, doubt)
        elif signals.deep is not None and row.steps_heard is not None and row.steps_heard < heard_below:
            yield _deaf(row)


def _decay(signals: Signals, row: Signal, threshold: float, doubt: float | None) -> Hit:
    retention = row.retention or 0.0
    verb = "keeps" if retention < 1 else "multiplies by"
    return Hit(
        row.site,
        f"{row.name} {verb} {retention:.1e} of the gradient per time step" + near(threshold, doubt, signals),
        fix="set the forget-gate bias to 1 or more (an LSTM's second quarter), or scale the recurrent weights "
        "to spectral radius 1",
        facts={"retention": retention, **facts(doubt)},
        span=(row.op,),
        modules=(row.site.module,),
        level=capped(Level.ERROR, doubt),
    )


def _deaf(row: Signal) -> Hit:
    return Hit(
        row.site,
        f"{row.steps_heard or 0:.0%} of the time steps of {row.name} get a thousandth or more of the largest gradient "
        f"({row.retention or 0:.2f} per step, coefficient of variation {row.step_variation or 0:.2g})",
        fix="if what is far back matters, set the forget-gate bias to 1 or more, start recurrent weights orthogonal, "
        "read the mean over time, or cut the sequence",
        facts={"steps_heard": row.steps_heard, "step_variation": row.step_variation, "retention": row.retention},
        span=(row.op,),
        modules=(row.site.module,),
        level=Level.WARNING,
    )
