"""Where a measurement and its prediction begin to disagree."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from stablelint.report.numbers import count, number
from stablelint.report.words import INDENT, Paint, plain, wrap
from stablelint.signals.comparison import Comparison, Surprise
from stablelint.site import Site

_SHOWN = 8


def render_surprises(found: Comparison, width: int, paint: Paint) -> list[str]:
    """One entry for each place where a disagreement begins; nothing without a prediction."""
    if found.predicted is None:
        return []
    if not found.surprises:
        words = "measured and predicted agree, within the spread of the prediction and of the seeds"
        return ["", *(paint(line, "dim") for line in wrap(words, width))]
    head = "here the model or its prediction surprises (! marks the blocks behind):"
    lines = ["", *(paint(line, "warning") for line in wrap(head, width))]
    for each in found.surprises[:_SHOWN]:
        lines += wrap(surprise_words(each, width), width, rest=2 * INDENT)
    if len(found.surprises) > _SHOWN:
        lines += wrap(f"and {count(len(found.surprises) - _SHOWN, 'more place')} (--format json has all)", width)
    return lines


def surprise_data(surprise: Surprise) -> dict[str, Any]:
    """The same for programs."""
    site = surprise.cause.site
    return {
        "quantity": surprise.quantity,
        "op": surprise.cause.name,
        "file": site.file,
        "line": site.line,
        "column": site.column,
        "module": site.module,
        "place": surprise.cause.place,
        "measured": surprise.measured,
        "predicted": surprise.predicted,
        "low": surprise.low,
        "high": surprise.high,
        "places": surprise.places,
        "rule_known": not surprise.guessed,
    }


def surprise_words(surprise: Surprise, width: int = 240) -> str:
    """One sentence; ``width`` is that of the line, from which the length of its path follows."""
    cause = surprise.cause
    if surprise.quantity == "rms":
        verb = "has rms"
    else:
        verb = "gets a gradient of" if cause.op == surprise.signal.op else "hands back a gradient of"
    numbers = f"{number(surprise.measured)}, predicted {number(surprise.predicted)}"
    band = f"({number(surprise.low)} to {number(surprise.high)})"
    more = f", at {surprise.places} such sites" if surprise.places > 1 else ""
    guess = "; the prediction has no rule for this op" if surprise.guessed else ""
    return f"{_place(cause.site, width)} {plain(cause.label)} {verb} {numbers} {band}{more}{guess}"


def _place(site: Site, width: int) -> str:
    """File and line; of a path that is longer than half a line only the file's name."""
    if len(str(site)) <= width // 2 or site.file is None:
        return str(site)
    return str(Site(site.module, PurePath(site.file).name, site.line, site.column))
