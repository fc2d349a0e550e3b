"""What a symptom says when its threshold lies within the band of a prediction, or too near to the mean of few draws."""

from __future__ import annotations

import math

from stablelint.finding import Fact, Level
from stablelint.signals import Signals


def near(threshold: float, doubt: float | None, signals: Signals) -> str:
    """The end of a message; ``doubt`` is the factor of :meth:`stablelint.signals.Signals.doubt`."""
    if doubt is None:
        return ""
    if signals.source == "measured":
        if doubt == math.inf:
            return f"; undecided: of {signals.seeds} draws some are exactly 0 or not finite and some are not"
        return (
            f"; undecided: the mean of {signals.seeds} draws is known within a factor of {doubt:.2g}, and the "
            f"threshold {threshold:.2g} is in there"
        )
    return (
        f"; the threshold {threshold:.0e} lies within the uncertainty of the prediction, a factor of {doubt:.2g} each "
        "way: --probe measures"
    )


def near_share(threshold: float, doubt: float | None, signals: Signals) -> str:
    """The same for a share, which is known within ``doubt``."""
    if doubt is None:
        return ""
    return (
        f"; undecided: the mean of {signals.seeds} draws is known within {doubt:.2g}, and the threshold {threshold:g} "
        "is in there"
    )


def within(value: float, threshold: float, margin: float | None) -> float | None:
    """``margin``, if ``threshold`` is no farther than that from ``value``."""
    return margin if margin is not None and abs(value - threshold) < margin else None


def capped(level: Level, doubt: float | None) -> Level:
    """No error where another network that is drawn in the same way may well lie on the other side."""
    return level if doubt is None else min(level, Level.WARNING)


def facts(doubt: float | None) -> dict[str, Fact]:
    """The fact that a hit is undecided, and by how much."""
    return {} if doubt is None else {"uncertainty": doubt}
