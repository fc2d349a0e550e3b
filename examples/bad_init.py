"""Planted defect: weights with standard deviation 1.

A layer with 256 inputs multiplies the rms of the signal by about sqrt(256 / 2) = 11 here, on the way forward and on
the way back, so eight layers make it a hundred million times larger. ``nn.init.kaiming_normal_`` keeps it constant.
"""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, width: int = 256, depth: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        for layer in self.layers:
            nn.init.normal_(layer.weight)  # finding: SL501
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def build() -> nn.Module:
    return Network()


def example_inputs() -> torch.Tensor:
    return torch.randn(16, 256)
