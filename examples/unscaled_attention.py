"""Planted defect: attention without 1/sqrt(d).

Each score is a sum of 64 products, so its standard deviation is about 8, the softmax puts most of its weight on one
token, and little gradient reaches queries and keys. Multiply the scores by 1/sqrt(64), or call
``torch.nn.functional.scaled_dot_product_attention``.
"""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.qkv.weight[:width])  # each of q, k and v is a square matrix of its own
        nn.init.xavier_uniform_(self.qkv.weight[width : 2 * width])
        nn.init.xavier_uniform_(self.qkv.weight[2 * width :])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)  # finding: SL401
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def build() -> nn.Module:
    return nn.Sequential(*(Block(width=256, heads=4) for _ in range(4)), nn.LayerNorm(256), nn.Linear(256, 10))


def example_inputs() -> torch.Tensor:
    return torch.randn(4, 32, 256)
