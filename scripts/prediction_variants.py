"""The generated cases: small nets over a dose of trouble each, and library models that were broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from prediction_cases import Case, Make, built_from
from prediction_models import (
    MLP,
    Activation,
    ConvNet,
    DenseNet,
    HandNorm,
    Mixer,
    ResidualMLP,
    ResNet,
    UNet,
    identity,
)
from prediction_sequences import HandRecurrent, Recurrent, Transformer, Unrolled
from prediction_surgery import libraries, scaled
from torch import Tensor, nn


def variants() -> Iterator[Case]:
    """All generated cases."""
    for family, make_inputs, cases in (
        ("mlp", _vectors, _mlps()),
        ("conv", _images, _convs()),
        ("joined", _images, _joined()),
        ("mixer", _images, _mixers()),
        ("transformer", _tokens, _transformers()),
    ):
        for name, make in cases:
            yield Case(name, family, built_from(make, make_inputs))
    yield from _recurrent()
    yield from libraries()


def _vectors() -> Tensor:
    return torch.randn(32, 128)


def _images() -> Tensor:
    return torch.randn(4, 3, 16, 16)


def _tokens() -> Tensor:
    return torch.randint(0, 200, (4, 24))


def _mlps() -> Iterator[tuple[str, Make]]:
    he = math.sqrt(2)
    functions: dict[str, tuple[Activation, float]] = {
        "relu": (F.relu, he), "tanh": (torch.tanh, 1.0), "gelu": (F.gelu, he), "selu": (F.selu, 1.0),
        "silu": (F.silu, he), "sigmoid": (torch.sigmoid, 1.0),
    }  # fmt: skip
    for name, (function, gain) in functions.items():
        yield f"mlp30_{name}", lambda f=function, g=gain: MLP(30, 128, f, g)
        yield f"mlp30_{name}_default", lambda f=function: MLP(30, 128, f)
    for name in ("softplus", "softsign", "hardtanh", "elu", "mish", "hardswish", "leaky_relu"):
        yield f"mlp20_{name}", lambda n=name: MLP(20, 128, getattr(F, n), 1.0)
    for factor in (1 / 8, 1 / 4, 1 / 2, 2, 4, 8):
        yield f"mlp12_relu_x{factor:g}", lambda k=factor: MLP(12, 128, F.relu, he * k)
        yield f"mlp12_tanh_x{factor:g}", lambda k=factor: MLP(12, 128, torch.tanh, k)
    for factor in (2, 8):
        yield f"mlp12_gelu_x{factor:g}", lambda k=factor: MLP(12, 128, F.gelu, he * k)
        yield f"mlp12_sigmoid_x{factor:g}", lambda k=factor: MLP(12, 128, torch.sigmoid, k)
    for name in ("selu", "elu", "silu", "leaky_relu", "mish", "hardswish"):
        yield f"mlp16_{name}_x4", lambda n=name: MLP(16, 128, getattr(F, n), 4.0)
    yield "mlp30_relu_default_w512", lambda: nn.Sequential(nn.Linear(128, 512), MLP(30, 512, F.relu))
    yield "mlp30_tanh_x8", lambda: MLP(30, 128, torch.tanh, 8.0)
    yield "mlp100_sigmoid", lambda: MLP(100, 128, torch.sigmoid, 1.0)
    yield "mlp100_relu", lambda: MLP(100, 128, F.relu, he)
    for depth in (12, 48, 96):
        yield f"mlp{depth}_relu_bn", lambda d=depth: MLP(d, 128, F.relu, None, nn.BatchNorm1d)
    yield "mlp48_relu_ln", lambda: MLP(48, 128, F.relu, None, nn.LayerNorm)
    yield "mlp48_relu_handnorm", lambda: MLP(48, 128, F.relu, None, HandNorm)
    yield "mlp24_relu_handbatchnorm", lambda: MLP(24, 128, F.relu, None, lambda w: HandNorm(w, 0))
    yield "mlp24_relu_handbatchnorm_behind", lambda: MLP(24, 128, F.relu, None, lambda w: HandNorm(w, 0), behind=True)
    yield "mlp48_tanh_bn", lambda: MLP(48, 128, torch.tanh, None, nn.BatchNorm1d)
    yield "mlp48_sigmoid_ln", lambda: MLP(48, 128, torch.sigmoid, None, nn.LayerNorm)
    yield "mlp48_leaky_gn", lambda: MLP(48, 128, F.leaky_relu, None, lambda w: nn.GroupNorm(8, w))
    for depth in (24, 96):
        yield f"resmlp{depth}_pre", lambda d=depth: ResidualMLP(d, 128)
        yield f"resmlp{depth}_post", lambda d=depth: ResidualMLP(d, 128, after=True)
        yield f"resmlp{depth}_nonorm", lambda d=depth: ResidualMLP(d, 128, norm=identity)
    yield "resmlp24_bn_pre", lambda: ResidualMLP(24, 128, norm=nn.BatchNorm1d)
    for factor in (2, 4):
        yield f"resmlp24_nonorm_x{factor}", lambda k=factor: scaled(ResidualMLP(24, 128, norm=identity), k)
        yield f"resmlp24_post_x{factor}", lambda k=factor: scaled(ResidualMLP(24, 128, after=True), k)
    yield "resmlp96_nonorm_x2", lambda: scaled(ResidualMLP(96, 128, norm=identity), 2)
    yield "resmlp24_noskip_x8", lambda: scaled(ResidualMLP(24, 128, norm=identity, skip=False), 8)
    yield "resmlp24_noskip", lambda: ResidualMLP(24, 128, skip=False)
    yield "resmlp24_noskip_nonorm", lambda: ResidualMLP(24, 128, norm=identity, skip=False)


def _convs() -> Iterator[tuple[str, Make]]:
    yield "conv20_he", lambda: ConvNet(20, norm=identity)
    yield "conv20_default", lambda: ConvNet(20, norm=identity, he=False)
    for factor in (1 / 4, 1 / 2, 2, 4):
        yield f"conv20_x{factor:g}", lambda k=factor: scaled(ConvNet(20, norm=identity), k)
    for depth in (20, 50):
        yield f"conv{depth}_bn", lambda d=depth: ConvNet(d)
    yield "conv50_gn", lambda: ConvNet(50, norm=lambda w: nn.GroupNorm(4, w))
    yield "conv20_bn_tanh", lambda: ConvNet(20, activation=torch.tanh)
    yield "conv20_bn_sigmoid", lambda: ConvNet(20, activation=torch.sigmoid)
    yield "conv20_sigmoid", lambda: ConvNet(20, norm=identity, activation=torch.sigmoid)
    yield "conv20_he_w96", lambda: ConvNet(20, 96, norm=identity)
    yield "conv20_default_w96", lambda: ConvNet(20, 96, norm=identity, he=False)
    yield "conv24_skip_nonorm_w96", lambda: ConvNet(24, 96, norm=identity, skip=True)
    yield "conv10_elu_x8", lambda: scaled(ConvNet(10, norm=identity, activation=F.elu), 8)
    yield "conv16_skip_bn", lambda: ConvNet(16, skip=True)
    for depth in (16, 48):
        yield f"conv{depth}_skip_nonorm", lambda d=depth: ConvNet(d, norm=identity, skip=True)
    yield "conv16_skip_nonorm_default", lambda: ConvNet(16, norm=identity, skip=True, he=False)
    for blocks in (2, 8):
        yield f"resnet{6 * blocks}", lambda b=blocks: ResNet(b)
        yield f"resnet{6 * blocks}_noskip", lambda b=blocks: ResNet(b, skip=False)
        yield f"resnet{6 * blocks}_nonorm", lambda b=blocks: ResNet(b, norm=identity)
    yield "resnet12_nonorm_noskip", lambda: ResNet(2, norm=identity, skip=False)
    yield "resnet12_nonorm_noskip_x0.5", lambda: scaled(ResNet(2, norm=identity, skip=False), 0.5)
    yield "resnet12_nonorm_x2", lambda: scaled(ResNet(2, norm=identity), 2)
    yield "resnet12_nonorm_x4", lambda: scaled(ResNet(2, norm=identity), 4)
    yield "resnet48_nonorm_x2", lambda: scaled(ResNet(8, norm=identity), 2)
    yield "resnet24_nonorm_noskip_x4", lambda: scaled(ResNet(4, norm=identity, skip=False), 4)
    yield "resnet12_in", lambda: ResNet(2, norm=lambda w: nn.InstanceNorm2d(w, affine=True))


def _joined() -> Iterator[tuple[str, Make]]:
    for stages in (3, 8):
        yield f"dense{stages}", lambda s=stages: DenseNet(s, 4)
        yield f"dense{stages}_nonorm", lambda s=stages: DenseNet(s, 4, norm=identity)
    yield "dense8_nonorm_x8", lambda: scaled(DenseNet(8, 4, norm=identity), 8)
    for factor in (1 / 2, 4):
        yield f"dense3_nonorm_x{factor:g}", lambda k=factor: scaled(DenseNet(3, 4, norm=identity), k)
    yield "unet3", lambda: UNet()
    yield "unet3_nearest", lambda: UNet(nearest=True)
    yield "unet3_nonorm", lambda: UNet(norm=identity)
    yield "unet3_nonorm_x4", lambda: scaled(UNet(norm=identity), 4)
    yield "unet3_deep_nonorm_x4", lambda: scaled(UNet(repeats=8, norm=identity), 4)
    yield "unet3_deep", lambda: UNet(repeats=8)
    yield "unet3_deep_nonorm_nearest", lambda: UNet(repeats=8, norm=identity, nearest=True)


def _mixers() -> Iterator[tuple[str, Make]]:
    for depth in (6, 24):
        yield f"mixer{depth}", lambda d=depth: Mixer(d)
        yield f"mixer{depth}_nonorm", lambda d=depth: Mixer(d, norm=identity)
        yield f"mixer{depth}_noskip", lambda d=depth: Mixer(d, skip=False)
    yield "mixer6_noskip_nonorm", lambda: Mixer(6, norm=identity, skip=False)
    for factor in (4, 8):
        yield f"mixer6_nonorm_x{factor}", lambda k=factor: scaled(Mixer(6, norm=identity), k)
    yield "mixer24_nonorm_x4", lambda: scaled(Mixer(24, norm=identity), 4)
    yield "mixer6_noskip_nonorm_x8", lambda: scaled(Mixer(6, norm=identity, skip=False), 8)
    yield "mixer6_x4", lambda: scaled(Mixer(6), 4)


def _transformers() -> Iterator[tuple[str, Make]]:
    for depth in (6, 24):
        for mode in ("pre", "post", "noskip", "nonorm"):
            yield f"tf{depth}_{mode}", lambda d=depth, m=mode: Transformer(d, m)
    yield "tf48_pre", lambda: Transformer(48, width=48)
    yield "tf12_pre_std.02", lambda: Transformer(12, "pre", std=0.02)
    yield "tf12_post_std.1", lambda: Transformer(12, "post", std=0.1)
    yield "tf12_noskip_std.02", lambda: Transformer(12, "noskip", std=0.02)
    for mode in ("pre", "post", "noskip"):
        yield f"tf12_{mode}_unscaled", lambda m=mode: Transformer(12, m, scale=1.0)
        yield f"tf12_{mode}_x4", lambda m=mode: scaled(Transformer(12, m), 4)
    yield "tf12_post_unscaled_std.2", lambda: Transformer(12, "post", std=0.2, scale=1.0)
    for factor in (1 / 4, 2, 4):
        yield f"tf8_nonorm_x{factor:g}", lambda k=factor: scaled(Transformer(8, "nonorm"), k)
    yield "tf8_nonorm_unscaled_x2", lambda: scaled(Transformer(8, "nonorm", scale=1.0), 2)
    for mode in ("pre", "noskip"):
        yield f"tf12_{mode}_merged", lambda m=mode: Transformer(12, m, merged=True)
        yield f"tf12_{mode}_handsoftmax_x4", lambda m=mode: scaled(Transformer(12, m, by_hand=True), 4)
    for mode in ("pre", "post", "noskip", "nonorm"):
        yield f"tied12_{mode}", lambda m=mode: Transformer(12, m, tied=True)


def _recurrent() -> Iterator[Case]:
    def sequence(length: int) -> Callable[[], Tensor]:
        return lambda: torch.randn(8, length, 32)

    kinds: dict[str, tuple[type[nn.RNNBase], type[nn.RNNCellBase]]] = {
        "lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell), "rnn": (nn.RNN, nn.RNNCell),
    }  # fmt: skip
    for length in (16, 64):
        inputs = sequence(length)
        for name, (layer, cell) in kinds.items():
            whole = built_from(lambda k=layer: Recurrent(k), inputs)
            loop = built_from(lambda k=cell: Unrolled(k), inputs)
            yield Case(f"{name}_T{length}", "recurrent", whole, steps=name)
            yield Case(f"{name}_cells_T{length}", "recurrent", loop, steps=f"{name}_cell")
        for gain, label in ((None, "orthogonal"), (1.0, "x1"), (0.5, "x0.5"), (2.0, "x2"), (4.0, "x4")):
            make = built_from(lambda g=gain: HandRecurrent(g), inputs)
            yield Case(f"hand_rnn_{label}_T{length}", "recurrent", make, steps="tanh")
    for factor in (2, 4):
        for name, (layer, _) in kinds.items():
            make = built_from(lambda k=layer, f=factor: scaled(Recurrent(k), f), sequence(32))
            yield Case(f"{name}_x{factor}_T32", "recurrent", make, steps=name)
