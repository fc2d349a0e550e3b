"""The measurements of one model as tables: the trunk block by block, its attention, parameters without gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from stablelint.report.deep import render_deep
from stablelint.report.numbers import count, number
from stablelint.report.table import table
from stablelint.report.text import signal_words
from stablelint.report.words import Paint, modules, plain, wrap
from stablelint.signals import Signal, Signals
from stablelint.site import Site

_FULL = 10  # characters of the longest bar


def render_signals(name: str, signals: Signals, width: int = 80, colour: bool = False) -> str:
    """What was measured: first the summary, then one row for each block of the trunk from input to output.

    The bar shows the gradient rms on a log scale from the smallest to the largest of the trunk; ``>`` marks the block
    at which the gradient breaks.
    """
    paint = Paint(colour)
    summary = " · ".join([f"{plain(name)}: {count(signals.seeds, 'seed')}", *signal_words(signals.summary())])
    lines = [paint(line, "place") for line in wrap(summary, width, first="")]
    lines += wrap(" · ".join(_learning(signals)), width)
    if signals.nonfinite is not None:
        broken = signals.nonfinite
        text = f"first {broken.what} of the {broken.direction} pass: {broken.name} at {broken.site}"
        lines += [paint(line, "error") for line in wrap(text, width)]
    lines += _trunk(signals, width, paint)
    lines += _attention(signals.rows, width, paint)
    lines += _without_gradient(signals, width, paint)
    lines += render_deep(signals.deep, width, paint)
    return "".join(f"{line}\n" for line in lines)


def _learning(signals: Signals) -> Iterator[str]:
    """What the gradients of single samples say about the first steps of training."""
    if signals.discrimination is not None:
        yield f"different samples: {number(signals.discrimination)} of the gradient"
    if signals.sharpness:
        yield f"plain gradient descent needs steps below {number(1 / signals.sharpness)}"
    if signals.awakened:
        yield f"{count(signals.awakened, 'zero-initialised parameter')} moved along the gradient first"


def _trunk(signals: Signals, width: int, paint: Paint) -> list[str]:
    blocks = list(signals.blocks())
    if not blocks:
        return wrap("no trunk was found: nothing carries the signal from input to output", width)
    grads = [signal.grad_rms for _, signal in blocks]
    dead = _worst(signals.trunk)
    broken = signals.breaks
    place, places = _places([signal.site for _, signal in blocks])
    rows = [
        [
            f"> {block}" if broken is not None and block == broken.signal.block else str(block),
            signal.name,
            signal.site.module,
            where,
            _value(signal.rms, signal.finite),
            _value(signal.grad_rms, signal.grad_finite),
            bar,
            "" if dead.get(block) is None else f"{dead[block]:.0%}",
        ]
        for (block, signal), where, bar in zip(blocks, places, bars(grads), strict=True)
    ]
    header = ["block", "op", "module", place, "rms", "gradient", "", "dead"]
    if not dead:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return ["", *table(header, rows, width, paint, right={0, 4, 5, 7}, shrink=(2, 3, 1))]


def _attention(signals: Iterable[Signal], width: int, paint: Paint) -> list[str]:
    found = [signal for signal in signals if signal.peak is not None]
    place, places = _places([signal.site for signal in found])
    rows = [
        [
            signal.site.module or signal.name,
            where,
            number(signal.peak),
            number(signal.uniform_peak),
            number(signal.entropy),
        ]
        for signal, where in zip(found, places, strict=True)
    ]
    header = ["attention", place, "peak", "uniform", "entropy"]
    return ["", *table(header, rows, width, paint, right={2, 3, 4}, shrink=(0, 1))] if rows else []


def _without_gradient(signals: Signals, width: int, paint: Paint) -> list[str]:
    names = [parameter.name for parameter in signals.parameters if not parameter.grad_rms]
    if not names:
        return []
    subject = names[0] if len(names) == 1 else modules(names).replace("modules)", "parameters)")
    return ["", *(paint(line, "warning") for line in wrap(f"no gradient: {subject}", width, first=""))]


def bars(values: Sequence[float | None]) -> list[str]:
    """One bar for each value on a log scale; the smallest has one mark, zero and what is not finite have none."""
    logs = [math.log10(value) if value is not None and 0 < value < math.inf else None for value in values]
    known = [log for log in logs if log is not None]
    if not known:
        return [""] * len(logs)
    low, high = min(known), max(known)
    span = max(high - low, 1.0)  # less than a decade is no slope to draw
    return ["" if log is None else "#" * max(1, round(_FULL * (1 - (high - log) / span))) for log in logs]


def _worst(rows: Iterable[Signal]) -> dict[int | None, float]:
    """The largest share of dead units in each block."""
    worst: dict[int | None, float] = {}
    for row in rows:
        if row.dead is not None:
            worst[row.block] = max(row.dead, worst.get(row.block, 0.0))
    return worst


def _value(value: float | None, finite: bool) -> str:
    return number(value) if finite else "NaN/inf"


def _places(sites: Sequence[Site]) -> tuple[str, list[str]]:
    """The header of the column and its cells: lines where all sites are in one file, else file and line."""
    names = [PurePath(site.file).name if site.file else "" for site in sites]
    one = len(set(names) - {""}) == 1
    cells = [f"{'' if one else name}:{site.line}" if name else "" for name, site in zip(names, sites, strict=True)]
    return next(filter(None, names)) if one else "place", cells
