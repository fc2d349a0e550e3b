"""SL901: the output no longer hears the first layers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signal, Signals
from stablelint.symptoms.uncertainty import capped, facts, near


@rule(code="SL901", summary="the gradient that reaches the first layers is too small to train them")
def vanishing_gradient(signals: Signals, *, error_below: float = 1e-5, note_below: float = 1e-3) -> Iterator[Hit]:
    """Look at the smallest sensitivity along the trunk; the site is where it falls below the threshold.

    The first default comes from `scripts/calibrate.py`: of its networks below 1e-5 none trains within a few hundred
    steps at any of six settings on both seeds; up to 1e-4 most train only slowly and with Adam. Released
    architectures stay above 10**-2.1.
    """
    trunk = [row for row in signals.trunk if row.sensitivity is not None and math.isfinite(row.sensitivity)]
    if not trunk:
        return
    weakest = min(trunk, key=lambda row: row.sensitivity or 0.0)
    least = weakest.sensitivity or 0.0
    doubt = signals.doubt(weakest, least, error_below)
    if least >= note_below and doubt is None:
        return
    start = trunk.index(weakest)
    after = trunk[start:]
    # on the way back from the output: the last op that the output still hears, and the first that it does not
    first = next((row for row in reversed(after) if (row.sensitivity or 0.0) < note_below), weakest)
    level = Level.ERROR if least < error_below else Level.NOTE
    yield Hit(
        first.site,
        _message(signals, weakest, trunk[-1]) + near(error_below, doubt, signals),
        fix="shorten the path that has no skip, rescale the weights, or add normalisation",
        facts={
            "sensitivity": least,
            "gradient_ratio": signals.gradient_ratio,
            "growth_per_block": signals.growth_per_block,
            "depth": signals.depth,
            **facts(doubt),
        },
        span=(weakest.op, trunk[-1].op),
        modules=(first.site.module,),
        level=capped(level, doubt),
    )


def _message(signals: Signals, weakest: Signal, last: Signal) -> str:
    if not weakest.sensitivity:
        return f"no gradient reaches {weakest.label}: it is exactly 0"
    ratio, growth = signals.gradient_ratio, signals.growth_per_block
    tail = "" if ratio is None or growth is None else f"; gradient first/last block {ratio:.1e}, {growth:.2g} per block"
    return (
        f"changing {weakest.label} by its own size moves the model's output by {weakest.sensitivity:.1e} "
        f"({last.label}: {last.sensitivity or 0:.1e}){tail}"
    )
