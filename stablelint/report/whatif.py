"""How the signals of a target scale with one argument, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stablelint.finding import Fact, Point, Sweep
from stablelint.report.numbers import exponent, number
from stablelint.report.table import table
from stablelint.report.words import INDENT, Paint, shorten, wrap

_COLUMNS = ("blocks", "H", "gradient", "angle", "least", "most", "worst finding")
_NAME = 8  # characters of the argument above its values; the line in front of the table has all of it
_LEGEND = (
    "predicted. H: decades of the gradient, first over last block; gradient, angle: exponents per block; least, most: "
    "how far the output moves when an op of the trunk changes by its own size"
)


def render_sweeps(sweeps: Sequence[Sweep], width: int = 80, colour: bool = False) -> list[str]:
    """One table for each sweep with a row for each value, and an explanation of the columns."""
    paint = Paint(colour)
    lines: list[str] = []
    told = [sweep for sweep in sweeps if any(point.signals is not None for point in sweep.points)]
    last = told[-1] if told else None
    for sweep in sweeps:
        name = f"what if {sweep.argument}"
        present = f" (now {sweep.present})" if sweep.present is not None else ""
        reason = f": {sweep.reason}" if sweep.reason else ""
        lines += [*wrap(f"{name}{present}{reason}", width, first=""), *_rows(sweep, width, paint)]
        if sweep is last:
            lines += [paint(line, "dim") for line in wrap(_LEGEND, width)]
        lines.append("")
    return lines


def _rows(sweep: Sweep, width: int, paint: Paint) -> list[str]:
    if not sweep.points:
        return []
    argument = shorten(sweep.argument.rpartition(".")[2], _NAME)
    cells = [_cells(point) for point in sweep.points]
    header, *lines = table([argument, *_COLUMNS], cells, width, paint, right=set(range(7)), shrink=(7,))
    room = max(len(row[0]) for row in ([argument], *cells))
    rows = [header]
    for point, line in zip(sweep.points, lines, strict=True):
        if point.reason is None:
            rows.append(line)
            continue
        indent = f"{INDENT}{'':{room}}  "
        rows += wrap(point.reason, width, first=f"{INDENT}{point.value:>{room}}  ", rest=indent)
    return rows


def _cells(point: Point) -> list[str]:
    if point.signals is None:
        return [str(point.value), *[""] * 7]
    facts = point.signals
    depth, ratio, gradient, angle, least, most = (
        _float(facts.get(name))
        for name in (
            "depth",
            "gradient_ratio",
            "gradient_exponent",
            "angle_exponent",
            "least_sensitivity",
            "most_sensitivity",
        )
    )
    more = f" +{len(point.codes) - 1}" if len(point.codes) > 1 else ""
    worst = "none" if point.level is None else f"{point.level} {' '.join(point.codes[:1])}{more}"
    return [
        str(point.value),
        "?" if depth is None else f"{depth:.0f}",
        _decades(ratio),
        exponent(gradient),
        exponent(angle),
        number(least),
        number(most),
        worst,
    ]


def _decades(ratio: float | None) -> str:
    """log10 with its sign: ``-16.8``."""
    if ratio is None:
        return "?"
    return "-inf" if ratio <= 0 else f"{round(math.log10(ratio), 2) + 0.0:+.2f}"


def _float(fact: Fact) -> float | None:
    return float(fact) if isinstance(fact, (int, float)) else None
