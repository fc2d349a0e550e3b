"""Models that two processes share, and the ways to spread them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn import functional as F

WIDTH, VOCABULARY, LENGTH = 16, 10, 6


class Block(nn.Module):
    """A pre-norm transformer block, its attention fused or by hand."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm1(x)
        q, k, v = (each(h).unflatten(-1, (-1, WIDTH // 4)).transpose(1, 2) for each in (self.q, self.k, self.v))
        if self.fused:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            a = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        x = x + self.o(a.transpose(1, 2).flatten(2))
        h = self.up(self.norm2(x))
        return x + self.down(F.relu(h) if self.fused else torch.sigmoid(h))


class Transformer(nn.Module):
    """Two blocks; with a ``closed`` branch, which has to be woken."""

    def __init__(self, closed: bool = False, positions: bool = True) -> None:
        super().__init__()
        self.emb = nn.Embedding(VOCABULARY, WIDTH)
        self.pos = nn.Parameter(torch.randn(LENGTH, WIDTH)) if positions else None
        self.blocks = nn.ModuleList([Block(fused=True), Block(fused=False)])
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        if closed:
            nn.init.zeros_(self.blocks[0].o.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.emb(ids) if self.pos is None else self.emb(ids) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


class Recurrent(nn.Module):
    """Its own loss beside its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.head(self.rnn(x)[0][:, -1])
        return F.cross_entropy(logits, y), logits


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def ids() -> torch.Tensor:
    return torch.randint(VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(1))


def fully(model: nn.Module, mesh: Any) -> nn.Module:
    for part in getattr(model, "blocks", ()):
        fully_shard(part, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: nn.Module, mesh: Any, sequence: bool = False) -> nn.Module:
    """Heads and hidden units on two processes; with ``sequence`` also the positions between them."""
    taken: dict[str, Any] = {"input_layouts": Shard(1)} if sequence else {}
    given: dict[str, Any] = {"output_layouts": Shard(1)} if sequence else {}
    plan: dict[str, Any] = {name: ColwiseParallel(**taken) for name in ("q", "k", "v", "up")}
    plan |= {name: RowwiseParallel(**given) for name in ("o", "down")}
    outer: dict[str, Any] = {"out": ColwiseParallel(output_layouts=Replicate(), **taken)}
    if sequence:
        plan |= {"norm1": SequenceParallel(), "norm2": SequenceParallel()}
        outer |= {"norm": SequenceParallel(), "emb": RowwiseParallel(input_layouts=Replicate(), **given)}
    for block in model.blocks:
        parallelize_module(block, mesh, plan)
    return parallelize_module(model, mesh, outer)


def in_both_ways(model: nn.Module, _mesh: Any) -> nn.Module:
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "tensor"))
    return fully(tensor_parallel(model, mesh["tensor"]), mesh["data"])
