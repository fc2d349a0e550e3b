"""What is compared: a case, and the cases of a registry file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
    spec = importlib.util.spec_from_file_location("prediction_zoo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    for name, (family, _, builder) in module.REG.items():
        yield Case(name, "zoo " + family, builder, torch.float32, generated=False)


def built_from(make: Make, inputs: Callable[[], Tensor]) -> Callable[[], Built]:
    """A builder of a model with one input."""
    return lambda: (make(), (inputs(),), {})
