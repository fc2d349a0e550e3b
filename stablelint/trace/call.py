"""A torch call under its canonical name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(slots=True)
class Call:
    """A call by its canonical name: tensors by operand name in the order of the signature, the rest in ``attrs``."""

    name: str
    operands: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    inplace: bool = False


def plain(value: Any) -> Any:
    """``value`` as something that a rule can read without torch; None for what it cannot."""
    if isinstance(value, (bool, int, float, complex, str, slice, type(...))):
        return value
    if isinstance(value, (torch.dtype, torch.device, torch.memory_format, torch.layout)):
        return str(value).removeprefix("torch.")
    if isinstance(value, (list, tuple)):
        return tuple("tensor" if isinstance(item, torch.Tensor) else plain(item) for item in value)
    return "tensor" if isinstance(value, torch.Tensor) else None
