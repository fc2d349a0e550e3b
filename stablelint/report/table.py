"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stablelint.report.words import INDENT, Paint, shorten


def abbreviated(path: str, room: int) -> str:
    """A dotted path with its parts cut to one letter, from the left, until it fits: ``e.l.3.f2.activation``.

    Numbers stay, also behind a word: they tell the rows of a table apart. What is still too long is cut at its end, a
    file at its start.
    """
    if ".py:" in path or path.endswith(".py"):
        return path if len(path) <= room else f"…{path[len(path) - room + 1 :]}"
    parts = path.split(".")
    for index, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= room:
            break
        parts[index] = part[:1] + part[1:][len(part[1:].rstrip("0123456789")) :]
    return shorten(".".join(parts), room)


def natural_width(columns: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Characters of a row of the table whose columns, header and cells, are as wide as their contents."""
    return sum(max(map(len, (header, *cells))) for header, cells in columns) + 2 * (len(columns) - 1)


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    paint: Paint,
    *,
    right: set[int],
    shrink: Sequence[int],
) -> list[str]:
    """Columns as wide as their contents; those of ``shrink`` give up room, in this order, until the rows fit."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for column in shrink:
        excess = len(INDENT) + sum(widths) + 2 * (len(widths) - 1) - width
        if excess > 0:
            widths[column] = max(min(8, widths[column]), widths[column] - excess)
    lines: list[str] = []
    for row in (header, *rows):
        cells = [abbreviated(cell, size) for cell, size in zip(row, widths, strict=True)]
        filled = [
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"{INDENT}{'  '.join(filled)}".rstrip())
    return [paint(lines[0], "dim"), *lines[1:]]
