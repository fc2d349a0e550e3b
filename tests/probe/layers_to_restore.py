"""More models of :mod:`models_to_restore`: layers that keep, share or compute their weights, and checkpointing."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from models_to_restore import SMALL, Net, small
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from stablelint.inputs import Inputs


@small("multi-head attention", 2, 5, 8)
class _(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attention(x, x, x)[0]


@small("transformer layer", 2, 5, 8)
def _() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


class Tied(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.emb = nn.Embedding(20, 8, **options)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.emb(ids)))


SMALL["tied weights"] = lambda: (Tied(), Inputs(torch.randint(20, (4, 6))))
SMALL["an embedding that is renormed in place"] = lambda: (
    nn.Sequential(nn.Embedding(20, 8, max_norm=1.0), nn.Linear(8, 8)),
    Inputs(torch.randint(20, (4, 6))),
)


@small("spectral norm and weight norm")
def _() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    return nn.Sequential(parametrizations.spectral_norm(first), nn.Tanh(), parametrizations.weight_norm(second))


@small("spectral norm and weight norm of old")
def _() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = nn.utils.spectral_norm(nn.Linear(8, 8)), nn.utils.weight_norm(nn.Linear(8, 8))
    return nn.Sequential(first, nn.Tanh(), second)


@small("orthogonal parametrization")
def _() -> nn.Module:
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 8))


class Square(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


@small("a custom autograd function")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        return Square.apply(h)


class Checkpointed(Net):
    reentrant = False

    def prepare(self) -> None:
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda h: self.drop(self.norm(h)), h, use_reentrant=self.reentrant)


class Reentrant(Checkpointed):
    reentrant = True


small("gradient checkpointing")(Checkpointed)
small("reentrant gradient checkpointing")(Reentrant)


@small("partly frozen, with a zero head")
def _() -> nn.Module:
    model = Net()
    model.fc.requires_grad_(False)
    nn.init.zeros_(model.head.weight)
    return model


@small("stochastic depth")
class _(Net):
    def act(self, h: torch.Tensor) -> torch.Tensor:
        from torchvision.ops import stochastic_depth

        return h + stochastic_depth(F.relu(h, inplace=False), 0.5, "row", self.training)


@small("recurrent", 4, 6, 8)
class _(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.state = nn.LSTM(8, 8, 2, dropout=0.1, batch_first=True), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, self.state = self.lstm(x, self.state)  # carries the state and its graph from call to call
        return output


@small("scripted part")
class _(Net):
    def prepare(self) -> None:
        self.script = torch.jit.trace(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), torch.randn(4, 8))

    def act(self, h: torch.Tensor) -> torch.Tensor:
        return self.script(h)
