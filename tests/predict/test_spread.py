"""How sure a prediction is: the spread over draws of the weights, the typical network, the band."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from against_autograd import Apply
from torch import Tensor, nn

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.predict import interpret, predict
from stablelint.predict.domain import Value
from stablelint.predict.spread import MODEL, NINETY, UNKNOWN, combined, half_width, in_decades, of_mask, of_weights
from stablelint.trace import trace


class Stack(nn.Module):
    """ReLU layers without a norm, initialised after He."""

    def __init__(self, depth: int, width: int, inputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        for layer in self.layers:
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x).relu()
        return x


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def logs(depth: int, width: int, samples: int, seeds: int = 30) -> np.ndarray:
    """ln g^2 at the first hidden layer of as many networks."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = Stack(depth, width, width).double()
        hidden = model.first(torch.randn(samples, width, dtype=torch.float64)).detach().requires_grad_()
        x = hidden
        for layer in model.layers:
            x = layer(x).relu()
        (g,) = torch.autograd.grad(x, hidden, torch.randn_like(x))
        found.append(float(g.pow(2).mean().log()))
    return np.array(found)


def graph_of(depth: int, width: int, samples: int) -> Graph:
    return trace(Stack(depth, width, width), Inputs(torch.randn(samples, width))).graph


@pytest.mark.parametrize("samples", [1, 8, 64])
def test_spread_of_a_deep_narrow_network(samples: int) -> None:
    """One sample: 5 / n per layer (Hanin & Nica). Many: weights average out, masks that they share do not."""
    graph = graph_of(20, 32, samples)
    found = logs(20, 32, samples)
    hidden = interpret(graph).values[next(op.index for op in graph if op.name == "linear")]
    assert isinstance(hidden, Value)
    assert hidden.spread == pytest.approx(found.var(ddof=1), rel=0.5)
    row = next(row for row in predict(graph).rows if row.name == "linear")
    assert row.grad_rms is not None
    # what the rules themselves neglect comes on top
    assert row.grad_spread is not None
    assert in_decades(hidden.spread) < row.grad_spread < math.hypot(in_decades(hidden.spread), 2 * MODEL[0])
    typical, error = 2 * math.log(row.grad_rms), found.std() / math.sqrt(len(found))
    assert typical == pytest.approx(found.mean(), abs=3 * error)
    gradient = hidden.gradient()
    assert gradient is not None
    assert math.log(gradient.flat[-1]) - typical == pytest.approx(hidden.spread / 2)


def test_one_sample_has_the_spread_of_hanin_and_nica() -> None:
    graph = graph_of(20, 64, 1)
    hidden = interpret(graph).values[next(op.index for op in graph if op.name == "linear")]
    assert isinstance(hidden, Value)
    assert hidden.spread == pytest.approx(20 * 5 / 64, rel=0.02)


def test_spread_shrinks_with_width_and_grows_with_depth() -> None:
    ends = {}
    for depth, width in ((10, 32), (20, 32), (20, 128)):
        band = predict(graph_of(depth, width, 4)).gradient_ratio_band
        assert band is not None
        ends[depth, width] = math.log10(band[1] / band[0])
    assert ends[20, 32] > 1.2 * ends[10, 32]
    assert ends[20, 32] > 1.5 * ends[20, 128]


@pytest.mark.parametrize("samples", [1, 16])
def test_nine_of_ten_networks_lie_in_the_band(samples: int) -> None:
    """The ratio of first to last block of 40 draws; the band is made of the model's error and their spread."""
    found = predict(graph_of(12, 24, samples))
    assert found.gradient_ratio_band is not None
    low, high = (2 * math.log(end) for end in found.gradient_ratio_band)
    inside = [low < value < high for value in logs(11, 24, samples, 40)]
    assert 0.75 <= np.mean(inside) <= 1.0
    assert high - low < 3 * NINETY * logs(11, 24, samples, 40).std(), "a band of any width would do"


def test_an_op_without_a_rule_widens_the_band() -> None:
    w = [torch.randn(64, 64) / 8 for _ in range(4)]

    def layers(x: Tensor, *weights: Tensor) -> Tensor:
        for matrix in weights:
            x = (x @ matrix).tanh()
        return x

    graph = trace(Apply(layers, **{f"w{i}": matrix for i, matrix in enumerate(w)}), Inputs(torch.randn(8, 64))).graph
    middle = [op.index for op in graph if op.name == "tanh"][1]
    strange = Graph(
        tuple(replace(op, name="no_such_op") if op.index == middle else op for op in graph),
        graph.outputs, graph.parameters,
    )  # fmt: skip
    known, unknown = predict(graph).gradient_ratio_band, predict(strange).gradient_ratio_band
    assert known is not None
    assert unknown is not None
    assert unknown[1] / unknown[0] > 3 * known[1] / known[0]
    assert in_decades(UNKNOWN) == pytest.approx(math.log10(3))
    before = [row.grad_spread for row in predict(strange).rows if row.op < middle and row.grad_spread is not None]
    assert min(before) > math.log10(3) > max(row.grad_spread or 0 for row in predict(graph).rows)


def table(rank: int, apart: float) -> np.ndarray:
    found = np.full((2,) * rank, apart)
    found.flat[-1] = 1.0
    return found


def test_weights_average_over_directions_and_shared_masks_do_not() -> None:
    shape, one, many = (64, 32), (1, 32), table(2, 0.0)
    assert of_weights(np.ones((2, 2)), (1,), one, 0.0)[0] == pytest.approx(2 / 32)
    assert of_weights(many, (1,), shape, 0.0)[0] < 2 / 32 / 20
    shared = np.ones((2, 2))
    assert of_mask(np.ones((2, 2)), 1, one, 0.0, shared) == pytest.approx(3 / 32)
    assert of_mask(many, 1, shape, 0.0, shared) == pytest.approx(1 / 32, rel=0.05)
    assert of_mask(many, 1, shape, 0.0, table(2, 0.0)) == pytest.approx(3 / 32 / 64)


def test_directions_become_alike_with_every_layer() -> None:
    alike = 0.0
    for _ in range(200):
        _, alike = of_weights(table(2, 0.0), (1,), (64, 32), alike)
    assert 0.99 < alike <= 1


def test_where_paths_meet_only_what_they_do_not_share_averages_out() -> None:
    assert combined(1.0, 0.4, 1.0, 0.4) == pytest.approx(0.4)
    assert combined(1.0, 0.0, 1.0, 0.8) == pytest.approx(0.2)
    assert combined(1.0, 0.3, 0.0, 0.9) == pytest.approx(0.3)
    assert combined(0.0, 0.3, 0.0, 0.9) == 0.9


@pytest.mark.parametrize("ratio", [1e-30, 1e-3, 1.0, 1e6])
def test_half_width(ratio: float) -> None:
    widths = [half_width(spread, ratio) for spread in (0.0, 0.5, 5.0)]
    assert widths == sorted(widths)
    assert 0 < widths[0] < widths[1] < widths[2]
    assert half_width(0.0, ratio) >= half_width(0.0, 1.0)
    assert half_width(0.0, ratio) == pytest.approx(half_width(0.0, 1 / ratio))
