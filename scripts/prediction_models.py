"""Small architectures to break in measured ways: the bases of the variants that the prediction is compared on."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
Norm = Callable[[int], nn.Module]


def identity(_width: int) -> nn.Module:
    """No norm."""
    return nn.Identity()


class MLP(nn.Module):
    """Linear layers, each with a norm or none, and an activation; ``gain`` is that of He or LeCun, None torch's own."""

    def __init__(
        self, depth: int, width: int, activation: Activation, gain: float | None = None, norm: Norm = identity
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth))
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
        """Run the block."""
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
    """Blocks on token and position embeddings; ``tied``: one block that is applied ``depth`` times."""

    def __init__(
        self,
        depth: int,
        mode: str = "pre",
        std: float | None = None,
        scale: float | None = None,
        *,
        tied: bool = False,
        width: int = 96,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, width)
        self.position = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, 4, mode, scale) for _ in range(1 if tied else depth))
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


class HandNorm(nn.Module):
    """A layer norm spelled out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the norm."""
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * self.gain


def scaled(model: nn.Module, factor: float, kinds: Sequence[type[nn.Module]] = ()) -> nn.Module:
    """``model`` with all matrices and kernels of its linear, convolutional and recurrent layers times ``factor``."""
    weighted = tuple(kinds) or (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase, nn.RNNCellBase)
    with torch.no_grad():
        for module in model.modules():
            projects = isinstance(module, weighted) or type(module).__name__ == "Conv1D"
            for parameter in module.parameters(recurse=False) if projects else ():
                if parameter.dim() > 1:
                    parameter.mul_(factor)
    return model


def replaced(model: nn.Module, chosen: Callable[[nn.Module], bool], make: Callable[[], nn.Module]) -> nn.Module:
    """``model`` with every module that ``chosen`` names exchanged."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if chosen(child):
                setattr(module, name, make())
    return model


def without_norms(model: nn.Module) -> nn.Module:
    """``model`` with Identity in the place of every norm layer."""
    return replaced(model, lambda module: re.fullmatch(r".*Norm(\dd)?", type(module).__name__) is not None, nn.Identity)


def activated(model: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """``model`` with other activation modules."""
    names = {"ReLU", "ReLU6", "GELU", "SiLU", "Hardswish", "GELUActivation", "NewGELUActivation", "SiLUActivation"}
    return replaced(model, lambda module: type(module).__name__ in names, make)
