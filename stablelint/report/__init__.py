"""Renderers: pure functions from a report to a string. Only the command line and the pytest plugin write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stablelint.finding import Report
from stablelint.report.json import render_json
from stablelint.report.source import Source, read_source
from stablelint.report.text import render_text
from stablelint.report.tried import render_tried

__all__ = ["FORMATS", "View", "render_json", "render_text"]


@dataclass(frozen=True, slots=True)
class View:
    """How a report shall look; a renderer takes from it what matters to its format.

    ``tried`` asks for what was tried for each target, in the place of a text report.
    """

    width: int = 80
    colour: bool = False
    verbose: bool = False
    tried: bool = False
    source: Source = read_source


def _text(report: Report, view: View) -> str:
    if view.tried:
        return render_tried(report, view.width, view.colour)
    return render_text(report, width=view.width, colour=view.colour, verbose=view.verbose, source=view.source)


def _json(report: Report, view: View) -> str:
    return render_json(report, tried=view.tried)


FORMATS: Mapping[str, Callable[[Report, View], str]] = {"text": _text, "json": _json}
"""The formats of ``--format``: a new one is a module of this package and a line here."""
