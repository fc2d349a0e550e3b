"""What ``stablelint probe`` measured, whichever it is: signals, or curvature and step sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from stablelint import __version__
from stablelint.report.curvature import curvature_data, render_curvature
from stablelint.report.json import plain_data
from stablelint.report.signals import render_signals
from stablelint.report.surprises import surprise_data
from stablelint.signals.comparison import Block, Comparison
from stablelint.signals.curvature import Curvature


def render_measured(
    name: str,
    value: Comparison | Curvature,
    width: int = 80,
    colour: bool = False,
    *,
    fine: bool = False,
    learning_rate: float | None = None,
    clip: float | None = None,
) -> str:
    """The tables of one model; ``fine`` (bars of block characters) is for signals, the steps are for curvature."""
    if isinstance(value, Comparison):
        return render_signals(name, value, width, colour, fine=fine)
    return render_curvature(name, value, width, colour, learning_rate=learning_rate, clip=clip)


def render_measured_json(
    found: Iterable[tuple[str, Comparison | Curvature, tuple[str, ...]]],
    *,
    learning_rate: float | None = None,
    clip: float | None = None,
) -> str:
    """One JSON document for all models: signals measured and predicted, or all of the curvature but its matrices."""
    targets = []
    for name, value, remarks in found:
        if isinstance(value, Comparison):
            told = _signals(value)
        else:
            told = {"curvature": plain_data(curvature_data(value, learning_rate=learning_rate, clip=clip))}
        targets.append({"target": name, **told, "remarks": list(remarks)})
    return json.dumps({"stablelint": __version__, "targets": targets}, indent=2, allow_nan=False) + "\n"


def _signals(found: Comparison) -> dict[str, Any]:
    """Both summaries, the blocks from input to output, the parameters, and where the two begin to disagree."""
    return {
        "signals": plain_data(found.measured.summary()),
        "predicted": None if found.predicted is None else plain_data(found.predicted.summary()),
        "blocks": [plain_data(_block(block)) for block in found.blocks],
        "parameters": [plain_data(each) for each in _parameters(found)],
        "surprises": [plain_data(surprise_data(each)) for each in found.surprises],
    }


def _parameters(found: Comparison) -> Iterator[dict[str, Any]]:
    predicted = {} if found.predicted is None else {each.name: each.grad_rms for each in found.predicted.parameters}
    for each in found.measured.parameters:
        yield {
            "parameter": each.name,
            "rms": each.rms,
            "gradient": each.grad_rms,
            "gradient_predicted": predicted.get(each.name),
            "relative": each.relative,
            "invariance": each.invariance or None,
        }


def _block(block: Block) -> dict[str, Any]:
    signal = block.signal
    low, high = block.band or (None, None)
    return {
        "block": block.number,
        "op": signal.name,
        "module": signal.site.module,
        "file": signal.site.file,
        "line": signal.site.line,
        "rms": signal.rms,
        "rms_spread": signal.rms_spread,
        "rms_predicted": block.rms,
        "gradient": signal.grad_rms,
        "gradient_spread": signal.grad_spread,
        "gradient_predicted": block.gradient,
        "gradient_low": low,
        "gradient_high": high,
        "surprising": list(block.off),
    }
