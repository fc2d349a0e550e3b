"""An op while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stablelint.site import Site


@dataclass(slots=True)
class Draft:
    """What is known of an op when it is recorded; ``tensor`` is the leaf's own tensor."""

    name: str
    inputs: tuple[int, ...]
    attrs: dict[str, Any]
    site: Site
    scope: tuple[str, ...]
    calls: tuple[int, ...]
    types: tuple[str, ...]
    inplace: bool = False
    guessed: bool = False
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    known: Any = None
    tensor: torch.Tensor | None = None

    def describe(self, result: torch.Tensor, known: Any) -> None:
        """Take shape and dtype from the op's (first) result."""
        self.shape = tuple(int(size) for size in result.shape)
        self.dtype = str(result.dtype).removeprefix("torch.")
        self.known = known
