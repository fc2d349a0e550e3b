"""The trunk of a measured model, one row for each block, with what was predicted beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from stablelint.report.numbers import number
from stablelint.report.table import natural_width, table
from stablelint.report.words import INDENT, Paint, wrap
from stablelint.signals import Signal
from stablelint.signals.comparison import Block, Comparison, Quantity
from stablelint.site import Site

_FULL = 8  # characters of the longest bar
_EIGHTHS = "▏▎▍▌▋▊▉"
_NUMBERS = {"block", "rms", "gradient", "predicted", "dead"}


def render_blocks(found: Comparison, width: int, paint: Paint, *, fine: bool) -> list[str]:
    """One row for each block of the trunk from input to output.

    The bar shows the gradient rms on a log scale from the smallest to the largest of the trunk; ``>`` marks the block
    at which the gradient breaks, ``!`` what was measured outside of the band of its prediction. The predicted rms is
    shown where there is room.
    """
    blocks = found.blocks
    if not blocks:
        return wrap("no trunk was found: nothing carries the signal from input to output", width)
    dead = _worst(found.measured.trunk)
    broken = found.measured.breaks
    at = None if broken is None else broken.signal.block
    place, cells = places([block.signal.site for block in blocks])
    columns = [
        ("block", [f"> {block.number}" if block.number == at else str(block.number) for block in blocks]),
        ("op", [block.signal.name for block in blocks]),
        ("module", [block.signal.site.module for block in blocks]),
        (place, cells),
        ("rms", _marked(blocks, "rms")),
        ("predicted", [_known(block.rms) for block in blocks]),
        ("gradient", _marked(blocks, "gradient")),
        ("predicted", [_known(block.gradient) for block in blocks]),
        ("", bars([block.signal.grad_rms for block in blocks], fine=fine)),
        ("dead", ["" if dead.get(block.number) is None else f"{dead[block.number]:.0%}" for block in blocks]),
    ]
    if not dead:
        del columns[9]
    if found.predicted is None:
        del columns[7], columns[5]
    elif len(INDENT) + natural_width(columns) > width:
        del columns[5]
    if len(INDENT) + natural_width(columns) > width and place != "place":
        columns[3] = ("line", cells)  # rather than a name of which only the end is left
    header = [name for name, _ in columns]
    right = {index for index, name in enumerate(header) if name in _NUMBERS}
    rows = list(zip(*(column for _, column in columns), strict=True))
    first, *lines = table(header, rows, width, paint, right=right, shrink=(3, 2, 1))
    painted = [
        paint(line, "warning") if block.number == at else line for block, line in zip(blocks, lines, strict=True)
    ]
    return ["", first, *painted]


def bars(values: Sequence[float | None], *, fine: bool = False) -> list[str]:
    """One bar for each value on a log scale; the smallest has one mark, zero and what is not finite have none.

    ``fine`` ones are drawn with block characters, to an eighth of a mark.
    """
    logs = [math.log10(value) if value is not None and 0 < value < math.inf else None for value in values]
    known = [log for log in logs if log is not None]
    if not known:
        return [""] * len(logs)
    low, high = min(known), max(known)
    span = max(high - low, 1.0)  # less than a decade is no slope to draw
    return ["" if log is None else _bar(1 - (high - log) / span, fine=fine) for log in logs]


def places(sites: Sequence[Site]) -> tuple[str, list[str]]:
    """The header of the column and its cells: lines where all sites are in one file, else file and line."""
    names = [PurePath(site.file).name if site.file else "" for site in sites]
    one = len(set(names) - {""}) == 1
    cells = [f"{'' if one else name}:{site.line}" if name else "" for name, site in zip(names, sites, strict=True)]
    return next(filter(None, names)) if one else "place", cells


def _bar(share: float, *, fine: bool) -> str:
    if not fine:
        return "#" * max(1, round(_FULL * share))
    full, rest = divmod(max(1, round(8 * _FULL * share)), 8)
    return "█" * full + _EIGHTHS[rest - 1 : rest]


def _marked(blocks: Sequence[Block], quantity: Quantity) -> list[str]:
    """Measured numbers, with a mark behind those off their prediction; the others keep its room to stay aligned."""
    room = " " if any(quantity in block.off for block in blocks) else ""
    cells = []
    for block in blocks:
        signal = block.signal
        value, finite = (signal.rms, signal.finite) if quantity == "rms" else (signal.grad_rms, signal.grad_finite)
        cells.append(f"{number(value) if finite else 'NaN/inf'}{'!' if quantity in block.off else room}")
    return cells


def _known(value: float | None) -> str:
    return "" if value is None else number(value)


def _worst(rows: Iterable[Signal]) -> dict[int | None, float]:
    """The largest share of dead units in each block."""
    worst: dict[int | None, float] = {}
    for row in rows:
        if row.dead is not None:
            worst[row.block] = max(row.dead, worst.get(row.block, 0.0))
    return worst
