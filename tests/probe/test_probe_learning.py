"""Optimiser steps at several rates: the loss of knowing nothing, and who gets below it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe.deep.learning import RATES, STEPS, learning
from stablelint.signals import LEARNED, Fit, Learning


def fitted(model: nn.Module, given: Inputs) -> Learning:
    found = learning(model, given, lambda output: output)
    assert found is not None
    return found


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def test_a_small_network_learns_at_all_but_the_smallest_rate_and_stops_early() -> None:
    found = fitted(small(), Inputs(torch.randn(8, 8)))
    assert len(found.fits) == len(RATES)
    assert set(found.fits[1:]) <= set(found.learned(LEARNED))
    assert found.progress(found.fits[0]) < found.progress(found.fits[1])
    assert any(fit.steps < STEPS for fit in found.fits)


def test_a_network_that_hears_nothing_of_its_input_ends_at_the_loss_of_knowing_nothing() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias + 0 * x

    found = fitted(Constant(), Inputs(torch.randn(8, 4)))
    # no constant answer is better than log 2, and the slow rates find the best one
    assert found.nothing == pytest.approx(math.log(2))
    assert all(fit.last >= found.nothing - 1e-6 for fit in found.fits)
    assert found.fits[0].last == pytest.approx(found.nothing, rel=1e-2)
    assert found.learned(LEARNED) == ()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_units_of_the_output_do_not_matter(scale: float) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scale * self.net(x)

    torch.manual_seed(1)
    given = torch.randn(8, 8)
    plain, scaled = (fitted(model, Inputs(given)) for model in (small(), Scaled()))
    for one, other in zip(plain.fits, scaled.fits, strict=True):
        assert one.first == pytest.approx(other.first, rel=1e-4)


def test_a_loss_that_stops_being_finite_teaches_nothing() -> None:
    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.exp(60 + 1e4 * self.fc(x) ** 2)

    torch.manual_seed(0)
    model = Explodes()
    nn.init.normal_(model.fc.weight, std=1e-3)
    nn.init.zeros_(model.fc.bias)
    found = fitted(model, Inputs(torch.randn(4, 4)))
    assert any(fit.last == math.inf for fit in found.fits)
    assert all(found.progress(fit) == 0 for fit in found.fits if fit.last == math.inf)


def test_a_scalar_is_the_models_own_loss_also_below_zero() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).square().mean() - 5

    torch.manual_seed(0)
    found = fitted(Own(), Inputs(torch.randn(8, 4)))
    assert found.own_loss
    assert found.nothing < -4
    assert found.best == pytest.approx((found.nothing + 5) / -found.nothing, rel=0.1)


def test_one_number_per_sample_and_a_linear_model_are_enough() -> None:
    """Five parameters on 32 samples: one rate is fast enough, and most of the others are on their way."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    found = fitted(model, Inputs(torch.randn(32, 4)))
    learned = found.learned(LEARNED)
    assert learned
    assert sum(found.slow(fit) for fit in found.fits) >= len(found.fits) - len(learned) - 1


def test_a_fit_that_reached_the_loss_of_knowing_nothing_is_not_slow() -> None:
    found = Learning((), nothing=1.0)
    assert found.slow(Fit("Adam", 1e-3, 2.0, 1.6))
    assert not found.slow(Fit("Adam", 1e-3, 2.0, 1.01))
    assert not found.slow(Fit("Adam", 1e-3, 2.0, 2.5))
    assert not found.slow(Fit("Adam", 1e-3, 1.0, 1.0))
    assert not found.slow(Fit("Adam", 1e-3, 2.0, math.inf))


def test_one_sample_or_frozen_weights_say_nothing() -> None:
    assert learning(small(), Inputs(torch.randn(1, 8)), lambda output: output) is None
    assert learning(small().requires_grad_(False), Inputs(torch.randn(8, 8)), lambda output: output) is None


def test_a_model_that_counts_its_calls_is_the_same_in_every_step() -> None:
    class Fades(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("rebound", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.rebound = self.rebound + 1
            return self.net(x) / (self.calls * self.rebound)

    torch.manual_seed(1)
    given = Inputs(torch.randn(8, 8))
    assert fitted(Fades(), given) == fitted(small(), given)


def test_noise_is_drawn_alike_at_every_step() -> None:
    seen = set()

    class Dropped(nn.Module):
        """Stochastic depth that drops so much that a batch of two seldom sees the branch."""

        def __init__(self) -> None:
            super().__init__()
            self.skip, self.net = nn.Linear(8, 4), small()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = torch.rand(len(x), 1) < 0.3
            seen.add(tuple(kept.flatten().tolist()))
            return self.skip(x) + self.net(x) * kept

    fitted(Dropped(), Inputs(torch.randn(6, 8)))
    assert len(seen) == 1


def test_what_all_samples_have_in_common_is_not_asked_for() -> None:
    class Shifted(nn.Module):
        def __init__(self, offset: float) -> None:
            super().__init__()
            self.net, self.offset = small(), offset

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) + self.offset

    torch.manual_seed(1)
    given = Inputs(torch.randn(8, 8))
    plain, shifted = fitted(Shifted(0.0), given), fitted(Shifted(1.0), given)
    assert [fit.last for fit in shifted.fits] == pytest.approx([fit.last for fit in plain.fits], rel=0.05)


def test_a_fit_names_its_setting() -> None:
    assert Fit("Adam", 3e-4, 1.0, 0.5).label == "Adam 0.0003"


@pytest.mark.zoo
def test_post_norm_24_learns_at_two_rates_and_pre_norm_at_all() -> None:
    class Net(nn.Module):
        def __init__(self, norm_first: bool) -> None:
            super().__init__()
            self.embedding = nn.Embedding(100, 64)
            nn.init.normal_(self.embedding.weight, std=0.02)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=norm_first)
                for _ in range(24)
            )
            self.norm = nn.LayerNorm(64) if norm_first else nn.Identity()
            self.head = nn.Linear(64, 10)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x).mean(1))

    counts = {}
    for norm_first in (False, True):
        torch.manual_seed(0)
        found = fitted(Net(norm_first), Inputs(torch.randint(1, 100, (8, 16))))
        counts[norm_first] = len(found.learned(LEARNED))
    assert counts == {False: 2, True: 5}
