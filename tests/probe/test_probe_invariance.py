"""Parameters that may be scaled or shifted without effect, told by the derivative along that change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.signals import ParameterSignal


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def parameters(model: nn.Module, *inputs: torch.Tensor) -> dict[str, ParameterSignal]:
    _, signals = measure(model, Inputs(*inputs), seeds=1)
    return {each.name: each for each in signals.parameters}


def moved(model: nn.Module, x: torch.Tensor, name: str, change: str) -> float:
    """How far a change of a parameter moves the output, as a share of its size, in double precision."""
    model, x = model.double(), x.double()
    with torch.no_grad():
        before = model(x)
        parameter = dict(model.named_parameters())[name]
        parameter.mul_(1.5) if change == "scale" else parameter.add_(0.5)
        return float((model(x) - before).norm() / before.norm())


def convolutional() -> tuple[nn.Module, torch.Tensor]:
    layers = [
        layer
        for place in range(3)
        for layer in (nn.Conv2d(8 if place else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), torch.randn(8, 3, 16, 16)


def normalised() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 10)), torch.randn(16, 16)


CASES = {
    "weight in front of a batch norm": (convolutional, "0.weight", "scale"),
    "bias in front of a batch norm": (convolutional, "3.bias", "shift"),
    "gain whose channels go through the next batch norm": (convolutional, "1.weight", "scale"),
    "head": (convolutional, "11.weight", ""),
    "bias of the last norm": (convolutional, "7.bias", ""),
    "bias in front of a layer norm": (normalised, "0.bias", "shift"),
    "weight with a bias in front of a layer norm": (normalised, "0.weight", ""),
    "gain behind": (normalised, "1.weight", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_effect_is_found_and_has_none(case: str) -> None:
    build, name, expected = CASES[case]
    model, x = build()
    found = parameters(model, x)[name]
    assert found.invariance == expected
    assert not expected or found.relative is None
    if expected:
        assert moved(*build(), name, expected) < 1e-3
    else:  # a matrix is asked for its scale alone
        assert moved(*build(), name, "scale" if found.matrix or found.rms else "shift") > 0.01


def test_the_bias_of_the_keys_has_no_effect() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.query(x) @ self.key(x).transpose(-2, -1) / 4
            return scores.softmax(-1) @ self.value(x)

    found = parameters(Attention(), torch.randn(4, 8, 16))
    assert {name for name, each in found.items() if each.invariance} == {"key.bias"}


def test_nothing_is_left_out_of_networks_without_norms() -> None:
    for seed in range(12):
        torch.manual_seed(seed)
        model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(32, 32), nn.Tanh())), nn.Linear(32, 4))
        assert not [name for name, each in parameters(model, torch.randn(16, 32)).items() if each.invariance]


def test_half_precision_says_nothing_of_rounding() -> None:
    model, x = convolutional()
    found = parameters(model.bfloat16(), x.bfloat16())
    assert found["0.weight"].grad_rms
    assert found["3.bias"].invariance in ("", "shift")


def test_a_parameter_at_a_small_scale_has_an_effect() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.p = nn.Linear(16, 16), nn.Parameter(torch.randn(16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.fc(x) + 1e-5 * self.p).relu()

    assert parameters(Small(), torch.randn(16, 16))["p"].invariance == ""
