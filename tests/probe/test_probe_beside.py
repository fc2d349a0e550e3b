"""The prediction beside the measurement, on the graph that was measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablelint import jobs
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.probe import measure
from stablelint.signals.comparison import Comparison


def stack() -> nn.Sequential:
    return nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(64, 64), nn.Tanh())))


def beside(model: nn.Module, *, seeds: int = 1) -> tuple[Comparison, tuple[str, ...]]:
    torch.manual_seed(0)
    graph, measured = measure(
        model, Inputs(torch.randn(16, 64)), seeds=seeds, rebuild=lambda _: (stack(), Inputs(torch.randn(16, 64)))
    )
    return jobs.beside(graph, measured)


def test_both_tables_speak_of_the_same_ops_and_agree() -> None:
    torch.manual_seed(0)
    found, remarks = beside(stack())
    assert found.predicted is not None
    names = {row.op: row.name for row in found.predicted.rows}
    assert all(names[row.op] == row.name for row in found.measured.rows)
    assert all(block.band for block in found.blocks)
    assert found.surprises == ()
    assert remarks == ()


def test_weights_that_no_random_draw_gives_are_a_surprise() -> None:
    """Rank one, with the mean and deviation of the others: statistics cannot see it, the gradient does."""
    torch.manual_seed(0)
    model = stack()
    layer = model[6]
    assert isinstance(layer, nn.Linear)
    size = layer.weight.std()
    with torch.no_grad():
        left, right = torch.randn(64, 1), torch.randn(1, 64)
        model[4].weight.copy_(torch.outer(left[:, 0], left[:, 0]).sign() * size)  # type: ignore[operator,union-attr]
        layer.weight.copy_((left @ right).sign() * size)
    found, _ = beside(model)
    assert found.surprises, "a product of rank one passes the gradient along one direction"


def test_a_prediction_that_fails_costs_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Graph) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stablelint.predict.predict", fails)
    found, remarks = beside(stack())
    assert found.predicted is None
    assert found.measured.gradient_ratio
    assert remarks == ("nothing is predicted beside the measurement: ZeroDivisionError",)


def test_several_outputs_are_named() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.left, self.right = stack(), nn.Linear(64, 4), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(x)
            return self.left(hidden), self.right(hidden)

    _, remarks = beside(Heads())
    assert remarks == ("the gradient is measured for 2 outputs together and predicted for the deepest alone",)


def test_the_spread_between_seeds_is_measured() -> None:
    torch.manual_seed(0)
    assert all(row.grad_spread is None for row in beside(stack())[0].measured.rows)
    rows = beside(stack(), seeds=3)[0].measured.trunk
    spreads = [row.grad_spread for row in rows if row.grad_spread is not None]
    assert len(spreads) == len(rows)
    assert 0 < max(spreads) < 0.5
    assert spreads[0] > spreads[-1], "it adds up over the layers on the way back"


def test_a_branch_that_some_seeds_drop_has_no_finite_spread() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.branch, self.passes = stack(), nn.Linear(64, 64), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            hidden: Tensor = self.body(x)
            return hidden + self.branch(hidden) * (torch.rand(1) < 0.5)

    torch.manual_seed(0)
    graph, measured = measure(Dropped(), Inputs(torch.randn(16, 64)), seeds=6)
    branch = next(row for row in measured.rows if row.site.module == "branch")
    assert (branch.grad_rms, branch.grad_spread) == (0.0, float("inf"))
    assert not [each for each in jobs.beside(graph, measured)[0].surprises if each.cause.name == "mul"]
    assert predict(graph).rows
