"""Singular values of blocks against an exact decomposition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_curvature_hessian import Single
from torch import nn
from torch.nn import functional as F

from stablelint.inputs import Inputs
from stablelint.probe.curvature import block_spectra, pose
from stablelint.signals.curvature import BlockSpectrum


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.relu_(self.up(self.norm(x))))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])


STACKS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "residual": (lambda: [Residual(8) for _ in range(3)], (3, 8)),
    "attention": (lambda: [Attention(6) for _ in range(2)], (2, 4, 6)),
    "residual convolutions": (
        lambda: [Skip(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.GELU())) for _ in range(2)],
        (3, 2, 4, 4),
    ),
    "growing and shrinking": (lambda: [nn.Linear(5, 9), nn.Linear(9, 9), nn.Linear(9, 4)], (3, 5)),
}


class Skip(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def exact(blocks: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    """The singular values of each block, in double precision."""
    found, x = [], x.double()
    for block in blocks:
        block.double()
        jacobian = torch.autograd.functional.jacobian(block, x)
        found.append(torch.linalg.svdvals(jacobian.reshape(-1, x.numel())))
        x = block(x).detach()
        block.float()
    return found


@pytest.mark.parametrize("whole", [True, False], ids=["all vectors", "random vectors"])
@pytest.mark.parametrize(("build", "shape"), STACKS.values(), ids=STACKS.keys())
def test_blocks_have_the_singular_values_of_a_full_decomposition(
    build: Callable[[], list[nn.Module]], shape: tuple[int, ...], whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr("stablelint.probe.curvature.jacobian.ENTRIES", 1)
    blocks, x = build(), torch.randn(shape)
    found = block_spectra(pose(nn.Sequential(*blocks), Inputs(x)), limit=100)
    assert [each.block for each in found] == list(range(len(blocks)))
    for each, values in zip(found, exact(blocks, x), strict=True):
        assert each.converged == (True, True)
        assert each.largest == pytest.approx(float(values[0]), rel=0.02)
        assert each.smallest == pytest.approx(float(values[-1]), rel=0.02, abs=1e-3 * float(values[0]))
        square = float(values.square().mean())
        assert each.mean_square == pytest.approx(
            square, rel=0.02 if whole else 1e-9, abs=0 if whole else 5 * each.error
        )
        assert (each.error == 0) == (whole or len(values) <= 8)


def test_an_orthogonal_stack_is_an_isometry_and_a_sigmoid_stack_is_none() -> None:
    orthogonal = [nn.utils.parametrizations.orthogonal(nn.Linear(12, 12)) for _ in range(3)]
    for each in block_spectra(pose(nn.Sequential(*orthogonal), Inputs(torch.randn(4, 12)))):
        assert each.largest == pytest.approx(1, rel=1e-3)
        assert each.smallest == pytest.approx(1, rel=1e-3)
        assert each.mean_square == pytest.approx(1, rel=1e-3)
    sigmoids = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(12, 12), nn.Sigmoid())])
    for each in block_spectra(pose(sigmoids, Inputs(torch.randn(4, 12)))):
        assert each.largest is not None
        assert each.largest < 0.5


def test_tokens_start_at_their_embedding() -> None:
    model = nn.Sequential(nn.Embedding(11, 8), Residual(8), nn.Linear(8, 11))
    found = block_spectra(pose(model, Inputs(torch.randint(11, (2, 3)))))
    assert [(each.inputs, each.outputs) for each in found] == [(48, 48), (48, 66)]


def test_few_products_bound_the_ends_from_inside() -> None:
    blocks, x = [Residual(20)], torch.randn(4, 20)
    (few,) = block_spectra(pose(nn.Sequential(*blocks), Inputs(x)), limit=3)
    (values,) = exact(blocks, x)
    assert few.products == 3
    assert few.converged == (False, False)
    assert few.largest is not None
    assert few.smallest is not None
    assert float(values[-1]) < few.smallest < few.largest < float(values[0])


def test_where_the_second_derivative_is_missing_the_mean_square_is_left() -> None:
    easy = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    x = torch.randn(4, 6)

    def measured(model: nn.Module) -> BlockSpectrum:
        (found,) = block_spectra(pose(model, Inputs(x)))
        return found

    hard, soft = measured(nn.Sequential(easy[0], Single())), measured(easy)
    assert (hard.largest, hard.smallest, hard.converged) == (None, None, (False, False))
    assert hard.mean_square == pytest.approx(soft.mean_square, rel=1e-4)


def test_deep_stacks_are_sampled() -> None:
    deep = nn.Sequential(*[Residual(4) for _ in range(30)])
    found = block_spectra(pose(deep, Inputs(torch.randn(2, 4))), limit=2, blocks=7)
    assert len(found) == 7
    assert found[0].block == 0
    assert found[-1].block > 24
