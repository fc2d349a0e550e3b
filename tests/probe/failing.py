"""What fails on its way back."""

from __future__ import annotations

from typing import Any

import torch


class Fails(torch.autograd.Function):
    """Hands its input on, and raises in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise ValueError("enough")
