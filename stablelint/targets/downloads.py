"""Weights that a build would download or read from a missing file: the initial ones stay, and it is said."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class NoWeights(dict[str, Any]):
    """Stands for a state dict that is not there; loading it leaves a model as it is."""

    def __missing__(self, key: str) -> NoWeights:
        return NoWeights()


@contextmanager
def initial_weights() -> Iterator[list[str]]:
    """While active, released weights are not loaded; yields the list of what was asked for.

    Covers ``torch.hub.load_state_dict_from_url`` (torchvision's ``weights=``) under every name that a module has given
    it, ``torch.load`` of files that do not exist, and timm's ``pretrained=True``.
    """
    asked: list[str] = []

    def from_url(url: str, *_args: Any, **_kwargs: Any) -> NoWeights:
        asked.append(str(url).rpartition("/")[2])
        return NoWeights()

    load, load_state_dict = torch.load, nn.Module.load_state_dict

    def from_file(f: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(f, *args, **kwargs)
        except FileNotFoundError:
            asked.append(str(f))
            return NoWeights()

    def into_model(self: nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if not state_dict and asked:  # also what was made of an absent one: {key: value for ... in {}.items()}
            return nn.modules.module._IncompatibleKeys([], [])
        return load_state_dict(self, state_dict, *args, **kwargs)

    def into_timm(model: nn.Module, *_args: Any, **_kwargs: Any) -> None:  # noqa: ARG001 (timm's signature)
        asked.append("timm's pretrained weights")

    replaced = [(torch, "load", load, from_file), (nn.Module, "load_state_dict", load_state_dict, into_model)]
    replaced += _everywhere(torch.hub.load_state_dict_from_url, from_url)
    timm = sys.modules.get("timm.models._builder")
    if timm is not None:
        replaced.append((timm, "load_pretrained", timm.load_pretrained, into_timm))
    for owner, name, _, new in replaced:
        setattr(owner, name, new)
    try:
        yield asked
    finally:
        for owner, name, old, _ in replaced:
            setattr(owner, name, old)


#: Modules of before: of these only some may hold the function, and there are thousands.
_BEFORE = frozenset(sys.modules)
_HOLDERS = ("torch.hub", "torch.utils.model_zoo", "torchvision", "timm")


def _everywhere(function: Callable[..., Any], new: Callable[..., Any]) -> list[tuple[Any, str, Any, Any]]:
    """The modules that hold a function under one of its usual names."""
    return [
        (module, name, function, new)
        for key, module in list(sys.modules.items())
        if key not in _BEFORE or key.startswith(_HOLDERS)
        for name in ("load_state_dict_from_url", "load_url")
        if getattr(module, "__dict__", {}).get(name) is function
    ]


def remark(asked: list[str]) -> tuple[str, ...]:
    """What to say about weights that were not loaded."""
    if not asked:
        return ()
    names = ", ".join(dict.fromkeys(asked))
    return (
        f"weights that its build loads are not there ({names}): it is checked with "
        "initial ones, and what that finds is a note",
    )
