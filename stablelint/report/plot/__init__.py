"""Figures of what was measured and predicted: functions from the models of one run to the bytes of one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from stablelint.errors import UsageError
from stablelint.report.plot.curves import curves
from stablelint.signals.comparison import Comparison

__all__ = ["KINDS", "Measured", "plotter"]

#: Name, signals and remarks of one model.
Measured = tuple[str, Comparison, tuple[str, ...]]
#: The extensions that ``--plot`` knows.
KINDS = ("png", "svg", "html")


def plotter(path: Path) -> Callable[[Sequence[Measured]], bytes]:
    """What draws all models of a run as one file of the kind that ``path`` names, one below the other.

    Raises UsageError, before anything is measured, for another extension, a place that cannot be written and a
    missing matplotlib.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise UsageError(f"--plot {path}: the name must end in .png, .svg or .html")
    _require_writable(path)
    if kind == "html":
        from stablelint.report.plot.page import render_page

        return lambda found: render_page(found).encode(errors="replace")
    try:
        from stablelint.report.plot.figure import render_figure
    except ImportError as error:
        raise UsageError(
            f'--plot {path} needs matplotlib: pip install "stablelint[plot]", or name a .html file, which needs nothing'
        ) from error
    return lambda found: render_figure([curves(name, comparison) for name, comparison, _ in found], kind)


def _require_writable(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {folder}")
    if path.is_dir():
        raise UsageError(f"--plot {path}: it is a folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"--plot {path}: it cannot be written")
