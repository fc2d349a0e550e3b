"""Axes of an argument as its author wrote them: in a jaxtyping annotation, or in a docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping

from torch import nn

from stablelint.targets.guess import LARGE_IMAGE_BATCH, LENGTH, SEQUENCE_BATCH, VECTOR_BATCH, Guess
from stablelint.targets.layers import image_batch

_ANNOTATED = re.compile(r"\[.*,\s*[\"']([^\"']+)[\"']\s*\]$")
_AXIS = re.compile(r"[#?*]*(?:\w+=)?(\w+|\.\.\.)")
_NO_AXIS = re.compile(r"tensor|optional|required|.*tensor|torch|int|float|bool|str|none|default|list|tuple|dict", re.I)
_SIDE = 32
_LARGEST = 1 << 20
#: Sizes of the axes that nothing determines after the first, by the number of axes.
_FREE: Mapping[int, tuple[int, ...]] = {4: (3, _SIDE, _SIDE), 5: (3, 8, _SIDE, _SIDE)}


def axes_of(parameter: inspect.Parameter, model: nn.Module) -> tuple[str, ...] | None:
    """Names and sizes of the axes, such as ``("batch", "3", "32", "32")``; None when nothing tells them.

    ``Float[Tensor, "batch seq 64"]``, as an object or as a string, and ``x: (batch, 3, 32, 32)`` in the docstring of
    ``forward`` or of the class are understood. An axis that stands for any number of them is one.
    """
    annotation = parameter.annotation
    text = str(getattr(annotation, "dim_str", ""))  # jaxtyping
    if isinstance(annotation, str):
        match = _ANNOTATED.search(annotation.strip())
        text = match[1] if match else ""
    found = _axes(text.split())
    if found:
        return found
    if type(model).__module__.startswith("torch."):
        return None
    for owner in (model.forward, type(model)):  # not inspect.getdoc, which takes that of nn.Module
        documented = _documented(parameter.name, inspect.cleandoc(owner.__doc__ or ""))
        if documented:
            return documented
    return None


def _documented(name: str, text: str) -> tuple[str, ...] | None:
    """The first shape in brackets on a line that begins with the name of the argument, or on the one after it."""
    start = re.search(rf"^\W*(?:param\s+)?{re.escape(name)}\b[`*]*\s*(?=[:(\[=]|--|of shape|shape)", text, re.M)
    if start is None:
        return None
    lines = text[start.end() :].split("\n")[:2]
    if len(lines) > 1 and re.match(r"\s*\w+\s*(\([^)]*\))?\s*:", lines[1]):  # already the next argument
        lines = lines[:1]
    for bracket in re.findall(r"[(\[]([^()\[\]]+)[)\]]", " ".join(lines)):
        parts = [each.strip() for each in bracket.split(",") if each.strip()]
        told = _axes(parts)
        if told and (len(told) > 1 or "," in bracket) and not any(_NO_AXIS.fullmatch(each) for each in told):
            return told
    return None


def _axes(parts: Iterable[str]) -> tuple[str, ...] | None:
    found = [_AXIS.fullmatch(each) for each in parts]
    names = tuple(match[1] for match in found if match)
    impossible = any(each.isdecimal() and not 0 < int(each) <= _LARGEST for each in names)
    return None if not found or len(names) < len(found) or impossible else names


def with_axes(guesses: Iterable[Guess], axes: tuple[str, ...]) -> list[Guess]:
    """The guesses as far as they have such axes, with the sizes that are told, and one with usual sizes."""
    usual = tuple(int(each) if each.isdecimal() else None for each in axes)
    free = (_batch(usual), *_FREE.get(len(axes), (LENGTH,) * (len(axes) - 1)))
    fitting = [each for each in guesses if len(each.shape) == len(axes) and each.kind != "value"]
    kinds = fitting[:1] or [Guess("normal")]
    shapes = [(each, each.shape) for each in fitting] + [(each, free[: len(axes)]) for each in kinds]
    return list(dict.fromkeys(Guess(each.kind, _filled(usual, shape), each.high) for each, shape in shapes))


def like_named(guesses: Iterable[Guess], axes: tuple[str, ...], sizes: Mapping[str, int]) -> list[Guess]:
    """The guesses with an axis as large as the axis of the same name of another argument."""
    shape = tuple(int(each) if each.isdecimal() else sizes.get(each, LENGTH) for each in axes)
    return list(dict.fromkeys(each if each.kind == "value" else Guess(each.kind, shape, each.high) for each in guesses))


def sizes_of(axes: tuple[str, ...] | None, guess: Guess) -> dict[str, int]:
    """The size of each named axis in a guess."""
    return dict(zip(axes, guess.shape, strict=False)) if axes is not None else {}


def _filled(told: tuple[int | None, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size if own is None else own for own, size in zip(told, shape, strict=True))


def _batch(told: tuple[int | None, ...]) -> int:
    if len(told) == 4:
        return image_batch(told[-1] or _SIDE)
    return VECTOR_BATCH if len(told) < 3 else SEQUENCE_BATCH if len(told) == 3 else LARGE_IMAGE_BATCH
