"""The list of all rules, and one rule's page, for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from stablelint.report.words import Paint, wrap

_LEGEND = (
    "In brackets: the level of a cause whose symptom is not there; it becomes an error where the symptom is "
    "predicted or measured. stablelint explain RULE shows the page of a rule."
)


def render_catalogue(catalogue: Sequence[Mapping[str, Any]], width: int = 80, colour: bool = False) -> str:
    """All rules by family: code, name, level, what they predict, and the summary below."""
    paint = Paint(colour)
    lines: list[str] = []
    for family, entries in groupby(catalogue, key=lambda entry: entry["family"]):
        lines += [*([""] if lines else []), paint(family, "title")]
        for entry in entries:
            words = f"{entry['code']} {entry['name']}"
            if entry["level"]:
                words += f" ({entry['level']})"
            if entry["predicts"]:
                words += f" predicts {', '.join(entry['predicts'])}"
            first, *rest = wrap(words, width, first="  ", rest="        ")
            lines += [first.replace(entry["name"], paint(entry["name"], "place"), 1), *rest]
            lines += wrap(entry["summary"], width, first="        ", rest="        ")
    lines += ["", *(paint(line, "dim") for line in wrap(_LEGEND, width, first="", rest=""))]
    return "".join(f"{line}\n" for line in lines)


def render_catalogue_json(catalogue: Sequence[Mapping[str, Any]]) -> str:
    """The same as strict JSON."""
    return json.dumps(list(catalogue), indent=2, allow_nan=False) + "\n"


def render_page(page: str, colour: bool = False) -> str:
    """A rule's Markdown page; with ``colour`` headings and code stand out, the text stays as it is."""
    paint = Paint(colour)
    lines: list[str] = []
    fenced = False
    for line in page.rstrip("\n").split("\n"):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        role = "dim" if fence else "code" if fenced else "place" if line.startswith("#") else None
        lines.append(paint(line, role) if role else line)
    return "\n".join(lines) + "\n"
