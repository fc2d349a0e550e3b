"""How numbers read in reports for people."""

from __future__ import annotations

import math


def number(value: float | None) -> str:
    """Two significant digits: ``0.70``, ``12``, ``340``, ``2.1e-04``, ``1.3e+05``; ``?`` for what is not known."""
    if value is None:
        return "?"
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    rounded = f"{value:.1e}"
    exponent = int(rounded.partition("e")[2])
    if not -2 <= exponent <= 2:
        return rounded
    return f"{float(rounded):.{max(0, 1 - exponent)}f}"


def exponent(value: float | None) -> str:
    """A growth per block with sign and three decimals: ``-1.386``, ``+0.192``, ``0.000``; ``?`` if not known."""
    if value is None:
        return "?"
    rounded = round(value, 3)
    return f"{rounded:+.3f}" if rounded else "0.000"


def count(amount: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
