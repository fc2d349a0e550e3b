"""Small nets to break in measured ways: multilayer perceptrons, convolutions, concatenations, mixers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
Norm = Callable[[int], nn.Module]


def identity(_width: int) -> nn.Module:
    """No norm."""
    return nn.Identity()


class MLP(nn.Module):
    """Linear layers, each with a norm or none, and an activation; ``gain`` is that of He or LeCun, None torch's own.

    With ``behind`` the norm comes behind the activation.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        activation: Activation,
        gain: float | None = None,
        norm: Norm = identity,
        *,
        behind: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.activation, self.behind = activation, behind
        if gain is not None:
            for layer in self.layers:
                nn.init.normal_(layer.weight, 0, gain / math.sqrt(width))
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(self.activation(layer(x))) if self.behind else self.activation(norm(layer(x)))
        return self.head(x)


class ResidualMLP(nn.Module):
    """Residual blocks of two layers, normalised before the branch, after the sum or not at all."""

    def __init__(
        self, depth: int, width: int, *, norm: Norm = nn.LayerNorm, after: bool = False, skip: bool = True
    ) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.after, self.skip = after, skip

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            kept = x if self.skip else 0.0
            x = norm(kept + second(F.relu(first(x)))) if self.after else kept + second(F.relu(first(norm(x))))
        return self.head(x)


class ConvNet(nn.Module):
    """3x3 convolutions with or without norm and skip."""

    def __init__(
        self,
        depth: int,
        width: int = 24,
        *,
        norm: Norm = nn.BatchNorm2d,
        skip: bool = False,
        he: bool = True,
        activation: Activation = F.relu,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.skip, self.activation = skip, activation
        if he:
            for conv in self.convs:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(x + norm(conv(x))) if self.skip else self.activation(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Stage(nn.Module):
    """A residual block of two convolutions with a projected shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm, skip: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([norm(after), norm(after)])
        changed = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changed else nn.Identity()
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.shortcut(x)) if self.skip else F.relu(y)


class ResNet(nn.Module):
    """Three stages that halve the resolution, He initialised."""

    def __init__(self, blocks: int, *, norm: Norm = nn.BatchNorm2d, skip: bool = True, width: int = 16) -> None:
        super().__init__()
        widths = [width] * (blocks + 1) + [2 * width] * blocks + [4 * width] * blocks
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stages = nn.Sequential(
            *(Stage(a, b, 2 if a != b else 1, norm, skip) for a, b in itertools.pairwise(widths))
        )
        self.head = nn.Linear(4 * width, 10)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class DenseNet(nn.Module):
    """Every layer reads the concatenation of all before it; ``layers`` between two transitions."""

    def __init__(self, stages: int, layers: int, *, growth: int = 8, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norms, self.convs, self.mixes = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(stages):
            for _ in range(layers):
                self.norms.append(norm(width))
                self.convs.append(nn.Conv2d(width, growth, 3, padding=1))
                width += growth
            self.mixes.append(nn.Conv2d(width, width // 2, 1))
            width //= 2
        self.head = nn.Linear(width, 10)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        x = self.stem(x)
        for place, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
            if (place + 1) % self.layers == 0:
                x = self.mixes[place // self.layers](x)
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Down by max-pooling, up by transposed convolutions or nearest neighbours, joined with the way down."""

    def __init__(
        self, levels: int = 3, repeats: int = 2, *, width: int = 8, norm: Norm = nn.BatchNorm2d, nearest: bool = False
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(
            self._convs(a, b, repeats, norm) for a, b in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2 * a, a, 1))
            if nearest
            else nn.ConvTranspose2d(2 * a, a, 2, 2)
            for a in widths[:-1]
        )
        self.up = nn.ModuleList(self._convs(2 * a, a, repeats, norm) for a in widths[:-1])
        self.head = nn.Conv2d(width, 4, 1)

    @staticmethod
    def _convs(before: int, after: int, repeats: int, norm: Norm) -> nn.Sequential:
        layers: list[nn.Module] = []
        for place in range(repeats):
            layers += [nn.Conv2d(after if place else before, after, 3, padding=1), norm(after), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        kept: list[Tensor] = []
        for place, convs in enumerate(self.down):
            x = convs(F.max_pool2d(x, 2) if place else x)
            kept.append(x)
        for place in reversed(range(len(self.up))):
            x = self.up[place](torch.cat([kept[place], self.grow[place](x)], 1))
        return self.head(x)


class Mixer(nn.Module):
    """MLP-mixer: a net over tokens and one over channels in turn."""

    def __init__(self, depth: int, *, norm: Norm = nn.LayerNorm, skip: bool = True, width: int = 48) -> None:
        super().__init__()
        tokens = 16
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.tokens = nn.ModuleList(self._net(tokens) for _ in range(depth))
        self.channels = nn.ModuleList(self._net(width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(2 * depth))
        self.head = nn.Linear(width, 10)
        self.skip = skip

    @staticmethod
    def _net(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        for place, (tokens, channels) in enumerate(zip(self.tokens, self.channels, strict=True)):
            mixed = tokens(self.norms[2 * place](x).transpose(1, 2)).transpose(1, 2)
            x = x + mixed if self.skip else mixed
            fed = channels(self.norms[2 * place + 1](x))
            x = x + fed if self.skip else fed
        return self.head(x.mean(1))


class HandNorm(nn.Module):
    """A layer norm spelled out, or with ``axis`` 0 a batch norm."""

    def __init__(self, width: int, axis: int = -1) -> None:
        super().__init__()
        self.gain, self.axis = nn.Parameter(torch.ones(width)), axis

    def forward(self, x: Tensor) -> Tensor:
        """Run the norm."""
        centred = x - x.mean(self.axis, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(self.axis, keepdim=True) + 1e-5) * self.gain
