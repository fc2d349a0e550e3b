"""Norms over few samples, the gradient along their result, and what lies behind them: against autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_autograd import Apply, drawn, measured, predicted, weight
from torch import Tensor

from stablelint.inputs import Inputs
from stablelint.predict import interpret
from stablelint.predict.domain import Value, pair_mean
from stablelint.predict.transfer.normalization import inverse_moments
from stablelint.trace import trace

IMAGES = (2, 64, 6, 6)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.batch_norm(x, None, None, training=True, eps=eps)


@pytest.mark.parametrize("groups", [32, 128])
@pytest.mark.parametrize(
    ("terms", "eps"), [(1, 0.1), (2, 1e-3), (2, 0.1), (3, 1e-5), (3, 0.1), (7, 1e-5), (15, 1e-5), (15, 0.1), (300, 0.1)]
)
def test_inverse_variance_over_few_terms(terms: int, eps: float, groups: int) -> None:
    """What a layer of ``groups`` units shows, typically: the mean over all draws of chi^2_2 does not even exist."""
    variances = np.random.default_rng(0).chisquare(terms, (1000, groups)) / terms
    inverse = np.exp(np.log((1 / (variances + eps)).mean(1)).mean())
    rest = np.exp(np.log((eps * eps / (variances + eps) ** 3).mean(1)).mean())
    found = inverse_moments(terms, eps, groups)
    assert found[0] == pytest.approx(inverse, rel=0.12)
    assert found[1] == pytest.approx(rest, rel=0.6)


@pytest.mark.parametrize(("samples", "eps", "off"), [(2, 0.05, 0.2), (4, 1e-5, 0.1), (8, 1e-5, 0.05), (32, 1e-5, 0.05)])
def test_batch_norm_of_few_samples(samples: int, eps: float, off: float) -> None:
    """Two samples: y is +1 or -1 whatever x is, and only eps lets a gradient pass. Eight: E[1 / s^2] is 7 / 5."""
    draw = drawn(lambda x, w: norm(x @ w, eps), (samples, 128), w=lambda: weight(128, 128))
    assert predicted(draw).gradient == pytest.approx(measured(draw, 40, geometric=True).gradient, rel=off)


def test_two_batch_norms_of_eight_samples() -> None:
    draw = drawn(
        lambda x, w, v: norm(norm(x @ w).relu() @ v), (8, 128), w=lambda: weight(128, 128), v=lambda: weight(128, 128)
    )
    assert predicted(draw).gradient == pytest.approx(measured(draw, 30).gradient, rel=0.08)


#: Each ends in a mean over places, so that the gradient at y is alike wherever the ReLU lets it through.
POOLED: dict[str, tuple[Callable[..., Tensor], dict[str, Callable[[], Tensor]]]] = {
    "relu": (lambda x: norm(x).relu().mean((2, 3)), {}),
    "gain": (lambda x, gain: (norm(x).relu() * gain).mean((2, 3)), {"gain": lambda: torch.rand(64, 1, 1) + 1}),
    "zero bias": (lambda x, b: (norm(x) + b).relu().mean((2, 3)), {"b": lambda: torch.zeros(64, 1, 1)}),
}


@pytest.mark.parametrize("name", POOLED)
def test_gradient_along_the_result_of_a_norm(name: str) -> None:
    """<g, y> does not average out behind a ReLU, and the norm takes it away: a quarter of g^2 for two samples."""
    function, weights = POOLED[name]
    draw = drawn(function, IMAGES, **weights)
    assert predicted(draw).gradient == pytest.approx(measured(draw, 30).gradient, rel=0.13)


def test_layer_norm_of_few_units() -> None:
    draw = drawn(lambda x: F.layer_norm(x, (8,)).relu().sum(-1), (64, 8))
    assert predicted(draw).gradient == pytest.approx(measured(draw, 60).gradient, rel=0.1)


def along(function: Callable[..., Tensor], shape: tuple[int, ...], **weights: Callable[[], Tensor]) -> list[float]:
    """E[(mean of g y over a channel)^2] over E[g^2] for the first norm of a model: predicted and measured."""
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        kept: list[Tensor] = []

        def run(x: Tensor, *rest: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(norm(x))
            return function(kept[-1], *rest)

        model = Apply(run, **{name: make() for name, make in weights.items()}).double()
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        out = model(x)
        (g,) = torch.autograd.grad(out, kept[0], torch.randn_like(out))
        product = g * kept[0].detach()
        shares.append(float(product.mean((0, 2, 3)).pow(2).mean() / g.pow(2).mean()))
    graph = trace(model, Inputs(x.detach())).graph
    value = interpret(graph).values[next(op.index for op in graph if op.name == "batch_norm")]
    assert isinstance(value, Value)
    assert value.joint is not None
    assert value.cotangent is not None
    mean = pair_mean(value.joint, (0, 2, 3), shape)
    return [float(mean.flat[-1] / value.cotangent.flat[-1]), float(np.mean(shares))]


@pytest.mark.parametrize("units", [8, 16])
def test_norm_behind_a_norm(units: int) -> None:
    """Its variance is 1 in every group, though it is one of few terms: only the first norm's varies."""
    draw = drawn(lambda x: F.layer_norm(F.layer_norm(x, (units,)), (units,)), (256, units))
    assert predicted(draw).gradient == pytest.approx(measured(draw, 10).gradient, rel=0.05)


def depthwise(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, padding=1, groups=16)


SMALL = (8, 16, 8, 8)


def test_no_gradient_changes_the_size_of_what_a_norm_reads() -> None:
    """Through a depthwise convolution, which is linear in the one channel that it reads, in front of a norm."""
    guess, truth = along(lambda y, w: norm(depthwise(y, w)), SMALL, w=lambda: weight(16, 1, 3, 3))
    assert truth < 1e-8
    assert guess < 1e-4, "independent of y it would be 1 / 512"


ALONG: dict[str, tuple[Callable[..., Tensor], float, dict[str, Callable[[], Tensor]]]] = {
    "relu": (lambda y: y.relu().mean((2, 3)), 0.06, {}),
    "max pool": (lambda y: F.max_pool2d(y, 2).mean((2, 3)), 0.3, {}),
    "depthwise": (lambda y, w: depthwise(y.relu(), w).mean((2, 3)), 0.2, {"w": lambda: weight(16, 1, 3, 3)}),
}


@pytest.mark.parametrize("name", ALONG)
def test_gradient_along_what_is_rectified_or_picked(name: str) -> None:
    """Winners and what a ReLU lets through are large, so that g y has a mean; independent of y it would be 1 / 512."""
    function, off, weights = ALONG[name]
    guess, truth = along(function, SMALL, **weights)
    assert guess == pytest.approx(truth, rel=off)
    assert truth > 0.02


def test_depthwise_convolution_between_norms() -> None:
    draw = drawn(
        lambda x, w: norm(F.conv2d(norm(x), w, padding=1, groups=64)), (4, 64, 8, 8), w=lambda: weight(64, 1, 3, 3)
    )
    assert predicted(draw).gradient == pytest.approx(measured(draw, 20).gradient, rel=0.06)


@pytest.mark.parametrize("axes", ["batch", "layer", "group", "instance", "rms"])
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (2.0, 0.5), (-1.0, 7.0)])
def test_norms_of_any_mean_and_size(axes: str, mean: float, scale: float) -> None:
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "batch": norm,
        "layer": lambda x: F.layer_norm(x, x.shape[1:]),
        "group": lambda x: F.group_norm(x, 4),
        "instance": lambda x: F.instance_norm(x),
        "rms": lambda x: F.rms_norm(x, x.shape[1:]),
    }
    draw = drawn(lambda x: functions[axes](scale * x + mean), (6, 8, 5, 5))
    truth, guess = measured(draw, 20), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.02)
    assert guess.alike == pytest.approx(truth.alike, abs=0.03)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.06)
