"""What is compared: a case, and the cases of a registry file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from python_file import load
from torch import Tensor, nn

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """A model with inputs. ``steps`` names the op, once per time step or whole, along which H is taken in time."""

    name: str
    family: str
    build: Callable[[], Built]
    dtype: torch.dtype = torch.float64
    steps: str | None = None
    generated: bool = True


def registry(path: Path) -> Iterator[Case]:
    """The models of a file with ``REG[name] = (family, source, builder)``."""
    for name, (family, _, builder) in load(path).REG.items():
        yield Case(name, "zoo " + family, builder, torch.float32, generated=False)


def built_from(make: Make, inputs: Callable[[], Tensor]) -> Callable[[], Built]:
    """A builder of a model with one input."""
    return lambda: (make(), (inputs(),), {})
