"""From a running frame to the line of user code that it belongs to."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

import torch

import stablelint

_TORCH = str(Path(torch.__file__).parent) + os.sep
_OWN = str(Path(stablelint.__file__).parent) + os.sep
# Code that only passes a call on. transformers/initialization.py wraps torch.nn.init one to one.
_PLUMBING_PACKAGES = ("importlib", "einops", "numpy", "functools", "contextlib", "copy", "typing", "weakref", "abc")
_PLUMBING_FILES = (
    *(os.sep + name + ".py" for name in _PLUMBING_PACKAGES),
    str(Path("transformers") / "initialization.py"),
)
_PLUMBING_FOLDERS = tuple(os.sep + name + os.sep for name in ("importlib", "einops", "numpy"))


class Position(NamedTuple):
    """A line and column (both from 1) of a file; the file is relative to the working directory when inside it."""

    file: str
    line: int
    column: int | None


@cache
def is_user_file(filename: str) -> bool:
    """Whether a finding may point into ``filename``: model code, also of an installed library, but no plumbing."""
    return not (
        filename.startswith((_TORCH, _OWN, "<"))
        or filename.endswith(_PLUMBING_FILES)
        or any(folder in filename for folder in _PLUMBING_FOLDERS)
    )


def is_torch_file(filename: str) -> bool:
    """Whether the file is a part of torch."""
    return filename.startswith(_TORCH)


def user_frame(frame: FrameType | None, stop: FrameType | None = None) -> FrameType | None:
    """The innermost frame of user code at or above ``frame``; the search ends after ``stop``."""
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            return frame
        if frame is stop:
            return None
        frame = frame.f_back
    return None


def position(frame: FrameType) -> Position:
    """Where ``frame`` currently is: the start of the expression that it evaluates."""
    line, column = _expression(frame.f_code, frame.f_lasti)
    return Position(display_path(frame.f_code.co_filename), line or frame.f_lineno, column)


def traceback_position(traceback: TracebackType | None) -> Position | None:
    """The innermost line of user code that a traceback went through."""
    found = None
    while traceback is not None:
        if is_user_file(traceback.tb_frame.f_code.co_filename):
            code = traceback.tb_frame.f_code
            line, column = _expression(code, traceback.tb_lasti)
            found = Position(display_path(code.co_filename), line or traceback.tb_lineno, column)
        traceback = traceback.tb_next
    return found


@lru_cache(maxsize=65536)
def _expression(code: CodeType, instruction: int) -> tuple[int | None, int | None]:
    spans = next(islice(code.co_positions(), max(instruction, 0) // 2, None), None)
    if spans is None:
        return None, None
    line, _, offset, _ = spans
    return line, None if offset is None else offset + 1


def display_path(filename: str) -> str:
    """``filename`` relative to the working directory when it lies inside, as it is otherwise."""
    return _relative(filename, os.getcwd())  # noqa: PTH109 (asked once per op; Path.cwd() costs ten times as much)


@lru_cache(maxsize=4096)
def _relative(filename: str, folder: str) -> str:
    path = Path(filename)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else filename
