"""Draws are added until the verdict is sure, and what stays unsure is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.api import check_model, settles
from stablelint.config import Config
from stablelint.finding import Level
from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.probe.measure import MOST
from stablelint.signals import Signals


def drawn(seed: int, gain: float = 1.0, depth: int = 6) -> tuple[nn.Module, Inputs]:
    """A linear chain whose layers scale the gradient by ``gain``."""
    torch.manual_seed(seed)
    layers = [nn.Linear(64, 64, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=gain / 8)
    return nn.Sequential(*layers), Inputs(torch.randn(16, 64))


@pytest.mark.parametrize(("enough", "seeds"), [(1, 3), (4, 6), (7, 12), (MOST + 1, MOST)])
def test_draws_double_until_they_settle_it(enough: int, seeds: int) -> None:
    model, inputs = drawn(0)
    looks: list[int] = []

    def settled(signals: Signals) -> bool:
        looks.append(signals.seeds)
        return signals.seeds >= enough

    _, signals = measure(model, inputs, rebuild=drawn, settled=settled)
    assert signals.seeds == seeds
    assert looks == [count for count in (3, 6, 12, 24) if count <= seeds]


def test_more_draws_make_the_mean_surer() -> None:
    model, inputs = drawn(0)
    few, many = (measure(model, inputs, rebuild=drawn, seeds=seeds)[1] for seeds in (3, 12))
    for before, after in zip(few.trunk, many.trunk, strict=True):
        assert after.margins["sensitivity"] < 0.6 * before.margins["sensitivity"]
    assert few.margins["gradient_exponent"] > many.margins["gradient_exponent"] > 0
    assert abs(few.gradient_exponent - many.gradient_exponent) < few.margins["gradient_exponent"]


def test_a_clear_verdict_takes_three_draws() -> None:
    for gain in (1.0, 0.01):
        model, inputs = drawn(0, gain)
        report = check_model(model, inputs, probe=True, rebuild=lambda seed, gain=gain: drawn(seed, gain))
        assert report.signals["seeds"] == 3


def test_a_model_at_the_threshold_is_undecided() -> None:
    """Its least sensitivity is the threshold: no run may call that an error, whichever side its mean is on."""
    gain, undecided = 1.0, 0
    model, inputs = drawn(0, gain)
    _, signals = measure(model, inputs, rebuild=drawn, seeds=24)
    least, _ = signals.sensitivities
    config = Config(probe=True, thresholds={"vanishing-gradient": {"error_below": least, "note_below": 10 * least}})
    for start in range(0, 5000, 1000):
        _, again = measure(*drawn(start), rebuild=drawn, first_seed=start, settled=settles(config))
        report = check_model(*drawn(start), config=config, rebuild=lambda seed, start=start: drawn(start + seed))
        assert again.seeds == MOST
        assert not [found for found in report.findings if found.level is Level.ERROR]
        undecided += any("undecided" in found.message for found in report.findings)
    assert undecided == 5


def test_a_network_that_dies_in_some_draws_is_undecided() -> None:
    """Four ReLUs wide and ten deep: in some draws, and not in others, nothing comes through."""

    def narrow(seed: int) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(seed)
        layers = [layer for _ in range(10) for layer in (nn.Linear(4, 4), nn.ReLU())]
        for layer in layers[::2]:
            nn.init.kaiming_normal_(layer.weight)
        return nn.Sequential(*layers, nn.Linear(4, 2)), Inputs(torch.randn(32, 4))

    config = Config(probe=True, select=("vanishing-gradient",), seeds=24)
    report = check_model(*narrow(0), config=config, rebuild=narrow)
    (found,) = report.findings
    assert found.level is not Level.ERROR
    assert "undecided: of 24 draws some are exactly 0" in found.message
