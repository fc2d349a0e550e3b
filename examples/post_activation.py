"""Planted defect: fifty residual blocks with the activation after the sum and no norm.

The ReLU cuts the identity path in every block: what is negative is lost for good, the positive rest adds up, and the
gradient goes through fifty ReLUs. Move the activation into the branch (pre-activation).
"""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, width)
        self.reduce = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.reduce(torch.relu(self.expand(x)))
        return torch.relu(x + branch)  # finding: SL202


class PostActivation(nn.Module):
    def __init__(self, width: int = 64, depth: int = 50) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 10)
        for block in self.blocks:
            for linear in (block.expand, block.reduce):
                nn.init.kaiming_normal_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x))


def build() -> nn.Module:
    return PostActivation()


def example_inputs() -> torch.Tensor:
    return torch.randn(16, 64)
