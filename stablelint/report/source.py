"""Excerpts of the source text around a finding."""

from __future__ import annotations

import tokenize
from collections.abc import Callable, Sequence

from stablelint.report.words import shorten

Source = Callable[[str], Sequence[str]]


def read_source(path: str) -> tuple[str, ...]:
    """The lines of a Python file in the encoding that it declares; none when it cannot be read."""
    try:
        with tokenize.open(path) as file:
            return tuple(file.read().splitlines())
    except (OSError, SyntaxError, ValueError):
        return ()


def excerpt(lines: Sequence[str], line: int, column: int | None, width: int) -> list[str]:
    """``line`` (from 1) with its neighbours, marked by ``>`` and a caret under ``column`` (from 1).

    Indentation that all lines share is left out, and what does not fit into ``width`` is cut at ``…``.
    """
    if not 1 <= line <= len(lines):
        return []
    near = range(max(1, line - 1), min(len(lines), line + 1) + 1)
    shown = [number for number in near if number == line or lines[number - 1].strip()]
    text = {number: lines[number - 1].expandtabs(4).rstrip() for number in shown}
    margin = min(len(row) - len(row.lstrip()) for row in text.values())
    digits = len(str(shown[-1]))
    room = max(20, width - digits - 7)
    caret = None
    if column is not None and 1 <= column <= len(lines[line - 1]):
        caret = len(lines[line - 1][: column - 1].expandtabs(4)) - margin
    first = max(0, caret - room // 2) if caret is not None and caret >= room - 1 else 0
    rows: list[str] = []
    for number, row in text.items():
        begin = first if number == line else 0
        mark = "  > " if number == line else "    "
        rows.append(f"{mark}{number:>{digits}} | {_cut(row[margin:], begin, room)}".rstrip())
        if number == line and caret is not None and caret >= 0:
            rows.append(f"    {'':>{digits}} | {' ' * (caret - begin)}^")
    return rows


def _cut(text: str, begin: int, room: int) -> str:
    return shorten("…" + text[begin + 1 :] if begin else text, room)
