"""What a symptom says when its threshold lies within the band of a prediction."""

from __future__ import annotations

from stablelint.finding import Level


def near(threshold: float, doubt: float | None) -> str:
    """The end of a message; ``doubt`` is the factor of :meth:`stablelint.signals.Signal.doubt`."""
    if doubt is None:
        return ""
    return (
        f"; the threshold {threshold:.0e} lies within the uncertainty of the prediction, a factor of {doubt:.2g} each "
        "way: --probe measures"
    )


def capped(level: Level, doubt: float | None) -> Level:
    """No error where another network that is drawn in the same way may well lie on the other side."""
    return level if doubt is None else min(level, Level.WARNING)
