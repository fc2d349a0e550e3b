"""Half precision told from float32, and what a batch of one and eval mode change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.probe.deep.modes import modes
from stablelint.probe.deep.precision import LOWEST, exponents, flushed, half_run, loss_scale, precision
from stablelint.signals import Precision


@pytest.mark.parametrize("scale", [-10, 0, 7])
def test_the_flushed_share_is_what_a_cast_to_float16_loses(scale: int) -> None:
    torch.manual_seed(0)
    value = torch.randn(20_000) * torch.exp2(torch.linspace(-40, 0, 20_000))
    cast = (value.double() * 2.0**scale).half()
    # 2**-25 itself is a tie, which no draw hits
    expected = float((cast == 0).double().mean())
    assert flushed(exponents(value), scale) == pytest.approx(expected, abs=1e-3)


def test_exponents_of_zeros_and_infinities_do_not_count() -> None:
    counts = exponents(torch.tensor([0.0, float("inf"), 1.0, 1.5, -4.0]))
    assert int(counts.sum()) == 3
    assert int(counts[-LOWEST]) == 2
    assert flushed(exponents(torch.zeros(3)), 0) is None


def test_the_loss_scale_is_the_largest_that_does_not_overflow() -> None:
    value = torch.tensor([3.0, 1e-6])
    scale = loss_scale([exponents(value)])
    assert float((value * 2.0**scale).half().max()) < float("inf")
    assert float((value * 2.0 ** (scale + 2)).half().max()) == float("inf")


class Sums(nn.Module):
    def __init__(self, branch: float, mask: float) -> None:
        super().__init__()
        self.fc, self.branch, self.mask = nn.Linear(16, 16), branch, mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.branch * self.fc(x)
        mask = torch.zeros(16)
        mask[0] = self.mask
        return (x + mask).softmax(-1)


def rows(model: nn.Module) -> list[Precision]:
    torch.manual_seed(0)
    return list(precision(model, Inputs(torch.randn(8, 16))))


def test_sums_that_bfloat16_absorbs() -> None:
    assert [row.absorbed for row in rows(Sums(1.0, 0.0)) if row.name == "add"] == [False, False]
    assert [row.absorbed for row in rows(Sums(1e-3, 0.0)) if row.name == "add"] == [True, False]
    # a branch that starts at zero
    assert not any(row.absorbed for row in rows(Sums(0.0, 0.0)))


def test_a_mask_is_no_overflow_and_a_large_value_is() -> None:
    assert all(row.overflow == 0 for row in rows(Sums(1.0, -1e9)))
    assert any(row.overflow > 0 for row in rows(Sums(1e6, 0.0)))


def test_a_bfloat16_pass_is_close_and_not_equal() -> None:
    torch.manual_seed(0)
    found = half_run(nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)), Inputs(torch.randn(8, 16)))
    assert found is not None
    assert found.output_error is not None
    assert 1e-4 < found.output_error < 2e-2
    assert found.gradient_cosine is not None
    assert 0.999 < found.gradient_cosine < 1


def test_batch_norm_refuses_one_sample_and_says_where() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    found = modes(model, Inputs(torch.randn(6, 4)))
    assert "more than 1 value per channel" in found.single
    assert found.single_site is not None
    assert found.single_site.module == "1"


def test_running_statistics_stand_for_the_batch_and_cold_ones_do_not_count() -> None:
    torch.manual_seed(0)
    given = Inputs(10 + 5 * torch.randn(64, 4))
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    found = modes(model, given)
    assert found.gap is not None
    # biased against unbiased variance: sqrt(63/64)
    assert found.gap < 0.02


def test_dropout_and_single_samples() -> None:
    torch.manual_seed(0)
    given = Inputs(torch.randn(64, 4))
    dropped = modes(nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5)), given)
    assert dropped.gap is not None
    assert dropped.gap == pytest.approx(0.5**0.5, rel=0.05)  # sqrt(p)
    assert dropped.single_change is None
    plain = modes(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8)), given)
    assert (plain.single, plain.single_site) == ("", None)
    assert plain.single_change == pytest.approx(0, abs=1e-6)
    assert plain.gap == 0
