"""Whole models: gradients that are known to vanish, explode or stay."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.signals import Signals
from stablelint.trace import trace


class MLP(nn.Module):
    def __init__(
        self,
        depth: int,
        activation: Callable[[Tensor], Tensor],
        gain: float | None,
        norm: Callable[[int], nn.Module] = lambda _: nn.Identity(),
        width: int = 256,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth))
        self.activation = activation
        for layer in self.layers if gain is not None else ():
            nn.init.normal_(layer.weight, 0, gain / math.sqrt(width))
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return x


class Transformer(nn.Module):
    def __init__(self, depth: int, scale: float = 1.0) -> None:
        super().__init__()
        layers = [nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True, norm_first=True) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            nn.init.normal_(layer.self_attn.in_proj_weight, 0, scale / 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def signals(model: nn.Module, *shape: int) -> Signals:
    return predict(trace(model, Inputs(torch.randn(shape))).graph)


def decades(found: Signals) -> float:
    ratio = found.gradient_ratio
    assert ratio is not None
    return math.log10(ratio)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("activation", "gain", "depth", "expected"),
    [
        pytest.param(torch.sigmoid, 1.0, 100, -62.1, id="100 sigmoid layers"),
        pytest.param(F.relu, math.sqrt(2), 50, 0.0, id="He initialisation"),
        pytest.param(F.relu, None, 30, -11.3, id="default initialisation loses a factor 1/sqrt(6) per layer"),
        pytest.param(torch.tanh, 2.0, 30, 1.85, id="chaotic tanh"),
        pytest.param(F.selu, 1.0, 50, 0.75, id="selu"),
    ],
)
def test_plain_stack(activation: Callable[[Tensor], Tensor], gain: float | None, depth: int, expected: float) -> None:
    found = signals(MLP(depth, activation, gain), 32, 256)
    assert decades(found) == pytest.approx(expected, abs=max(0.35, 0.02 * abs(expected)))


def test_batch_norm_with_relu_explodes_by_pi_over_pi_minus_one_per_layer() -> None:
    found = signals(MLP(50, F.relu, None, nn.BatchNorm1d), 64, 256)
    assert decades(found) == pytest.approx(49 * 0.5 * math.log10(math.pi / (math.pi - 1)), abs=0.5)


def _gauss_mean(function: Callable[[Tensor], Tensor]) -> float:
    """E[f(z)] for z ~ N(0, 1), by the trapezoidal rule, which is exact to float precision for a Gaussian."""
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    weights = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    return float((weights * function(z)).sum())


def _sigmoid_chi(weight_variance: float) -> float:
    """w E[phi'(sqrt(q) z)^2] at the fixed point q = w E[phi(sqrt(q) z)^2] (Schoenholz et al. 2017, eq. 3 and 5)."""
    q = 1.0
    for _ in range(100):
        root = math.sqrt(q)
        q = weight_variance * _gauss_mean(lambda z, root=root: torch.sigmoid(root * z) ** 2)
    root = math.sqrt(q)
    return weight_variance * _gauss_mean(lambda z: (torch.sigmoid(root * z) * torch.sigmoid(-root * z)) ** 2)


def test_a_sigmoid_chain_loses_chi_of_the_gradient_and_of_the_dissimilarity() -> None:
    """Both exponents follow from chi: its half for the gradient's rms, all of it for 1 - cosine."""
    found, chi = signals(MLP(20, torch.sigmoid, 1.0), 32, 256), _sigmoid_chi(1.0)
    assert found.gradient_exponent == pytest.approx(0.5 * math.log(chi), abs=0.02)
    assert found.gradient_exponent < math.log(1 / 4), "a slope is at most 1/4"
    assert found.angle_exponent == pytest.approx(math.log(chi), rel=0.06)  # the first layers lie above


def test_he_initialisation_has_exponent_zero() -> None:
    found = signals(MLP(50, F.relu, math.sqrt(2)), 32, 256)
    assert found.gradient_exponent == pytest.approx(0.0, abs=0.01)
    assert -0.15 < found.angle_exponent < 0, "samples become alike, but by a power of the depth only"
    assert found.breaks is None


def test_batch_norm_with_relu_has_the_exponent_of_yang() -> None:
    """Yang et al. 2019, arXiv:1902.08129: sqrt(pi / (pi - 1)) per layer, and samples stay apart."""
    found = signals(MLP(30, F.relu, None, nn.BatchNorm1d), 64, 256)
    assert found.gradient_exponent == pytest.approx(0.5 * math.log(math.pi / (math.pi - 1)), abs=0.01)
    assert found.angle_exponent == pytest.approx(0.0, abs=0.01)


def test_the_block_of_one_tiny_weight_is_where_the_gradient_breaks() -> None:
    model = MLP(12, F.relu, math.sqrt(2))
    with torch.no_grad():
        model.layers[7].weight.mul_(8e-4)
    found = signals(model, 32, 256).breaks
    assert found is not None
    assert (found.signal.block, found.signal.site.module) == (7, "layers.7")
    assert found.factor == pytest.approx(8e-4, rel=0.2)


def test_pre_norm_transformer_is_flat() -> None:
    found = signals(Transformer(8), 4, 16, 64)
    assert abs(decades(found)) < 0.5


def test_large_logits_put_attention_on_one_token() -> None:
    calm, sharp = (
        max(row.peak for row in signals(Transformer(2, scale), 4, 16, 64).rows if row.peak is not None)
        for scale in (0.5, 4.0)
    )
    assert calm < 0.2
    assert sharp > 0.7


def test_a_deep_stack_without_skips_makes_samples_alike() -> None:
    rows = signals(MLP(50, F.relu, math.sqrt(2)), 32, 256).rows
    similar = [row.similarity for row in rows if row.similarity is not None]
    assert similar[0] < 0.1
    assert similar[-1] > 0.95


def test_dead_units_behind_a_negative_bias() -> None:
    model = MLP(1, F.relu, 1.0)
    nn.init.constant_(model.layers[0].bias, -6.0)
    dead = [row.dead for row in signals(model, 64, 256).rows if row.dead is not None]
    assert dead == [pytest.approx(1.0, abs=1e-3)]


def test_saturated_share_of_a_wide_sigmoid() -> None:
    narrow, wide = (
        next(row.saturated for row in signals(MLP(1, torch.sigmoid, gain), 64, 256).rows if row.name == "sigmoid")
        for gain in (0.5, 50.0)
    )
    assert narrow is not None
    assert wide is not None
    assert narrow < 1e-6
    assert wide == pytest.approx(0.9, abs=0.05)


def test_sensitivity_of_the_output_to_itself_is_its_rms() -> None:
    row = signals(MLP(3, F.relu, 1.0), 8, 256).trunk[-1]
    assert row.sensitivity == pytest.approx(row.rms)


def test_parameter_gradients_agree_with_autograd() -> None:
    model = MLP(6, torch.tanh, 1.2)
    x = torch.randn(32, 256)
    rows = {row.name: row.grad_rms for row in predict(trace(model, Inputs(x)).graph).parameters}
    y = model(x)
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert rows[name] == pytest.approx(float(parameter.grad.pow(2).mean().sqrt()), rel=0.25), name


def test_class_token_receives_the_gradient() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 64))
            self.layers = Transformer(2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1) + 0.1, x], 1)
            return self.layers(x)[:, 0]

    measured, guesses = [], []
    for seed in range(6):  # one draw of the weights is off by 10%
        torch.manual_seed(seed)
        model, x = Classifier(), torch.randn(4, 16, 64, requires_grad=True)
        graph = trace(model, Inputs(x.detach())).graph
        guesses.append(next(row.grad_rms for row in predict(graph).rows if row.name == "input"))
        y = model(x)
        (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
        measured.append(float(gradient.pow(2).mean().sqrt()))
    assert sum(guesses) == pytest.approx(sum(measured), rel=0.25)


def test_joined_channels_of_different_size_are_normalised_each_by_its_own() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(128)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(torch.cat([0.1 * x, 10 * x.flip(1)], 1))

    model, x = Dense(), torch.randn(64, 64, requires_grad=True)
    graph = trace(model, Inputs(x.detach())).graph
    guess = next(row.grad_rms for row in predict(graph).rows if row.name == "input")
    y = model(x)
    (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert guess == pytest.approx(float(gradient.pow(2).mean().sqrt()), rel=0.1)


@pytest.mark.parametrize(("kind", "kept"), [(nn.LSTM, 0.574), (nn.GRU, 0.588), (nn.RNN, 0.486)])
def test_gradient_decays_through_time(kind: type[nn.RNNBase], kept: float) -> None:
    """``kept`` was measured over 6 seeds; the first steps on the way back count, not yet the spectral radius."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(32, 64, batch_first=True)  # type: ignore[call-arg]

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x)[0][:, -1]

    rows = signals(Last(), 8, 20, 32).rows
    assert [row.retention for row in rows if row.retention is not None] == [pytest.approx(kept, abs=0.03)]
