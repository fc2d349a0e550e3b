"""Planted defect: twenty sigmoids in a row.

The derivative of a sigmoid is at most 0.25, so the gradient of the first layer is a tiny part of what it should be
and the first layers never learn. Try ReLU or GELU with a norm, or residual connections.
"""

import torch
from torch import nn


class DeepSigmoid(nn.Module):
    def __init__(self, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))  # finding: SL101
        return self.head(x)


def build() -> nn.Module:
    return DeepSigmoid()


def example_inputs() -> torch.Tensor:
    return torch.randn(16, 64)
