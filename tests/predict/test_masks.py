"""Buffers that mask attention scores by adding a large negative number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.trace import trace


class Masked(nn.Module):
    """Attention of queries that are keys, under a mask that is a buffer with more elements than are followed."""

    def __init__(self, windows: int, length: int, closed: float, *, causal: bool) -> None:
        super().__init__()
        mask = torch.zeros(windows, length, length)
        pattern = torch.ones(length, length).triu(1).bool()
        mask[:: 1 if causal else windows - 1].masked_fill_(pattern, closed)
        if not causal:
            mask[0] = 0.0
        self.register_buffer("mask", mask)
        self.value = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.transpose(-2, -1) / math.sqrt(32) + self.mask
        return scores.softmax(-1) @ self.value(x)


@pytest.mark.parametrize("closed", [-100.0, -1e9, -math.inf])
@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_in_a_buffer_closes_places_and_widens_no_score(closed: float, causal: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, x = Masked(12, 96, closed, causal=causal), torch.randn(12, 96, 32)
    # queries that are not keys: the scores of a token with itself are no sums of products of independent numbers
    scores = (x @ torch.randn(12, 96, 32).transpose(-2, -1)) / math.sqrt(32) + model.mask
    weights = scores.softmax(-1)[0 if not causal else slice(None)]
    row = next(row for row in predict(trace(model, Inputs(x)).graph).rows if row.name == "softmax")
    assert row.peak == pytest.approx(float(weights.amax(-1).mean()), rel=0.2)


def test_what_is_added_and_closes_nothing_is_no_mask() -> None:
    model = Masked(12, 96, -10.0, causal=True)
    parameters = {
        parameter.name: parameter for parameter in trace(model, Inputs(torch.randn(12, 96, 32))).graph.parameters
    }
    assert parameters["mask"].mask is None
