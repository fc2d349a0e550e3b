"""What typical networks and special values do: branches of zeros, saturated attention, sums of known parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from against_autograd import Draw, drawn, measured, predicted, weight
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import interpret, predict
from stablelint.predict.domain import Value, iid
from stablelint.predict.transfer.contraction import contract
from stablelint.predict.transfer.softmax import overlap
from stablelint.trace import trace

VECTORS = (64, 128)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


class Branches(nn.Module):
    """x <- relu(x + scale * f(x)), with a last layer that starts at zero or a layer scale."""

    def __init__(self, count: int, scale: float, zero: bool, after: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(128, 128, bias=False) for _ in range(count))
        self.last = nn.ModuleList(nn.Linear(128, 128, bias=False) for _ in range(count))
        self.scales = nn.ParameterList(nn.Parameter(torch.full((128,), scale)) for _ in range(count))
        self.after = after
        for layer in (*self.first, *self.last):
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / 128))
        for layer in self.last if zero else ():
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        for first, last, scale in zip(self.first, self.last, self.scales, strict=True):
            x = x + scale * last(first(x).relu())
            x = x.relu() if self.after else x
        return x.tanh()


@pytest.mark.parametrize(
    ("scale", "zero", "after"),
    [(1.0, True, False), (1.0, True, True), (1e-6, False, False), (1e-8, False, False), (0.0, False, False),
     (0.0, False, True)],
)  # fmt: skip
def test_branches_of_next_to_nothing_get_their_gradient(scale: float, zero: bool, after: bool) -> None:
    """Three in a row: every parameter in them, and what lies before them."""
    squares: dict[str, list[float]] = {}
    for seed in range(4):
        torch.manual_seed(seed)
        model, x = Branches(3, scale, zero, after).double(), torch.randn(VECTORS, dtype=torch.float64)
        x.requires_grad_()
        y = model(x)
        named = {"input": x, **dict(model.named_parameters())}
        for name, g in zip(named, torch.autograd.grad(y, list(named.values()), torch.randn_like(y)), strict=True):
            squares.setdefault(name, []).append(float(g.pow(2).mean()))
    graph = trace(model, Inputs(x.detach())).graph
    found = interpret(graph)
    for op in graph:
        name = op.parameter.name if op.parameter else op.name
        if name not in squares:
            continue
        value, truth = found.values[op.index], float(np.mean(squares[name]))
        assert isinstance(value, Value)
        gradient = value.gradient()
        assert gradient is not None, name
        assert float(gradient.flat[-1]) == pytest.approx(truth, rel=0.2), name


def test_a_branch_of_zeros_changes_no_distribution() -> None:
    """relu(relu(x) + 0) passes all of what the first ReLU passed, and sigmoid(relu(x) + 0) sees no normal variable."""
    twice = drawn(lambda x, y: (x.relu() + 0 * y).relu(), VECTORS, VECTORS)
    assert predicted(twice).gradient == pytest.approx(0.5, rel=0.02)
    draw = drawn(lambda x, y: (4 * x.relu() + 0 * y).sigmoid(), VECTORS, VECTORS)
    truth, guess = measured(draw, 4), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.01)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.03)


def scores(scale: float) -> Draw:
    return drawn(
        lambda x, q, k: ((x @ q) @ (x @ k).transpose(1, 2) * (scale / 8)).softmax(-1), (2, 16, 64),
        q=lambda: weight(64, 64), k=lambda: weight(64, 64),
    )  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0, 100.0])
def test_attention_with_huge_logits(scale: float) -> None:
    """The expectation is that of rare ties: at a scale of 100 five times what a model of 32 rows typically passes."""
    draw = scores(scale)
    truth, guess = measured(draw, 60, geometric=True), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.05)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.2)


def test_rare_rows_are_typical_only_of_many() -> None:
    few, many = (overlap(1e4, 1.0, 16, None, same_row=True, rows=rows) for rows in (4, 512))
    assert few.trace < 0.2 * many.trace
    assert few.spread > many.spread
    calm, sure = (overlap(0.1, 1.0, 16, None, same_row=True, rows=rows) for rows in (4, 512))
    assert calm.trace == pytest.approx(sure.trace, rel=0.1)
    assert calm.spread < 0.1


@pytest.mark.parametrize("variance", [0.01, 1.0, 25.0])
@pytest.mark.parametrize("size", [2, 8, 64])
def test_overlap_of_rows(size: int, variance: float) -> None:
    """E[sum p^2], E[max p] and E[tr J J'] of softmax rows of normal logits."""
    generator = torch.Generator().manual_seed(0)
    p = (math.sqrt(variance) * torch.randn(40_000, size, dtype=torch.float64, generator=generator)).softmax(-1)
    trace_of_squares = p.pow(2).sum(1) - 2 * p.pow(3).sum(1) + p.pow(2).sum(1) ** 2
    found = overlap(variance, 1.0, size, None, same_row=True)
    assert found.product == pytest.approx(float(p.pow(2).sum(1).mean()), rel=0.06)
    assert found.peak == pytest.approx(float(p.amax(1).mean()), rel=0.06)
    assert found.trace == pytest.approx(float(trace_of_squares.mean()), rel=0.12)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": torch.nn.functional.gelu,
    "hard": lambda x: x.clamp(-1, 1), "square": lambda x: x * x,
}  # fmt: skip


@pytest.mark.parametrize("shift", [-1.5, 0.0, 1.5])
@pytest.mark.parametrize("common", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_correlated_tensors_of_any_mean(name: str, common: float, shift: float) -> None:
    """Samples share ``common`` of their variance; E[f f'] and E[f'^2] for every function and mean."""

    def model(x: Tensor, shared: Tensor) -> Tensor:
        return ACTIVATIONS[name](math.sqrt(1 - common) * x + math.sqrt(common) * shared + shift)

    draw = drawn(model, (16, 8192), (1, 8192))
    truth, guess = measured(draw, 6), predicted(draw)
    scale = math.sqrt(truth.power)
    assert guess.power == pytest.approx(truth.power, rel=0.06)
    assert guess.mean == pytest.approx(truth.mean, abs=0.03 * scale)
    assert guess.alike == pytest.approx(truth.alike, abs=0.03)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.05)


@pytest.mark.parametrize("mean", [0.0, 0.2])
@pytest.mark.parametrize("common", [0.0, 0.6])
@pytest.mark.parametrize(("left", "right", "out"), [("bi", "oi", "bo"), ("bti", "io", "bto"), ("bhqd", "bhkd", "bhqk")])
def test_contractions_of_any_shape_mean_and_correlation(
    left: str, right: str, out: str, common: float, mean: float
) -> None:
    """Every entry of the table, averaged over draws of both operands."""
    sizes = dict(zip("bthiqkod", (6, 5, 3, 12, 4, 7, 9, 8), strict=True))
    generator = torch.Generator().manual_seed(0)
    shape, other = ([sizes[axis] for axis in axes] for axes in (left, right))
    table = np.zeros((2,) * (len(out)))
    draws = 300
    for _ in range(draws):
        own = torch.randn(shape, dtype=torch.float64, generator=generator)
        shared = torch.randn(shape[1:], dtype=torch.float64, generator=generator)
        x = math.sqrt(1 - common) * own + math.sqrt(common) * shared + 0.5
        w = torch.randn(other, dtype=torch.float64, generator=generator) + mean
        table += _pairs(torch.einsum(f"{left},{right}->{out}", x, w).numpy()) / draws
    first = iid(shape, 0.5, 1.0)
    first.table[(0, *(1,) * (len(left) - 1))] += common
    found = contract(first, left, iid(other, mean, 1.0), right, out)
    assert found.table == pytest.approx(table, abs=0.12 * table.flat[-1])
    assert found.power == pytest.approx(table.flat[-1], rel=0.08)


def _pairs(array: np.ndarray) -> np.ndarray:
    """Averages of products over all pairs of elements, by the agreement of their indices."""
    from stablelint.predict.domain import empirical

    return empirical(array).table


def test_gradients_between_merged_and_unmerged_axes_are_read_out() -> None:
    """A layer that sees (height, width) as one axis is predicted on both; its rows have the gradient all the same."""

    class Merging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = (nn.Linear(64, 64) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            merged = self.first(x).reshape(2, 12, 64)
            return self.last(torch.tanh(self.middle(merged)).reshape(2, 3, 4, 64))

    graph = trace(Merging(), Inputs(torch.randn(2, 3, 4, 64))).graph
    rows = predict(graph).rows
    before, reshape, middle, tanh, after = rows[1:6]
    assert reshape.name == after.name == "reshape"
    assert (reshape.grad_rms, reshape.grad_spread) == (before.grad_rms, before.grad_spread)
    assert tanh.grad_rms == after.grad_rms
    assert before.grad_rms is not None
    assert middle.grad_rms is not None
    assert before.grad_rms < middle.grad_rms < 1, "each default layer keeps a third of the squared gradient"
