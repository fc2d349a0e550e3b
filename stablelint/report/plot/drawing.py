"""The panels of one model as an inline drawing (SVG), for the page: no library and no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TypeVar

from stablelint.report.numbers import number
from stablelint.report.plot.curves import Curves, Panel, ticks

#: Sizes in pixels of a drawing that is 960 wide: margins, the two panels and the room for names below.
_WIDTH, _LEFT, _RIGHT, _TOP, _GAP, _BELOW = 960, 64, 16, 24, 34, 112
_HEIGHTS = (260, 160)
_NAMES = 44  # block names that fit side by side

Scale = Callable[[float], float]
_Value = TypeVar("_Value")


def draw(model: Curves) -> str:
    """Gradient rms above activation rms, on log axes over the blocks; columns name their numbers under the pointer."""
    height = _TOP + sum(_HEIGHTS) + _GAP + _BELOW
    tops = (_TOP, _TOP + _HEIGHTS[0] + _GAP)
    bottom = tops[1] + _HEIGHTS[1]
    across = _across(len(model.blocks))
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(model.name)}: signal by block">']
    for panel, top, tall in zip((model.gradient, model.rms), tops, _HEIGHTS, strict=True):
        parts += _panel(panel, across, top, tall)
    parts += _break(model, across, bottom)
    for index in ticks(len(model.labels), _NAMES):
        x, y = _place(across(index)), bottom + 12
        turned = f'x="{x}" y="{y}" text-anchor="end" transform="rotate(-55 {x} {y})"'
        parts.append(f"<text {turned}>{escape(model.labels[index])}</text>")
    parts += _columns(model, across, bottom)
    return "\n".join([*parts, "</svg>"])


def _across(length: int) -> Scale:
    room = _WIDTH - _LEFT - _RIGHT
    return lambda index: _LEFT + room * (index + 0.5) / max(length, 1)


def _panel(panel: Panel, across: Scale, top: float, tall: float) -> Iterator[str]:
    low, high = panel.range

    def up(value: float) -> float:
        return top + tall * (high - math.log10(value)) / (high - low)

    yield f'<text class="name" x="{_LEFT}" y="{top - 8}">{panel.title}</text>'
    for exponent in _decades(low, high):
        y = _place(up(10.0**exponent))
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y}" dy="0.35em" text-anchor="end">{_decade(exponent)}</text>'
    yield f'<path class="axis" fill="none" d="M{_LEFT} {top}V{top + tall}H{_WIDTH - _RIGHT}"/>'
    for run in _runs(panel.band):
        edge = [(index, pair[1]) for index, pair in run] + [(index, pair[0]) for index, pair in reversed(run)]
        yield f'<path class="band" d="{_line([(across(index), up(value)) for index, value in edge])}Z"/>'
    for points in _runs(panel.predicted):
        yield f'<path class="predicted" d="{_line([(across(index), up(value)) for index, value in points])}"/>'
    size = 3.5 if len(panel.measured) <= 60 else 2.4
    for index, value in enumerate(panel.measured):
        if value is None:
            continue
        x, ends = _place(across(index)), panel.bars[index]
        if ends is not None:
            yield f'<line class="bar" x1="{x}" x2="{x}" y1="{_place(up(ends[0]))}" y2="{_place(up(ends[1]))}"/>'
        yield f'<circle class="measured" cx="{x}" cy="{_place(up(value))}" r="{size}"/>'
        if index in panel.off:
            yield f'<circle class="off" cx="{x}" cy="{_place(up(value))}" r="{size + 3}"/>'
    for index in panel.zeros:
        yield f'<text class="edge" x="{_place(across(index))}" y="{top + tall - 4}" text-anchor="middle">0</text>'
    for index in panel.infinite:
        yield f'<text class="edge" x="{_place(across(index))}" y="{top + 12}" text-anchor="middle">&#8734;</text>'


def _break(model: Curves, across: Scale, bottom: float) -> Iterator[str]:
    if model.breaks is None:
        return
    x = across(model.breaks)
    side, beside = ("end", x - 6) if x > _WIDTH / 2 else ("start", max(x + 6, _LEFT + 90))  # right of the title
    yield f'<line class="break" x1="{_place(x)}" x2="{_place(x)}" y1="{_TOP}" y2="{bottom}"/>'
    yield f'<text x="{_place(beside)}" y="{_TOP - 8}" text-anchor="{side}">{escape(model.break_words)}</text>'


def _columns(model: Curves, across: Scale, bottom: float) -> Iterator[str]:
    """What the pointer meets: the whole height of each block, with its numbers as title."""
    wide = across(1) - across(0)
    for index, (block, label) in enumerate(zip(model.blocks, model.labels, strict=True)):
        signal = block.signal
        words = [f"{label} ({signal.label})", str(signal.site) if signal.site.file else ""]
        for what, value, predicted, finite in (
            ("gradient rms", signal.grad_rms, block.gradient, signal.grad_finite),
            ("activation rms", signal.rms, block.rms, signal.finite),
        ):
            beside = "" if predicted is None else f", predicted {number(predicted)}"
            words.append(f"{what} {number(value) if finite else 'NaN/inf'}{beside}")
        title = escape("\n".join(filter(None, words)))
        place = f'x="{_place(across(index) - wide / 2)}" y="{_TOP}" width="{_place(wide)}" height="{bottom - _TOP}"'
        yield f'<rect class="column" {place}><title>{title}</title></rect>'


def _decades(low: float, high: float) -> list[int]:
    """At most eight whole decades within the range."""
    step = max(math.ceil((high - low) / 8), 1)
    return [exponent for exponent in range(math.ceil(low), math.floor(high) + 1) if exponent % step == 0]


def _decade(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -2 <= exponent <= 2 else f"1e{exponent}"


def _runs(values: Sequence[_Value | None]) -> Iterator[list[tuple[int, _Value]]]:
    """Neighbours that are known, with their places."""
    run: list[tuple[int, _Value]] = []
    for index, value in enumerate([*values, None]):
        if value is not None:
            run.append((index, value))
        elif run:
            yield run
            run = []


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_place(x)} {_place(y)}" for x, y in points)


def _place(value: float) -> str:
    return f"{value:.1f}"
