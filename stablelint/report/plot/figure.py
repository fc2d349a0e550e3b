"""The figure as png or svg, drawn by matplotlib, which is imported here and nowhere else."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from stablelint.report.plot.curves import BREAK, MEASURED, PREDICTED, Curves, Panel, ticks

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "svg.hashsalt": "stablelint",  # no new identifiers in every run
    "svg.fonttype": "none",  # text stays text
}
_HEIGHT = 5.4  # inches of one model
_PIXELS = 60_000  # that a picture may be high
_LABELS = 34  # block names that fit side by side into a figure of full width


def render_figure(models: Sequence[Curves], kind: str) -> bytes:
    """One figure with a pair of panels for each model: gradient rms above activation rms, over the blocks."""
    written = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a font that has no glyph for some letter of a name
        figure = draw(models)
        dots = min(150, _PIXELS / figure.get_figheight())
        figure.savefig(written, format=kind, dpi=dots, metadata={"Date": None} if kind == "svg" else None)
    return written.getvalue()


def draw(models: Sequence[Curves]) -> Figure:
    """The figure itself."""
    width = min(max(7.0, 4.0 + 0.2 * max((len(model.blocks) for model in models), default=0)), 11.0)
    figure = Figure(figsize=(width, _HEIGHT * max(len(models), 1)), layout="constrained")
    parts = figure.subfigures(max(len(models), 1), 1, squeeze=False)
    for part, model in zip(parts[:, 0], models, strict=False):
        _model(part, model, width)
    return figure


def _model(part: Any, model: Curves, width: float) -> None:
    upper, lower = part.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    part.suptitle(_words(model.name), fontsize=11, fontweight="bold")
    first, *rest = model.facts
    upper.set_title(f"{first} · {rest[0]}\n{' · '.join(rest[1:])}", fontsize=8, color="#555555")
    for axes, panel in ((upper, model.gradient), (lower, model.rms)):
        _panel(axes, panel, model)
    _break(upper, lower, model)
    named = {
        name: mark for axes in (lower, upper) for mark, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if named:
        upper.legend(named.values(), named.keys(), loc="best", fontsize=8, framealpha=0.8, edgecolor="none")
    chosen = ticks(len(model.labels), int(_LABELS * width / 11))
    lower.set_xticks(
        chosen,
        [_words(model.labels[index]) for index in chosen],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=7,
    )
    lower.set_xlim(-0.7, max(len(model.blocks) - 0.3, 0.7))
    lower.set_xlabel("block, from input to output")


def _panel(axes: Any, panel: Panel, model: Curves) -> None:
    places = range(len(panel.measured))
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter("")
    axes.set_ylabel(panel.title)
    axes.grid(visible=True, axis="y", color="#000000", alpha=0.08, lw=0.6)
    axes.set_ylim(*(10.0**end for end in panel.range))
    low, high = ([math.nan if pair is None else pair[end] for pair in panel.band] for end in (0, 1))
    if any(pair is not None for pair in panel.band):
        axes.fill_between(places, low, high, color=PREDICTED, alpha=0.18, lw=0, label="predicted: nine of ten networks")
    if any(value is not None for value in panel.predicted):
        alone = "_" if len(panel.predicted) == 1 else None
        axes.plot(places, _gaps(panel.predicted), color=PREDICTED, lw=1.4, marker=alone, ms=16, label="predicted")
    small = 4.0 if len(panel.measured) <= 40 else 2.6
    bars = [(index, pair) for index, pair in enumerate(panel.bars) if pair is not None]
    axes.vlines(
        [index for index, _ in bars],
        [pair[0] for _, pair in bars],
        [pair[1] for _, pair in bars],
        color=MEASURED,
        lw=1.0,
    )
    words = f"measured, {model.seeds} seeds (bars: one standard deviation)" if bars else "measured"
    axes.plot(places, _gaps(panel.measured), "o", ms=small, color=MEASURED, label=words)
    ringed = [(index, panel.measured[index]) for index in panel.off if panel.measured[index] is not None]
    if ringed:
        ring = {"ms": small + 4, "mfc": "none", "mec": "#000000", "mew": 0.8}
        axes.plot(*zip(*ringed, strict=True), "o", label="three standard deviations off", **ring)
    edge = axes.get_xaxis_transform()
    if panel.zeros:
        axes.plot(panel.zeros, [0.05] * len(panel.zeros), "v", ms=5, color=MEASURED, transform=edge, label="measured 0")
    if panel.infinite:
        axes.plot(
            panel.infinite, [0.95] * len(panel.infinite), "x", ms=5, color=MEASURED, transform=edge, label="not finite"
        )


def _break(upper: Any, lower: Any, model: Curves) -> None:
    if model.breaks is None:
        return
    for axes in (upper, lower):
        axes.axvline(
            model.breaks,
            color=BREAK,
            lw=1.2,
            ls="--",
            zorder=0,
            label=_words(model.break_words) if axes is upper else None,
        )


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _words(text: str) -> str:
    """A name as it is: a dollar would begin a formula."""
    return text.replace("$", r"\$")
