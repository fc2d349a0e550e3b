"""What the probe measures, against the same number computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.probe import measure
from stablelint.probe.draw import PROJECTION
from stablelint.probe.kernel import tangent_kernel
from stablelint.signals import Signal, Signals
from stablelint.trace import trace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def row(signals: Signals, name: str, module: str = "") -> Signal:
    return next(row for row in signals.rows if row.name == name and (not module or row.site.module == module))


def test_gradient_and_sensitivity_of_a_linear_chain_equal_those_of_autograd() -> None:
    first, second = nn.Linear(16, 32, bias=False), nn.Linear(32, 8, bias=False)
    x = torch.randn(64, 16)
    _, signals = measure(nn.Sequential(first, second), Inputs(x), seeds=1)
    hidden = first(x).detach()
    projection = torch.randn(64, 8, generator=torch.Generator().manual_seed(PROJECTION))
    grad = projection @ second.weight.detach()
    measured = row(signals, "linear", "0")
    assert measured.rms == pytest.approx(float(hidden.square().mean().sqrt()), rel=1e-5)
    assert measured.grad_rms == pytest.approx(float(grad.square().mean().sqrt()), rel=1e-5)
    reference = float(projection.square().mean().sqrt())
    expected = measured.rms * measured.grad_rms / reference * math.sqrt(hidden.numel() / projection.numel())
    assert measured.sensitivity == pytest.approx(expected, rel=1e-5)


def test_sensitivity_is_the_change_of_the_output_per_relative_change_of_an_op() -> None:
    first, second = nn.Linear(64, 64), nn.Sequential(nn.Tanh(), nn.Linear(64, 64))
    x = torch.randn(256, 64)
    _, signals = measure(nn.Sequential(first, *second), Inputs(x), seeds=1)
    with torch.no_grad():
        hidden = first(x)
        size, step = float(hidden.square().mean().sqrt()), 1e-3
        moved = second(hidden + step * size * torch.randn_like(hidden)) - second(hidden)
    assert row(signals, "linear", "0").sensitivity == pytest.approx(
        float(moved.square().mean().sqrt()) / step, rel=0.05
    )


def test_a_norm_behind_makes_sensitivity_independent_of_the_scale_in_front() -> None:
    found = []
    for scale in (0.01, 1.0, 100.0):
        torch.manual_seed(0)
        layer = nn.Linear(32, 32, bias=False)
        layer.weight.data *= scale
        _, signals = measure(nn.Sequential(layer, nn.LayerNorm(32, eps=1e-12)), Inputs(torch.randn(32, 32)), seeds=1)
        found.append(row(signals, "linear", "0").sensitivity)
    assert found == pytest.approx([found[1]] * 3, rel=1e-3)


def test_tangent_kernel_equals_the_dense_one() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))
    x, projection = torch.randn(8, 6), torch.randn(1, 3).expand(8, 3)
    found = tangent_kernel(model(x), projection, list(model.parameters()))
    assert found is not None
    rows = []
    for sample in x:
        value = (model(sample[None]) * projection[:1]).sum() / math.sqrt(3)
        rows.append([grad.reshape(-1).double() for grad in torch.autograd.grad(value, list(model.parameters()))])
    plain = sum(torch.stack(t) @ torch.stack(t).T for t in zip(*rows, strict=True))
    scaled = sum(
        torch.stack(t) @ torch.stack(t).T / (torch.stack(t).square().mean().sqrt() + 1e-8)
        for t in zip(*rows, strict=True)
    )
    centring = torch.eye(8, dtype=torch.float64) - 1 / 8
    top = torch.linalg.eigvalsh(scaled)[-1]
    assert found.sharpness == pytest.approx(float(torch.linalg.eigvalsh(plain)[-1]), rel=1e-4)
    assert found.discrimination == pytest.approx(
        float(torch.linalg.eigvalsh(centring @ scaled @ centring)[-1] / top), rel=1e-3
    )


def test_samples_that_look_alike_have_no_discrimination() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    alike = torch.randn(1, 8).expand(8, 8) + 1e-6 * torch.randn(8, 8)
    _, collapsed = measure(model, Inputs(alike), seeds=1)
    _, healthy = measure(model, Inputs(torch.randn(8, 8)), seeds=1)
    assert collapsed.discrimination is not None
    assert healthy.discrimination is not None
    assert collapsed.discrimination < 1e-6 < 0.05 < healthy.discrimination


@pytest.mark.parametrize("forget", [-4.0, 0.0, 4.0])
def test_retention_of_an_lstm_follows_its_forget_gate(forget: float) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 32, batch_first=True)
            for name, parameter in self.rnn.named_parameters():
                nn.init.zeros_(parameter) if "bias" in name or "hh" in name else None
            self.rnn.bias_hh_l0.data[32:64] = forget

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x)[0][:, -1]

    _, signals = measure(Last(), Inputs(0.01 * torch.randn(8, 30, 4)), seeds=1)
    assert row(signals, "lstm").retention == pytest.approx(1 / (1 + math.exp(-forget)), rel=0.02)


def test_exponents_are_measured_as_they_are_predicted() -> None:
    """One table, two producers: the slopes of a stack of 20 sigmoid layers and the block where its gradient breaks."""
    layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.Sigmoid())]
    model = nn.Sequential(*layers)
    _, measured = measure(model, Inputs(torch.randn(32, 256)), seeds=1)
    predicted = predict(trace(model, Inputs(torch.randn(32, 256))).graph)
    assert measured.gradient_exponent == pytest.approx(predicted.gradient_exponent, abs=0.02)
    assert measured.angle_exponent == pytest.approx(predicted.angle_exponent, abs=0.1)
    assert measured.breaks is not None
    assert predicted.breaks is not None
    assert measured.breaks.signal.op == predicted.breaks.signal.op


def test_dead_units_are_counted_over_the_batch() -> None:
    layer = nn.Linear(8, 10)
    layer.bias.data[:7] = -100
    layer.bias.data[7:] = 100
    _, signals = measure(nn.Sequential(layer, nn.ReLU(), nn.Linear(10, 2)), Inputs(torch.randn(16, 8)), seeds=1)
    assert row(signals, "relu").dead == pytest.approx(0.7)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_peak_of_a_known_row(fused: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = k = x
            if fused:
                return nn.functional.scaled_dot_product_attention(q, k, self.v(x), is_causal=True, scale=1.0)
            scores = q @ k.transpose(-2, -1)
            future = torch.ones(3, 3, dtype=torch.bool).triu(1)
            return scores.masked_fill(future, -math.inf).softmax(-1) @ self.v(x)

    x = torch.eye(3, 4).expand(2, 3, 4) * math.sqrt(math.log(3))
    _, signals = measure(Attention(), Inputs(x), seeds=1)
    found = row(signals, "scaled_dot_product_attention" if fused else "softmax")
    # rows see 1, 2 and 3 tokens; the first says nothing; weights are 3:1 and 3:1:1
    assert found.peak == pytest.approx((3 / 4 + 3 / 5) / 2, rel=1e-4)
    assert found.uniform_peak == pytest.approx((1 / 2 + 1 / 3) / 2, rel=1e-4)


def test_first_nan_of_the_forward_pass_is_placed_at_its_op() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(self.fc(x)).exp() * 2

    _, signals = measure(Net(), Inputs(torch.randn(8, 4)), seeds=1)
    assert signals.nonfinite is not None
    assert (signals.nonfinite.name, signals.nonfinite.direction) == ("log", "forward")


def test_infinite_gradient_is_placed_at_the_op_that_makes_it() -> None:
    class Net(nn.Module):
        def __init__(self, rectified: bool) -> None:
            super().__init__()
            self.fc, self.rectified = nn.Linear(4, 4, bias=False), rectified

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.fc(x)
            hidden = hidden.relu() if self.rectified else hidden
            return hidden.square().sum(-1).sqrt()

    x = torch.randn(8, 4)
    x[3] = 0
    _, signals = measure(Net(rectified=False), Inputs(x), seeds=1)
    assert signals.nonfinite is not None
    assert (signals.nonfinite.name, signals.nonfinite.direction) == ("sqrt", "backward")
    assert not signals.nonfinite.masked
    _, hidden = measure(Net(rectified=True), Inputs(x), seeds=1)
    assert hidden.nonfinite is not None
    assert hidden.nonfinite.masked


def test_a_zero_head_wakes_up_and_an_all_zero_net_does_not() -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    head, everything = net(), net()
    nn.init.zeros_(head[2].weight)
    for parameter in everything.parameters():
        nn.init.zeros_(parameter)
    _, woken = measure(head, Inputs(torch.randn(8, 8)), seeds=1)
    _, dead = measure(everything, Inputs(torch.randn(8, 8)), seeds=1)
    assert woken.awakened == 1
    assert row(woken, "linear", "0").grad_rms > 0
    assert dead.awakened == 0
    assert row(dead, "linear", "0").grad_rms == 0


def test_frozen_batch_norm_is_measured_with_the_statistics_of_the_batch() -> None:
    class FrozenNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(4))
            self.register_buffer("running_var", torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.running_mean[:, None, None]) * (self.running_var[:, None, None] + 1e-5).rsqrt()

    conv = nn.Conv2d(3, 4, 3)
    conv.weight.data *= 50
    _, signals = measure(nn.Sequential(conv, FrozenNorm()), Inputs(torch.randn(4, 3, 8, 8)), seeds=1)
    assert signals.trunk[-1].rms == pytest.approx(1.0, rel=0.01)


def test_a_loss_of_the_model_counts_from_its_logits() -> None:
    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.head(self.fc(x).relu())
            return nn.functional.cross_entropy(logits, y), logits

    _, signals = measure(WithLoss(), Inputs(torch.randn(8, 8), torch.randint(5, (8,))), seeds=1)
    logits = row(signals, "linear", "head")
    assert logits.sensitivity == pytest.approx(logits.rms)
    assert row(signals, "cross_entropy").sensitivity is None


def test_seeds_are_averaged_and_reproducible() -> None:
    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)), Inputs(torch.randn(8, 8))

    results = [measure(*rebuild(0), rebuild=rebuild, seeds=3)[1].summary() for _ in range(2)]
    assert results[0] == results[1]
    assert results[0]["seeds"] == 3
