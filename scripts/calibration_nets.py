"""The networks of the calibration: families over a dose of trouble."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from calibration_models import (
    ConvNet,
    Mlp,
    Products,
    Residual,
    Scaled,
    Transformer,
    attending,
    biased,
    constant,
    gained,
    gru,
    headed,
    lstm,
    rnn,
    scaled,
)
from torch import nn

HE = math.sqrt(2)
NORMS: dict[str, Callable[[int], nn.Module]] = {"bn": nn.BatchNorm1d, "ln": nn.LayerNorm}


@dataclass(frozen=True)
class Net:
    """One network: ``family/dose`` is its name, and the dose grows or shrinks the trouble within the family."""

    family: str
    dose: str
    task: str
    build: Callable[[], nn.Module]

    @property
    def name(self) -> str:
        """Unique over all families."""
        return f"{self.family}/{self.dose}"


def nets() -> Iterator[Net]:
    """All networks, family by family."""
    plain = {
        "relu": (2, 4, 6, 8, 10, 12, 16, 32),
        "gelu": (4, 6, 8, 12),
        "silu": (4, 6, 8, 12),
        "tanh": (4, 8, 12, 16, 20, 28),
        "sigmoid": (1, 2, 3, 4, 6),
    }
    for name, depths in plain.items():
        for depth in depths:
            yield Net(f"mlp-{name}", f"depth-{depth}", "vector", lambda n=name, d=depth: Mlp(d, n))
    for name, gains in {"relu": (0.4, 0.55, 0.7, 0.85, 1, 1.5, 2, 3, 5), "tanh": (0.4, 0.6, 0.8, 1, 2, 4, 8)}.items():
        for gain in gains:
            size = gain * (HE if name == "relu" else 1)
            yield Net(f"gain-{name}", f"gain-{gain}", "vector", lambda n=name, s=size: scaled(Mlp(12, n), s))
    for depth in (2, 4, 6, 8, 12):
        yield Net("conv-relu", f"depth-{depth}", "image", lambda d=depth: ConvNet(d, "relu"))
    for depth in (4, 8, 12):
        yield Net("conv-tanh", f"depth-{depth}", "image", lambda d=depth: ConvNet(d, "tanh"))
    for gain in (0.4, 0.7, 1, 2, 4):
        yield Net("conv-gain", f"gain-{gain}", "image", lambda g=gain: scaled(ConvNet(8, "relu"), g * HE))
    for gain in (0.1, 10):
        yield Net("conv-bn", f"gain-{gain}", "image", lambda g=gain: scaled(ConvNet(8, "relu", nn.BatchNorm2d), g * HE))
    yield from _residuals()
    yield from _tokens()
    yield from _steps()
    yield from _faults()


def _residuals() -> Iterator[Net]:
    for place, branches in {"none": (0.1, 0.5, 1, 1.25, 1.5, 1.75, 2, 3), "pre": (0.1, 5), "post": (0.1, 5)}.items():
        for branch in branches:
            yield Net(
                f"residual-{place}", f"branch-{branch}", "vector",
                lambda p=place, b=branch: scaled(Residual(12, p, b), HE),
            )  # fmt: skip
    for depth in (8, 24):
        yield Net("residual-skip", f"depth-{depth}", "vector", lambda d=depth: Residual(d, "skip", 1.0))
    for depth in (24,):
        yield Net("residual-default", f"depth-{depth}", "vector", lambda d=depth: Residual(d, "none", 1.0))
    for norm, maker in NORMS.items():
        for gain in (0.1, 1, 10):
            yield Net(f"mlp-{norm}", f"gain-{gain}", "vector", lambda m=maker, g=gain: scaled(Mlp(12, "relu", m), g))
        for depth in (24,):
            yield Net(f"mlp-{norm}", f"depth-{depth}", "vector", lambda m=maker, d=depth: Mlp(d, "relu", m))
    for depth in (3, 6, 10):
        yield Net("sigmoid-ln", f"depth-{depth}", "vector", lambda d=depth: Mlp(d, "sigmoid", nn.LayerNorm))


def _tokens() -> Iterator[Net]:
    for place, depths in {"pre": (1, 8), "post": (1, 4, 8)}.items():
        for depth in depths:
            yield Net(f"transformer-{place}", f"depth-{depth}", "tokens", lambda p=place, d=depth: Transformer(d, p))
    for depth in (2, 6):
        yield Net("transformer-none", f"depth-{depth}", "tokens", lambda d=depth: Transformer(d, "none"))
    for depth in (1, 2, 3, 4, 6):
        yield Net(
            "attention-only", f"depth-{depth}", "tokens",
            lambda d=depth: Transformer(d, "none", skip=0.0, feed_forward=False),
        )  # fmt: skip
    for depth in (2, 4):
        yield Net("attention-ln", f"depth-{depth}", "tokens", lambda d=depth: Transformer(d, "post", skip=0.0))
    for skip in (0.1, 0.3, 0.6):
        yield Net("weak-skip", f"skip-{skip}", "tokens", lambda s=skip: Transformer(6, "none", skip=s))
    for gain in (1, 3, 6, 12, 30):
        yield Net("sharp-pre", f"gain-{gain}", "tokens", lambda g=gain: attending(2, g, "pre"))
    for gain in (3, 12, 30):
        yield Net("sharp-none", f"gain-{gain}", "tokens", lambda g=gain: attending(2, g, "none"))


def _steps() -> Iterator[Net]:
    for forget in (-4, -2.5, -1.5, -0.7, 0, 1, 3):
        yield Net("lstm-16", f"forget-{forget}", "recall-16", lambda f=forget: lstm(f))
    for forget in (-4, -1.5, 0):
        yield Net("lstm-6", f"forget-{forget}", "recall-6", lambda f=forget: lstm(f))
    for gain in (0.1, 0.25, 0.5, 0.75, 1, 1.5, 4):
        yield Net("rnn-12", f"gain-{gain}", "recall-12", lambda g=gain: rnn(g))
    for update in (-4, -1.5, 0, 2):
        yield Net("gru-16", f"update-{update}", "recall-16", lambda u=update: gru(u))


def _faults() -> Iterator[Net]:
    for kind, depths in {"product": (1, 2, 3, 5), "sigmoid": (2, 4, 8, 12), "gate": (4, 8, 12, 20)}.items():
        for depth in depths:
            yield Net(f"gated-{kind}", f"depth-{depth}", "vector", lambda k=kind, d=depth: Products(d, k))
    for gain in (1, 2, 4):
        yield Net("product-gain", f"gain-{gain}", "vector", lambda g=gain: scaled(Products(4, "product"), g))
    for gain in (0.1, 0.3, 0.6, 1, 2, 4, 8):
        yield Net("weight-norm", f"gain-{gain}", "vector", lambda g=gain: gained(8, g, "relu"))
    for depth in (1, 2, 4, 6):
        for gain in (1, 3, 6, 12, 30):
            yield Net(
                f"saturated-{depth}", f"gain-{gain}", "vector", lambda d=depth, g=gain: scaled(Mlp(d, "tanh"), g)
            )  # fmt: skip
    for bias in (0, 0.25, 0.5, 0.75, 1, 2):
        yield Net("dead-all", f"bias-{bias}", "vector", lambda b=bias: biased(4, b, 4))
    for bias in (2, 3, 3.5, 4, 4.5, 5, 8):
        yield Net("dead-first", f"bias-{bias}", "vector", lambda b=bias: biased(4, b, 1))
    for noise in (0, 1e-6, 1e-4, 1e-2):
        yield Net("constant-all", f"noise-{noise}", "vector", lambda n=noise: constant(n, 4))
    for layers in (1, 3):
        yield Net("constant-some", f"layers-{layers}", "vector", lambda n=layers: constant(0.0, n))
    for std in (0.0, 1e-4, 1e-2):
        yield Net("small-head", f"std-{std}", "vector", lambda s=std: headed(4, s))
    for offset in (3, 10, 30, 100):
        yield Net("offset", f"mean-{offset}", "vector", lambda o=offset: Scaled(scaled(Mlp(4, "relu"), HE), 1.0, o))
    for factor in (1e-4, 1e-2, 1e2, 1e4):
        yield Net("input-scale", f"factor-{factor:g}", "vector", lambda f=factor: Scaled(Mlp(3, "relu"), f))
    for after in (1e-4, 1e-2, 1e2, 1e4):
        yield Net(
            "output-scale", f"factor-{after:g}", "vector", lambda a=after: Scaled(scaled(Mlp(3, "relu"), HE), after=a)
        )
