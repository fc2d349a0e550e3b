"""Small nets over sequences to break in measured ways: transformers and recurrent nets."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def softmax_by_hand(scores: Tensor) -> Tensor:
    """Exponentials over their sum."""
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


class Block(nn.Module):
    """Attention and a feed-forward net, wired in one of four ways.

    ``by_hand``: the softmax is spelled out. ``merged``: layers see batch and tokens as one axis.
    """

    def __init__(
        self, width: int, heads: int, mode: str, scale: float | None, *, by_hand: bool = False, merged: bool = False
    ) -> None:
        super().__init__()
        self.merged = merged
        self.softmax = softmax_by_hand if by_hand else nn.Softmax(-1)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.mode = heads, mode
        self.scale = scale if scale is not None else math.sqrt(heads / width)

    def attend(self, x: Tensor) -> Tensor:
        """Hand-written multi-head attention."""
        batch, length, width = x.shape
        query, key, value = (
            self.by_token(self.qkv, x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        weights = self.softmax(query @ key.transpose(-2, -1) * self.scale)
        return self.by_token(self.out, (weights @ value).transpose(1, 2).reshape(batch, length, width))

    def by_token(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer that treats all tokens alike."""
        if not self.merged:
            return layer(x)
        result = layer(x.reshape(-1, x.shape[-1]))
        return result.view(*x.shape[:2], result.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        if self.mode == "pre":
            x = x + self.attend(self.first(x))
            return x + self.by_token(self.mlp, self.second(x))
        if self.mode == "post":
            x = self.first(x + self.attend(x))
            return self.second(x + self.by_token(self.mlp, x))
        if self.mode == "noskip":
            return self.by_token(self.mlp, self.second(self.attend(self.first(x))))
        x = x + self.attend(x)
        return x + self.by_token(self.mlp, x)


class Transformer(nn.Module):
    """Blocks on token and position embeddings; ``tied``: one block that is applied ``depth`` times."""

    def __init__(
        self,
        depth: int,
        mode: str = "pre",
        std: float | None = None,
        scale: float | None = None,
        *,
        tied: bool = False,
        by_hand: bool = False,
        merged: bool = False,
        width: int = 96,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, width)
        self.position = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        blocks = 1 if tied else depth
        self.blocks = nn.ModuleList(Block(width, 4, mode, scale, by_hand=by_hand, merged=merged) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 50)
        self.times = depth if tied else 1
        for module in self.modules() if std else ():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, 0, std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Run the net."""
        x = self.embedding(ids) + self.position[:, : ids.shape[1]]
        for _ in range(self.times):
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    """A recurrent layer read at its last step."""

    def __init__(self, kind: type[nn.RNNBase], width: int = 64) -> None:
        super().__init__()
        self.cell, self.head = kind(32, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        return self.head(self.cell(x)[0][:, -1])


class Unrolled(nn.Module):
    """A cell called in a loop and read at its last step."""

    def __init__(self, kind: type[nn.RNNCellBase], width: int = 64) -> None:
        super().__init__()
        self.cell, self.head, self.width = kind(32, width), nn.Linear(width, 10), width

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        state = x.new_zeros(x.shape[0], self.width)
        memory = torch.zeros_like(state)
        for step in x.unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                state, memory = self.cell(step, (state, memory))
            else:
                state = self.cell(step, state)
        return self.head(state)


class HandRecurrent(nn.Module):
    """A plain recurrent net spelled out, its recurrent matrix orthogonal or of a given gain."""

    def __init__(self, gain: float | None, width: int = 64) -> None:
        super().__init__()
        self.enter, self.keep = nn.Linear(32, width), nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 10)
        if gain is None:
            nn.init.orthogonal_(self.keep.weight)
        else:
            nn.init.normal_(self.keep.weight, 0, gain / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        state = torch.tanh(self.enter(x[:, 0]))
        for step in range(1, x.shape[1]):
            state = torch.tanh(self.enter(x[:, step]) + self.keep(state))
        return self.head(state)
