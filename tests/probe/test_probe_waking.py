"""Weights next to zero wake up where the gradient that they get moves them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.finding import Level, TargetReport
from stablelint.inputs import Inputs


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def tower(std: float) -> nn.Sequential:
    """A pre-norm tower whose weights all have ``std``, with an ordinary head."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(16, 32), Branch(), Branch())
    _shrink(body, std)
    return nn.Sequential(body, nn.LayerNorm(32), nn.Linear(32, 10))


def stack(std: float) -> nn.Sequential:
    """The same weights without norms and skips."""
    torch.manual_seed(0)
    body = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(32, 32), nn.GELU())))
    _shrink(body, std)
    return nn.Sequential(nn.Linear(16, 32), *body, nn.Linear(32, 10))


def _shrink(module: nn.Module, std: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)


def _left_over(model: nn.Sequential, steps: int = 150) -> float:
    """The loss of a regression task after Adam's first steps, over that of a constant."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    y = x @ torch.randn(16, 10, generator=torch.Generator().manual_seed(2))
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
    return float(loss.detach() / y.var(0, correction=0).mean())


def _errors(report: TargetReport) -> list[str]:
    return [finding.name for finding in report.findings if finding.level is Level.ERROR]


def test_adam_trains_the_tower() -> None:
    assert _left_over(tower(1e-10)) < 0.5


@pytest.mark.parametrize("probe", [False, True])
def test_the_tower_is_no_error_and_the_stack_is(probe: bool) -> None:
    inputs = Inputs(torch.randn(16, 16, generator=torch.Generator().manual_seed(3)))
    assert _errors(check_model(tower(1e-10), inputs, probe=probe)) == []
    assert _errors(check_model(stack(1e-10), inputs, probe=probe)) != []
