"""Weights next to zero wake up where the gradient that they get moves them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.finding import Level, TargetReport
from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.probe import measure
from stablelint.probe.draw import Draw


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


class Gated(nn.Module):
    """A branch behind a zero-initialised layer, and a gate that is zero, too."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.gate = nn.Parameter(torch.zeros(32)) if gated else None
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.outer(self.inner(self.norm(x)).relu())
        return x + (branch if self.gate is None else branch * self.gate)


def gated(gates: bool) -> nn.Sequential:
    torch.manual_seed(0)
    branches = (Gated(gates) for _ in range(3))
    return nn.Sequential(nn.Linear(16, 32), *branches, nn.LayerNorm(32), nn.Linear(32, 10))


@pytest.mark.parametrize("gates", [False, True])
def test_what_zeros_beside_the_trunk_hide_is_measured_and_predicted(gates: bool) -> None:
    torch.set_num_threads(1)
    model = gated(gates)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    graph, signals = measure(model, Inputs(torch.randn(16, 16)))
    predicted = {each.name: each.grad_rms for each in predict(graph).parameters}
    for each in signals.parameters:
        wanted = predicted[each.name]
        assert each.grad_rms
        assert wanted
        assert 0.5 < each.grad_rms / wanted < 2
    assert signals.awakened == (6 if gates else 3)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_the_trunk_keeps_the_gradient_that_it_has_before_zeros_wake_up() -> None:
    torch.set_num_threads(1)
    draw = Draw.of(gated(False), Inputs(torch.randn(16, 16)), 0, 0, None)
    plain = draw.measured()
    woken = draw.behind(plain)
    assert woken is not None
    _, signals = measure(draw.model, draw.inputs, seeds=1)
    inside = 0
    for row in signals.rows:
        asleep, awake = plain.readings[row.op].grad_rms, woken.readings[row.op].grad_rms
        assert row.grad_rms == pytest.approx(asleep or awake)
        inside += asleep == 0
    assert inside >= 3 * 3


def test_two_zero_factors_of_one_product_do_not_wake_each_other() -> None:
    model = gated(False)
    for module in model.modules():
        if isinstance(module, Gated):
            nn.init.zeros_(module.inner.weight)
            nn.init.zeros_(module.inner.bias)
    _, signals = measure(model, Inputs(torch.randn(16, 16)))
    dead = [each for each in signals.parameters if ".inner.weight" in each.name or ".outer.weight" in each.name]
    assert [each.grad_rms for each in dead] == [0.0] * 6


class Beside(nn.Module):
    """``x + p * inner(x)`` with p = 0, in a model that ``wants`` something of p or of its calls."""

    def __init__(self, wants: str) -> None:
        super().__init__()
        self.p, self.inner, self.head = nn.Parameter(torch.zeros(16)), nn.Linear(16, 16), nn.Linear(16, 4)
        self.wants, self.calls = wants, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        inner = self.inner(x)
        match self.wants:
            case "small":
                assert bool((self.p.abs() < 1e-2).all())
            case "a scale":
                x = torch.distributions.Normal(x, 1 + 20 * self.p).loc
            case "a root":
                x = x + torch.sqrt(1e-4 + 0.1 * self.p) * x
            case "its first call" if self.calls == 1:
                x = x.tanh()
            case "noise":
                inner = nn.functional.dropout(inner)
        return self.head(x + self.p * inner)


@pytest.mark.parametrize("wants", ["small", "a scale", "a root", "its first call"])
def test_what_only_woken_values_do_is_not_the_models(wants: str) -> None:
    torch.manual_seed(0)
    model, inputs = Beside(wants), Inputs(torch.randn(16, 16))
    _, signals = measure(model, inputs)
    assert signals.nonfinite is None
    assert signals.awakened == 0
    assert _errors(check_model(model, inputs, probe=True)) == []


def test_what_is_seen_behind_zeros_does_not_hang_on_the_callers_random_state() -> None:
    torch.manual_seed(0)
    model, inputs = Beside("noise"), Inputs(torch.randn(16, 16))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        _, signals = measure(model, inputs, seeds=1)
        found.append({each.name: each.grad_rms for each in signals.parameters})
    assert found[0] == found[1]
    assert found[0]["inner.weight"]
