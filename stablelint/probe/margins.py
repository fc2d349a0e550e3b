"""How sure the means over several draws are (:mod:`stablelint.signals.interval`)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from stablelint.signals import Signal, Signals
from stablelint.signals.interval import DECADES, RETENTION, SHARE, half_width
from stablelint.signals.saturation import hidden, open_ways

if TYPE_CHECKING:
    from stablelint.probe.aggregate import Pass

#: The share of draws with a 0 from which on it is not by chance that one has none.
_DEAD = 0.9


def with_margins(
    passes: Sequence[Pass], rows: list[Signal], alone: Sequence[Signals]
) -> tuple[list[Signal], dict[str, float]]:
    """``rows`` with their margins, and those of the model; ``alone`` are the trunks of the single passes.

    An op of the trunk that not all passes looked at gets the margin of the next one that they did.
    """
    sensitivities = _sensitivities(alone)
    seen = sorted(sensitivities)
    found = []
    for row in rows:
        margins = _of_readings(row, passes)
        if seen and row.block is not None:
            margins["sensitivity"] = sensitivities[seen[min(bisect_left(seen, row.op), len(seen) - 1)]]
        found.append(replace(row, margins=margins))
    return found, _of_model(passes, alone)


def _sensitivities(alone: Sequence[Signals]) -> dict[int, float]:
    """The margin of each op of the trunk whose sensitivity is known in every pass; none where it is always 0."""
    tables = [{row.op: row.sensitivity for row in signals.rows if row.sensitivity is not None} for signals in alone]
    common = set(tables[0]).intersection(*tables[1:])
    margins = {op: _log_width([table[op] for table in tables]) for op in common}
    return {op: margin for op, margin in margins.items() if margin is not None}


def _of_readings(row: Signal, passes: Sequence[Pass]) -> dict[str, float]:
    readings = [run.readings[row.op] for run in passes if row.op in run.readings]
    margins = {}
    for name in ("dead", "saturated", "peak"):
        shares = [value for reading in readings if (value := getattr(reading, name)) is not None]
        centre = fmean(shares) if shares else 0.0
        # the binomial variance vanishes at both ends
        margins[name] = half_width(shares, SHARE * min(20 * centre * (1 - centre), 1) + 1e-4)
    factors = [each.retention for each in readings if each.retention is not None]
    margins["retention"] = _log_width(factors, RETENTION)
    return {name: margin for name, margin in margins.items() if margin is not None}


def _of_model(passes: Sequence[Pass], alone: Sequence[Signals]) -> dict[str, float]:
    depth = max(signals.depth for signals in alone)
    slope = DECADES * math.log(10) / max(depth - 1, 1)  # one decade over all blocks
    margins = {
        "discrimination": _log_width([run.kernel.discrimination for run in passes if run.kernel is not None]),
        "open": _open_width(alone),
        "gradient_exponent": half_width([x for one in alone if (x := one.gradient_exponent) is not None], slope),
        "angle_exponent": half_width([x for one in alone if (x := one.angle_exponent) is not None], slope),
    }
    return {name: margin for name, margin in margins.items() if margin is not None}


def _open_width(alone: Sequence[Signals]) -> float | None:
    """The margin of what squashing functions leave open, over those that all passes looked at."""
    common = set.intersection(*({row.op for row in hidden(signals.trunk)} for signals in alone))
    if not common:
        return None
    return _log_width([open_ways(row for row in hidden(one.trunk) if row.op in common) for one in alone])


def _log_width(values: Sequence[float], prior: float = DECADES) -> float | None:
    """In decades; infinite where some values are 0 and some are not, None where (nearly) all are."""
    if sum(value == 0 for value in values) >= _DEAD * len(values):
        return None
    return half_width([math.log10(value) if value > 0 else -math.inf for value in values], prior)
