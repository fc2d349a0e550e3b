"""Wrapping, colours and the short forms that renderers for the terminal share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

INDENT = "    "


def plain(text: str) -> str:
    """``text`` without characters that would steer the terminal (escape sequences in names or source lines)."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def wrap(text: str, width: int, *, first: str = INDENT, rest: str = INDENT) -> list[str]:
    """``text`` as lines of at most ``width`` characters; only a word that is longer stands out."""
    text = plain(" ".join(text.split()))
    if text and len(first) + len(text) <= max(width, 20):  # most lines of a long report
        return [f"{first}{text}"]
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def modules(paths: Sequence[str]) -> str:
    """``net.0, net.2, … (30 modules)``."""
    if len(paths) <= 2:
        return ", ".join(paths)
    return f"{paths[0]}, {paths[1]}, … ({len(paths)} modules)"


def shorten(text: str, room: int) -> str:
    """``text`` in at most ``room`` characters, cut at ``…``."""
    text = plain(text)
    return text if len(text) <= room else text[: room - 1] + "…"


class Paint:
    """Colours by meaning; without ``colour`` every text stays as it is."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, role: str) -> str:
        """``text`` in the colour of ``role``."""
        if not self.colour or not text:
            return text
        import click

        return click.style(text, **_ROLES[role])


_ROLES: dict[str, dict[str, Any]] = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "note": {"fg": "cyan", "bold": True},
    "place": {"bold": True},
    "good": {"fg": "green"},
    "dim": {"dim": True},
    "fix": {"fg": "green"},
    "title": {"bold": True, "underline": True},
    "code": {"fg": "cyan"},
}
