"""Figures of predicted against measured, for docs/prediction.md. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prediction_report import Row, compared, quantile

#: Colours that stay apart in print and for colour-blind readers (Okabe & Ito), by the first word of the family.
_COLOURS = {
    "mlp": "#0072B2", "conv": "#E69F00", "joined": "#CC79A7", "mixer": "#56B4E9", "transformer": "#009E73",
    "recurrent": "#D55E00", "surgery": "#8C6D31", "zoo": "#555555",
}  # fmt: skip
_LABELS = {"joined": "concatenating", "surgery": "library models, broken", "zoo": "released models"}
_BOUND = 3.0


@dataclass(frozen=True)
class Trace:
    """Gradient rms block by block, in decades relative to the last block: predicted, and measured once per draw."""

    name: str
    predicted: Sequence[float]
    measured: Sequence[Sequence[float]]


def draw(folder: Path, rows: Sequence[Row], traces: Sequence[Trace]) -> list[Path]:
    """Write the three figures into ``folder``."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "stablelint",
         "svg.fonttype": "none", "font.family": "sans-serif", "axes.titlesize": 9}
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"predicted-measured": _scatter(compared(rows)), "error": _errors(compared(rows))}
    if traces:
        figures["gradient-per-block"] = _blocks(traces)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.svg")
        figure.savefig(paths[-1], bbox_inches="tight", metadata={"Date": None})
    return paths


def _figure(columns: int, rows: int, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained")


def _scatter(rows: Sequence[Row]) -> Any:
    """H predicted over H measured: everything, and the middle enlarged."""
    figure, axes = _figure(2, 1, 8.2, 4.1)
    for place, panel in enumerate(axes):
        low, high = min(row.measured or 0 for row in rows) - 3, max(row.measured or 0 for row in rows) + 3
        if place:
            low, high = -6.0, 6.0
        panel.axvspan(low, -_BOUND, color="#000000", alpha=0.05, lw=0)
        panel.axvspan(_BOUND, high, color="#000000", alpha=0.05, lw=0)
        panel.plot([low, high], [low, high], color="#999999", lw=0.8, zorder=1)
        for group in dict.fromkeys(row.family.split()[0] for row in rows):
            chosen = [row for row in rows if row.family.split()[0] == group]
            panel.scatter(
                [row.measured for row in chosen], [row.predicted for row in chosen], s=16 if place else 12,
                color=_COLOURS.get(group, "#000000"), label=_LABELS.get(group, group), alpha=0.75, lw=0, zorder=2,
            )  # fmt: skip
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="H measured", ylabel="H predicted")
        panel.set_title("the middle, enlarged" if place else f"{len(rows)} models (shaded: vanishing, exploding)")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left", handletextpad=0.2)
    return figure


def _errors(rows: Sequence[Row]) -> Any:
    """How often the error of H is how large."""
    figure, panel = _figure(1, 1, 6.0, 2.9)
    edges = [10 ** (-3 + step / 6) for step in range(25)]
    groups = [("generated variants", True, "#0072B2"), ("released models", False, "#555555")]
    sizes = [[min(max(row.error, edges[0]), edges[-1] * 0.99) for row in rows if row.generated is made]
             for _, made, _ in groups]  # fmt: skip
    panel.hist(sizes, bins=edges, stacked=True, label=[name for name, _, _ in groups], color=[c for _, _, c in groups])
    errors = [row.error for row in rows]
    for share, label, drop in ((0.5, "median", -9), (0.9, "90th percentile", -20)):
        at = quantile(errors, share)
        panel.axvline(at, color="#D55E00", lw=1, ls="--")
        panel.annotate(
            f"{label} {at:.2f}", (at, 1), xycoords=("data", "axes fraction"), xytext=(4, drop), fontsize=8,
            textcoords="offset points", color="#D55E00", backgroundcolor="#FFFFFFB0",
        )  # fmt: skip
    panel.set(xscale="log", xlabel="|error of H|, decades", ylabel="models")
    panel.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _blocks(traces: Sequence[Trace]) -> Any:
    """The gradient along the trunk of some networks."""
    columns = 3
    figure, axes = _figure(columns, math.ceil(len(traces) / columns), 8.2, 4.6)
    for panel, found in zip(axes.flat, traces, strict=False):
        for number, draws in enumerate(found.measured[:3]):
            label = "measured, three draws" if number == 0 else None
            panel.plot(range(len(draws)), draws, ".", ms=4, color="#E69F00", alpha=0.8, label=label)
        panel.plot(range(len(found.predicted)), found.predicted, color="#0072B2", lw=1.2, label="predicted")
        panel.set_title(found.name)
        everything = [*found.predicted, *(size for draws in found.measured[:3] for size in draws)]
        middle, reach = (max(everything) + min(everything)) / 2, max(max(everything) - min(everything), 1.0)
        panel.set_ylim(middle - 0.6 * reach, middle + 0.6 * reach)
    for panel in axes[-1]:
        panel.set_xlabel("block, from the input")
    for panel in axes[:, 0]:
        panel.set_ylabel("log10 of gradient rms")
    axes.flat[0].legend(frameon=False, fontsize=8)
    return figure
