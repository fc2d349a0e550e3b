"""Example inputs that are not drawn from N(0, 1): what the prediction makes of them, against the probe."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.probe import measure
from stablelint.trace import trace

EXAMPLES: dict[str, Callable[[], Tensor]] = {
    "unit interval": lambda: torch.rand(16, 3, 16, 16),
    "bytes": lambda: 255 * torch.rand(16, 3, 16, 16),
    "one image and noise": lambda: torch.randn(1, 3, 16, 16) + 0.1 * torch.randn(16, 3, 16, 16),
    "far from zero": lambda: 30 + torch.randn(16, 3, 16, 16),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 384, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(384 * 49, 128), nn.Tanh())


@pytest.mark.parametrize("name", EXAMPLES)
def test_values_and_similarity_of_samples_follow_the_example(name: str) -> None:
    torch.set_num_threads(1)
    model = net()
    torch.manual_seed(1)
    x = EXAMPLES[name]()
    guess = {row.op: row for row in predict(trace(model, Inputs(x)).graph).rows}
    _, measured = measure(model, Inputs(x), seeds=1)
    for row in measured.rows:
        if row.name in ("conv", "linear"):
            assert guess[row.op].rms == pytest.approx(row.rms, rel=0.2)
            assert guess[row.op].similarity == pytest.approx(row.similarity, abs=0.12)


def test_an_example_from_the_standard_normal_is_taken_as_such() -> None:
    torch.manual_seed(0)
    graph = trace(net(), Inputs(torch.randn(4, 3, 16, 16))).graph
    assert set(graph.ops[0].attrs) == {"name"}
