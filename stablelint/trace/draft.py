"""An op while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stablelint.site import Site


@dataclass(slots=True)
class Draft:
    """What is known of an op when it is recorded; ``tensor`` is the leaf's own tensor.

    ``differentiable`` says whether autograd was on, ``call`` which call of torch it is, counted from 0 (None for
    leaves and for what is recorded without one).
    """

    name: str
    inputs: tuple[int, ...]
    attrs: dict[str, Any]
    site: Site
    scope: tuple[str, ...]
    calls: tuple[int, ...]
    types: tuple[str, ...]
    inplace: bool = False
    guessed: bool = False
    differentiable: bool = True
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    known: Any = None
    tensor: torch.Tensor | None = None
    call: int | None = None

    def describe(self, result: torch.Tensor, known: Any) -> None:
        """Take shape and dtype from the op's (first) result."""
        self.shape = _nested_shape(result) if result.is_nested else tuple(int(size) for size in result.shape)
        self.dtype = str(result.dtype).removeprefix("torch.")
        self.known = known


def _nested_shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a nested tensor, its uneven axis as long as on average (jagged) or at most (strided)."""
    with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
        if tensor.layout is not torch.jagged:
            return (len(sizes := tensor._nested_tensor_size()), *(int(size) for size in sizes.amax(0)))
        batch, flat = tensor._offsets.shape[0] - 1, list(tensor._values.shape)
        flat[tensor._ragged_idx - 1] //= max(1, batch)
        return (batch, *flat)
