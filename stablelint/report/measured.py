"""What ``stablelint probe`` measured, whichever it is: signals, or curvature and step sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from stablelint import __version__
from stablelint.report.curvature import curvature_data, render_curvature
from stablelint.report.json import plain_data
from stablelint.report.signals import render_signals
from stablelint.signals import Signals
from stablelint.signals.curvature import Curvature


def render_measured(
    name: str,
    value: Signals | Curvature,
    width: int = 80,
    colour: bool = False,
    *,
    learning_rate: float | None = None,
    clip: float | None = None,
) -> str:
    """The tables of one model; ``learning_rate`` and ``clip`` are for curvature."""
    if isinstance(value, Signals):
        return render_signals(name, value, width, colour)
    return render_curvature(name, value, width, colour, learning_rate=learning_rate, clip=clip)


def render_measured_json(
    found: Iterable[tuple[str, Signals | Curvature, tuple[str, ...]]],
    *,
    learning_rate: float | None = None,
    clip: float | None = None,
) -> str:
    """One JSON document for all models: the summary of the signals, or all of the curvature but its matrices."""
    targets = [
        {"target": name, "signals": plain_data(value.summary()), "remarks": list(remarks)}
        if isinstance(value, Signals)
        else {
            "target": name,
            "curvature": plain_data(curvature_data(value, learning_rate=learning_rate, clip=clip)),
            "remarks": list(remarks),
        }
        for name, value, remarks in found
    ]
    return json.dumps({"stablelint": __version__, "targets": targets}, indent=2, allow_nan=False) + "\n"
