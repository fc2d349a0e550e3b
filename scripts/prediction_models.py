"""Small models whose gradient is known to vanish, explode or stay, for measuring the prediction against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
Case = tuple[str, Callable[[], nn.Module], Callable[[], Tensor]]


class MLP(nn.Module):
    """Linear layers, each with a norm or none, and an activation."""

    def __init__(
        self,
        depth: int,
        width: int,
        activation: Activation,
        gain: float | None = None,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) if norm else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.activation = activation
        if gain is not None:
            for layer in self.layers:
                nn.init.normal_(layer.weight, 0, gain / math.sqrt(width))
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return self.head(x)


class ResidualMLP(nn.Module):
    """Residual blocks of two layers, normalised before the branch or after the sum."""

    def __init__(self, depth: int, width: int, *, norm: bool, after: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = norm(x + second(F.relu(first(x)))) if self.after else x + second(F.relu(first(norm(x))))
        return self.head(x)


class ConvNet(nn.Module):
    """3x3 convolutions with or without norm and skip."""

    def __init__(self, depth: int, width: int, *, norm: bool, skip: bool, he: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.skip = skip
        if he:
            for conv in self.convs:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(x + norm(conv(x))) if self.skip else F.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """Attention and a feed-forward net, wired in one of four ways."""

    def __init__(self, width: int, heads: int, mode: str, scale: float | None) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.mode = heads, mode
        self.scale = scale if scale is not None else math.sqrt(heads / width)

    def attend(self, x: Tensor) -> Tensor:
        """Hand-written multi-head attention."""
        batch, length, width = x.shape
        query, key, value = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        if self.mode == "pre":
            x = x + self.attend(self.first(x))
            return x + self.mlp(self.second(x))
        if self.mode == "post":
            x = self.first(x + self.attend(x))
            return self.second(x + self.mlp(x))
        if self.mode == "noskip":
            return self.mlp(self.second(self.attend(self.first(x))))
        x = x + self.attend(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Blocks on token and position embeddings."""

    def __init__(self, depth: int, mode: str = "pre", std: float | None = None, scale: float | None = None) -> None:
        super().__init__()
        width = 128
        self.embedding = nn.Embedding(500, width)
        self.position = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, 4, mode, scale) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 500)
        for module in self.modules() if std else ():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, 0, std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Run the net."""
        x = self.embedding(ids) + self.position[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    """A recurrent layer read at its last step."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = kind(64, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        return self.head(self.cell(x)[0][:, -1])


class HandNorm(nn.Module):
    """A layer norm spelled out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gain


def _vectors(width: int = 256, batch: int = 32) -> Callable[[], Tensor]:
    return lambda: torch.randn(batch, width)


def _images() -> Tensor:
    return torch.randn(8, 3, 16, 16)


def _tokens() -> Tensor:
    return torch.randint(0, 500, (4, 32))


def cases() -> Iterator[Case]:
    """Name, model and input of every generated variant."""
    he = math.sqrt(2)
    functions: dict[str, tuple[Activation, float]] = {
        "relu": (F.relu, he), "tanh": (torch.tanh, 1.0), "gelu": (F.gelu, he), "selu": (F.selu, 1.0),
        "silu": (F.silu, he), "sigmoid": (torch.sigmoid, 1.0),
    }  # fmt: skip
    for name, (activation, gain) in functions.items():
        yield f"mlp30_{name}", lambda f=activation, g=gain: MLP(30, 256, f, g), _vectors()
        yield f"mlp30_{name}_default", lambda f=activation: MLP(30, 256, f), _vectors()
    yield "mlp100_sigmoid", lambda: MLP(100, 256, torch.sigmoid, 1.0), _vectors()
    yield "mlp10_sigmoid_default", lambda: MLP(10, 256, torch.sigmoid), _vectors()
    yield "mlp20_sigmoid_x4", lambda: MLP(20, 256, torch.sigmoid, 4.0), _vectors()
    yield "mlp100_relu", lambda: MLP(100, 256, F.relu, he), _vectors()
    yield "mlp30_relu_x0.5", lambda: MLP(30, 256, F.relu, he / 2), _vectors()
    yield "mlp30_relu_x2", lambda: MLP(30, 256, F.relu, he * 2), _vectors()
    yield "mlp30_tanh_x2", lambda: MLP(30, 256, torch.tanh, 2.0), _vectors()
    yield "mlp10_tanh_unit", lambda: MLP(10, 256, torch.tanh, 16.0), _vectors()
    yield "mlp10_relu_unit", lambda: MLP(10, 256, F.relu, 16.0), _vectors()
    yield "mlp50_relu_bn", lambda: MLP(50, 256, F.relu, None, nn.BatchNorm1d), _vectors(batch=64)
    yield "mlp50_relu_ln", lambda: MLP(50, 256, F.relu, None, nn.LayerNorm), _vectors()
    yield "mlp50_relu_handnorm", lambda: MLP(50, 256, F.relu, None, HandNorm), _vectors()
    yield "mlp30_tanh_bn", lambda: MLP(30, 256, torch.tanh, None, nn.BatchNorm1d), _vectors(batch=64)
    yield "mlp30_leaky_gn", lambda: MLP(30, 256, F.leaky_relu, None, lambda w: nn.GroupNorm(8, w)), _vectors()
    yield "resmlp24_pre", lambda: ResidualMLP(24, 128, norm=True, after=False), _vectors(128)
    yield "resmlp24_post", lambda: ResidualMLP(24, 128, norm=True, after=True), _vectors(128)
    yield "resmlp24_nonorm", lambda: ResidualMLP(24, 128, norm=False, after=False), _vectors(128)
    yield "conv20_he", lambda: ConvNet(20, 32, norm=False, skip=False), _images
    yield "conv20_default", lambda: ConvNet(20, 32, norm=False, skip=False, he=False), _images
    yield "conv20_bn", lambda: ConvNet(20, 32, norm=True, skip=False), _images
    yield "conv50_bn", lambda: ConvNet(50, 32, norm=True, skip=False), _images
    yield "resconv16_bn", lambda: ConvNet(16, 32, norm=True, skip=True), _images
    yield "resconv16_nobn", lambda: ConvNet(16, 32, norm=False, skip=True), _images
    yield "resconv50_nobn", lambda: ConvNet(50, 32, norm=False, skip=True), _images
    for depth in (6, 24):
        yield f"tf{depth}_pre", lambda d=depth: Transformer(d), _tokens
        yield f"tf{depth}_post", lambda d=depth: Transformer(d, "post"), _tokens
    yield "tf12_nonorm", lambda: Transformer(12, "nonorm"), _tokens
    yield "tf12_noskip", lambda: Transformer(12, "noskip"), _tokens
    yield "tf12_pre_std.02", lambda: Transformer(12, "pre", std=0.02), _tokens
    yield "tf12_post_std.1", lambda: Transformer(12, "post", std=0.1), _tokens
    yield "tf12_pre_unscaled", lambda: Transformer(12, "pre", scale=1.0), _tokens
    yield "tf12_post_unscaled", lambda: Transformer(12, "post", scale=1.0), _tokens
    yield "tf12_post_unscaled_std.1", lambda: Transformer(12, "post", std=0.1, scale=1.0), _tokens
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        yield f"{kind.__name__.lower()}16", lambda k=kind: Recurrent(k), lambda: torch.randn(8, 16, 64)
