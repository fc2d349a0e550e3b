"""What the terminal, or the file that stands in its place, can show."""

from __future__ import annotations

import os
import shutil
import sys


def colours(asked: bool | None) -> bool:
    """The option first, then NO_COLOR and FORCE_COLOR, else whether a terminal reads along."""
    if asked is not None:
        return asked
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def width() -> int:
    """COLUMNS where it is set, else the terminal's width but not more than people read comfortably.

    It is at least 40, and 80 where nothing tells it, as in a pipe.
    """
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return max(int(asked), 40)
    return min(max(shutil.get_terminal_size().columns, 40), 120) if sys.stdout.isatty() else 80


def draws_blocks() -> bool:
    """Whether the output can hold block characters; logs in ASCII or in a legacy code page cannot."""
    try:
        "█▏▎▍▌▋▊▉".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
