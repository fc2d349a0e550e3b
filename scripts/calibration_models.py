"""The parts of the calibration: learnable tasks, small networks, and what is done to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

WIDTH, CHANNELS, FEATURES, CLASSES, SYMBOLS, POSITIONS = 32, 12, 16, 4, 12, 10
Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True)
class Task:
    """A fixed pool of examples with class targets; a batch is a random draw from it."""

    inputs: Tensor
    targets: Tensor
    classes: int
    steps: int


# --- tasks -----------------------------------------------------------------------------------------------------------


def task(name: str) -> Task:
    """The task of that name: "vector", "image", "tokens" or "recall-N" (the class is in the first of N steps)."""
    generator = torch.Generator().manual_seed(20)
    if name == "vector":
        x = torch.randn(1024, FEATURES, generator=generator)
        first = torch.randn(FEATURES, 12, generator=generator) / FEATURES**0.5
        second = torch.randn(12, CLASSES, generator=generator)
        return Task(x, (torch.tanh(1.5 * x @ first) @ second).argmax(1), CLASSES, 250)
    if name == "image":
        y = torch.randint(0, CLASSES, (512,), generator=generator)
        return Task(_gratings(y, 12, generator), y, CLASSES, 150)
    if name == "tokens":
        x = torch.randint(0, SYMBOLS, (1024, POSITIONS), generator=generator)
        return Task(x, torch.cat([x[:, :1], x[:, :-1]], 1), SYMBOLS, 250)
    length = int(name.removeprefix("recall-"))
    y = torch.randint(0, CLASSES, (1024,), generator=generator)
    x = 0.3 * torch.randn(1024, length, CLASSES, generator=generator)
    x[:, 0] += 2.0 * F.one_hot(y, CLASSES)
    return Task(x, y, CLASSES, 250)


def _gratings(classes: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Sine gratings of random phase; the class is the orientation."""
    down, right = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = (classes * math.pi / CLASSES).view(-1, 1, 1)
    phase = torch.rand(len(classes), 1, 1, generator=generator) * 2 * math.pi
    image = torch.sin(2 * math.pi / 5 * (torch.cos(angle) * right + torch.sin(angle) * down) + phase)
    return (image + 0.3 * torch.randn(image.shape, generator=generator)).unsqueeze(1)


# --- networks --------------------------------------------------------------------------------------------------------


def scaled(model: nn.Module, gain: float | None) -> nn.Module:
    """Weights from N(0, gain**2 / fan_in) and no biases, heads and embeddings aside; None keeps PyTorch's default."""
    for name, module in model.named_modules():
        if gain is not None and isinstance(module, nn.Linear | nn.Conv2d) and not name.startswith("head"):
            nn.init.normal_(module.weight, 0, gain / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


class Mlp(nn.Module):
    """Linear, norm and activation, ``depth`` times."""

    def __init__(self, depth: int, activation: str, norm: Callable[[int], nn.Module] = nn.Identity) -> None:
        super().__init__()
        sizes = [FEATURES] + [WIDTH] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(norm(WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, CLASSES)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return self.head(x)


class Scaled(nn.Module):
    """A fixed affine map of the input in front of a network, and a fixed factor behind it."""

    def __init__(self, inner: nn.Module, factor: float = 1.0, offset: float = 0.0, after: float = 1.0) -> None:
        super().__init__()
        self.inner, self.factor, self.offset, self.after = inner, factor, offset, after

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        return self.inner(x * self.factor + self.offset) * self.after


class Residual(nn.Module):
    """Two-layer branches on a skip path; ``place`` of the norm: none, pre, post or skip (the skip is normed too)."""

    def __init__(self, depth: int, place: str, branch: float) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, WIDTH)
        self.first = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.norms = nn.ModuleList(nn.Identity() if place == "none" else nn.LayerNorm(WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, CLASSES)
        self.place, self.branch = place, branch

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        x = self.stem(x)
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            inner = x if self.place in ("none", "post") else norm(x)
            grown = (inner if self.place == "skip" else x) + self.branch * second(F.relu(first(inner)))
            x = norm(grown) if self.place == "post" else grown
        return self.head(x)


class Products(nn.Module):
    """Layers of the form value(x) * gate(x): plain products or sigmoid gates, or x * sigmoid(gate(x))."""

    def __init__(self, depth: int, kind: str) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, WIDTH)
        self.values = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, CLASSES)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        x = self.stem(x)
        for value, gate in zip(self.values, self.gates, strict=True):
            if self.kind == "product":
                x = value(x) * gate(x)
            elif self.kind == "sigmoid":
                x = value(x) * torch.sigmoid(gate(x))
            else:
                x = x * torch.sigmoid(value(F.relu(gate(x))))
        return self.head(x)


class ConvNet(nn.Module):
    """3x3 convolutions at one resolution, pooled over space at the end."""

    def __init__(self, depth: int, activation: str, norm: Callable[[int], nn.Module] = nn.Identity) -> None:
        super().__init__()
        sizes = [1] + [CHANNELS] * depth
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(norm(CHANNELS) for _ in range(depth))
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """Tokens to tokens; ``place`` of the norm: pre, post, or none. ``skip`` scales the skip path, 0 removes it."""

    def __init__(
        self, depth: int, place: str, *, skip: float = 1.0, feed_forward: bool = True, scores: float | None = None
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(SYMBOLS, WIDTH)
        self.positions = nn.Parameter(torch.randn(POSITIONS, WIDTH))
        self.mixes = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(depth))
        self.outs = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) if place != "none" else nn.Identity() for _ in range(2 * depth))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(depth if feed_forward else 0)
        )
        self.last = nn.LayerNorm(WIDTH) if place == "pre" else nn.Identity()
        self.head = nn.Linear(WIDTH, SYMBOLS)
        self.place, self.skip = place, skip
        self.scores = 1 / math.sqrt(WIDTH) if scores is None else scores

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        x = self.tokens(x) + self.positions
        for index, (mix, out) in enumerate(zip(self.mixes, self.outs, strict=True)):
            x = self._block(x, self.norms[2 * index], lambda h, mix=mix, out=out: out(self._attend(mix(h))))
            if len(self.feeds):
                x = self._block(x, self.norms[2 * index + 1], self.feeds[index])
        return self.head(self.last(x))

    def _block(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        grown = branch(norm(x) if self.place == "pre" else x)
        if self.skip:
            grown = self.skip * x + grown
        return norm(grown) if self.place == "post" else grown

    def _attend(self, mixed: Tensor) -> Tensor:
        query, key, value = mixed.chunk(3, -1)
        return (query @ key.transpose(-2, -1) * self.scores).softmax(-1) @ value


class Recurrent(nn.Module):
    """A recurrent layer that is read at its last step."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(CLASSES, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits."""
        return self.head(self.cell(x)[0][:, -1])


# --- what is done to them --------------------------------------------------------------------------------------------


def lstm(forget: float) -> nn.Module:
    """An LSTM whose forget gates start at sigmoid(forget)."""
    model = Recurrent(nn.LSTM)
    with torch.no_grad():
        model.cell.bias_ih_l0[WIDTH : 2 * WIDTH] = forget
        model.cell.bias_hh_l0[WIDTH : 2 * WIDTH] = 0
    return model


def rnn(gain: float) -> nn.Module:
    """A tanh RNN whose recurrent weights have that spectral radius (orthogonal)."""
    model = Recurrent(nn.RNN)
    nn.init.orthogonal_(model.cell.weight_hh_l0, gain)
    return model


def gru(update: float) -> nn.Module:
    """A GRU whose update gates keep sigmoid(update) of the state."""
    model = Recurrent(nn.GRU)
    with torch.no_grad():
        model.cell.bias_ih_l0[WIDTH : 2 * WIDTH] = update
    return model


def biased(depth: int, bias: float, layers: int) -> nn.Module:
    """He-initialised ReLU layers, the first ``layers`` of them with a negative bias."""
    model = Mlp(depth, "relu")
    scaled(model, math.sqrt(2))
    for layer in list(model.layers)[:layers]:
        nn.init.constant_(layer.bias, -bias)
    return model


def constant(noise: float, layers: int) -> nn.Module:
    """Four ReLU layers, the last ``layers`` of them with equal weights plus a little noise; with all, the head too."""
    model = Mlp(4, "relu")
    chosen = list(model.layers)[-layers:] + ([model.head] if layers == 4 else [])
    with torch.no_grad():
        for layer in chosen:
            layer.weight.fill_(1 / layer.in_features).add_(noise * torch.randn_like(layer.weight))
            layer.bias.zero_()
    return model


def gained(depth: int, gain: float, activation: str) -> nn.Module:
    """Weight-normalised layers whose gains g all start at ``gain``."""
    model = Mlp(depth, activation)
    for layer in model.layers:
        weight_norm(layer)
        nn.init.constant_(layer.parametrizations.weight.original0, gain)
    return model


def headed(depth: int, std: float) -> nn.Module:
    """He-initialised ReLU layers under a head of small weights; a zero head is a common and good start."""
    model = Mlp(depth, "relu")
    scaled(model, math.sqrt(2))
    nn.init.normal_(model.head.weight, 0, std)
    nn.init.zeros_(model.head.bias)
    return model


def attending(depth: int, gain: float, place: str) -> nn.Module:
    """A transformer whose query and key weights are multiplied by ``gain``."""
    model = Transformer(depth, place)
    with torch.no_grad():
        for mix in model.mixes:
            mix.weight[: 2 * WIDTH] *= gain
    return model
