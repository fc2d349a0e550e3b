"""The largest of many values, and positions that a constant closes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.trace import trace


class Pooled(nn.Module):
    """The largest over many points, and a batch norm over the samples behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.norm, self.head = nn.Conv1d(3, 64, 1), nn.BatchNorm1d(64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.points(x).amax(2)).relu())


def test_samples_differ_in_their_largest_value() -> None:
    """Else the norm would see a constant, and the units behind it would be dead."""
    torch.manual_seed(0)
    signals = predict(trace(Pooled(), Inputs(torch.randn(8, 3, 512))).graph)
    (dead,) = (each.dead for each in signals.rows if each.name == "relu")
    assert dead is None or dead < 0.1


@pytest.mark.parametrize(("size", "spread"), [(2, 0.682), (3, 0.559), (10, 0.344), (100, 0.184), (1000, 0.123)])
def test_the_spread_of_the_largest_of_normals(size: int, spread: float) -> None:
    """Against tables of order statistics (Teichroew 1956, Harter 1961)."""
    from stablelint.predict.transfer.reduction import _spread_of_maximum

    assert _spread_of_maximum(size) == pytest.approx(spread, rel=0.05)


class Closed(nn.Module):
    """Attention over a ring of neighbours: all others are closed by a tensor of one large negative number."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        scores = self.query(x) @ x.T / 32
        weights = torch.where(near > 0, scores, -9e15 * torch.ones_like(scores)).softmax(-1)
        return weights @ self.value(x)


def test_a_tensor_of_one_large_negative_number_closes_positions() -> None:
    torch.manual_seed(0)
    ring = torch.eye(16) + torch.eye(16).roll(1, 0) + torch.eye(16).roll(-1, 0)
    signals = predict(trace(Closed(), Inputs(torch.randn(16, 32), ring)).graph)
    (peak,) = (each.peak for each in signals.rows if each.name == "softmax")
    assert peak is not None
    assert peak < 0.6
