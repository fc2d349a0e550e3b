"""Lanczos against dense eigenvalues."""

from __future__ import annotations

import pytest
import torch

from stablelint.probe.curvature.lanczos import lanczos


def symmetric(values: torch.Tensor, seed: int) -> torch.Tensor:
    """A dense matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    return ((basis * values) @ basis.T).float()


SPECTRA = {
    "outliers above a bulk": torch.cat([torch.randn(297), torch.tensor([20.0, 12.0, -9.0])]),
    "a bulk alone": torch.linspace(-1, 1, 300),
    "zeros and one": torch.cat([torch.zeros(299), torch.ones(1)]),
    "all but the ends equal": torch.cat([torch.ones(298), torch.tensor([5.0, -2.0])]),
    "negative": -torch.cat([torch.linspace(50, 100, 298), torch.tensor([1.0, 200.0])]),
}


@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["basis kept", "three vectors"])
@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA.keys())
def test_the_ends_of_the_spectrum_are_found(values: torch.Tensor, budget: int) -> None:
    matrix = symmetric(values.double(), 1)
    start = torch.randn(300, generator=torch.Generator().manual_seed(2))
    found = lanczos(lambda v: matrix @ v, start, limit=250, tolerance=0.01, budget=budget)
    size = float(values.abs().max())
    assert found.residual(0) <= 0.01
    assert found.residual(-1) <= 0.01
    assert found.values[-1] == pytest.approx(float(values.max()), rel=0.02, abs=2e-4 * size)
    assert found.values[0] == pytest.approx(float(values.min()), rel=0.02, abs=2e-4 * size)


def test_no_value_is_further_from_an_eigenvalue_than_its_residual() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    matrix = symmetric(values, 4)
    for limit in (1, 3, 10, 30):
        found = lanczos(lambda v: matrix @ v, torch.randn(200), limit=limit, tolerance=0)
        for value, residual in zip(found.values, found.residuals, strict=True):
            assert float((values - value).abs().min()) <= residual + 1e-5


def test_an_exhausted_space_gives_all_eigenvalues() -> None:
    values = torch.arange(1.0, 9.0, dtype=torch.float64)
    matrix = symmetric(values, 5)
    found = lanczos(lambda v: matrix @ v, torch.randn(8), limit=50, tolerance=0)
    assert found.complete
    assert found.values == pytest.approx(values.tolist(), rel=1e-4)


def test_the_quadrature_of_random_vectors_averages_to_the_mean_over_eigenvalues() -> None:
    values = torch.cat([torch.randn(100), torch.tensor([8.0, -4.0])]).double()
    matrix = symmetric(values, 6)
    generator = torch.Generator().manual_seed(7)
    starts = [torch.randn(102, generator=generator) for _ in range(200)]
    found = [lanczos(lambda v: matrix @ v, start, limit=40).mean(abs) for start in starts]
    assert sum(found) / len(found) == pytest.approx(float(values.abs().mean()), rel=0.05)


def test_nothing_and_the_identity_need_one_product_and_spoil_no_vector() -> None:
    start = torch.ones(4)
    nothing = lanczos(torch.zeros_like, start, limit=9)
    same = lanczos(lambda v: v, start, limit=9)
    assert (nothing.values, nothing.complete, nothing.residual(-1)) == ((0.0,), True, 0.0)
    assert same.values == pytest.approx([1.0])
    assert same.complete
    assert torch.equal(start, torch.ones(4))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 3e38])
def test_a_product_that_is_not_finite_is_refused(factor: float) -> None:
    with pytest.raises(ArithmeticError, match="not finite"):
        lanczos(lambda v: v * factor * torch.arange(1.0, 6.0), torch.randn(5), limit=3)
