"""Which arguments a failed forward pass was handling: those on the line of the user's code that raised."""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from stablelint.targets.loading import is_users

_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Blame:
    """``inputs`` are the indices of arguments on the failing line, ``missing`` the names on it that are None there.

    ``line`` is its text, for conditions that the author demands.
    """

    inputs: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    line: str = ""


def blamed(trace: TracebackType | None, ours: Sequence[Any]) -> Blame:
    """From the innermost line outwards, the first one on which an argument stands."""
    frames = []
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    missing: list[str] = []
    line = ""
    for frame, number in reversed(frames):
        text = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()
        line = line or text
        names = dict.fromkeys(_WORD.findall(text))
        missing += [name for name in names if name in frame.f_locals and frame.f_locals[name] is None]
        found = [place(frame.f_locals[name], ours) for name in names if name in frame.f_locals and name != "self"]
        inputs = tuple(dict.fromkeys(each for each in found if each is not None))
        if inputs:
            return Blame(inputs, tuple(missing), line)
    return Blame((), tuple(missing), line)


def place(value: Any, ours: Sequence[Any]) -> int | None:
    """The index of the argument that a value is, or is a view of, or is inside of; None for anything computed."""
    if value is None or isinstance(value, int | float | str):
        return None
    for index, each in enumerate(ours):
        if each is value:
            return index
    if not isinstance(value, torch.Tensor):
        return None
    for index, each in enumerate(ours):
        leaves = [each] if isinstance(each, torch.Tensor) else tree_leaves(each)
        if any(leaf is value or _shares(leaf, value) for leaf in leaves if isinstance(leaf, torch.Tensor)):
            return index
    return None


def _shares(one: torch.Tensor, other: torch.Tensor) -> bool:
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have no storage
        return False
