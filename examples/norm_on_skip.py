"""Planted defect: the skip path is normalised.

A residual connection helps because the identity hands the signal and its gradient on unchanged. Here a batch norm
on that path divides both by sqrt(2) in every block (stream and branch have variance 1 each), and after twenty blocks
the identity carries 1/1000 of the gradient: the network trains like one without skips. Normalise inside the branch.
"""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) + self.branch(x)  # finding: SL201


def build() -> nn.Module:
    stem = nn.Conv2d(3, 16, 3, padding=1)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(stem, *(Block(16) for _ in range(20)), *head)


def example_inputs() -> torch.Tensor:
    return torch.randn(8, 3, 16, 16)
