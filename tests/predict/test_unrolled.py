"""The tape against autograd, draws against their tables, and which ops make a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stablelint.graph.op import Parameter
from stablelint.inputs import Inputs
from stablelint.predict.domain import empirical
from stablelint.predict.functions import function
from stablelint.predict.leaves import parameter_value
from stablelint.predict.unrolled.draw import all_tables, drawn, drawn_value, tables, uneven
from stablelint.predict.unrolled.loops import find_loops
from stablelint.predict.unrolled.tape import Node, Tape
from stablelint.trace import trace

RNG = np.random.default_rng(0)


def gelu(tape: Tape, x: Node) -> Node:
    found = function("gelu", {})
    assert found is not None
    return tape.apply(x, found)


OPERATIONS: dict[str, tuple[Callable[[Tape, Node, Node], Node], Callable[[Tensor, Tensor], Tensor]]] = {
    "linear": (lambda t, x, w: t.linear(x, w), lambda x, w: x @ w.mT),
    "linear_twice": (lambda t, x, w: t.linear(t.linear(x, w), w), lambda x, w: x @ w.mT @ w.mT),
    "matmul": (lambda t, x, w: t.matmul(x, w), lambda x, w: x @ w),
    "add": (lambda t, x, w: t.add(x, t.view(w, lambda a: a[:, :1]), -2.0), lambda x, w: x - 2 * w[:, :1]),
    "mul": (lambda t, x, w: t.mul(x, t.view(w, lambda a: a[:, 2:3])), lambda x, w: x * w[:, 2:3]),
    "affine": (lambda t, x, w: t.affine(x, -1.0, 1.0), lambda x, w: 1 - x),
    "sigmoid": (lambda t, x, w: t.sigmoid(x), lambda x, w: x.sigmoid()),
    "gelu": (lambda t, x, w: gelu(t, x), lambda x, w: F.gelu(x)),
    "cat": (lambda t, x, w: t.cat([x, t.tanh(x), x], 1), lambda x, w: torch.cat([x, x.tanh(), x], 2)),
    "stack": (lambda t, x, w: t.stack([x, x], 1), lambda x, w: torch.stack([x, x], 2)),
    "sum": (lambda t, x, w: t.sum(x, (1,)), lambda x, w: x.sum(1, keepdim=True)),
    "softmax": (lambda t, x, w: t.softmax(x, -1), lambda x, w: x.softmax(-1)),
    "normalize": (lambda t, x, w: t.normalize(x, 1, 1e-5), lambda x, w: F.layer_norm(x, x.shape[-1:])),
    "view_and_more": (
        lambda t, x, w: t.add(t.view(x, lambda a: a[..., :1]), t.view(x, lambda a: a[..., 1:2])),
        lambda x, w: x[..., :1] + x[..., 1:2],
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_tape_has_the_gradient_of_autograd(name: str) -> None:
    ours, theirs = OPERATIONS[name]
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    tape = Tape()
    a, b = tape.leaf(x.detach().numpy()), tape.leaf(w.detach().numpy())
    y, truth = ours(tape, a, b), theirs(x, w)
    seed = torch.randn_like(truth)
    y.receive(seed.numpy())
    tape.backward()
    truth.backward(seed)
    assert y.array == pytest.approx(truth.detach().numpy())
    for node, tensor in ((a, x), (b, w)):
        grad = np.zeros(node.array.shape) if node.grad is None else node.grad
        expected = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        assert grad == pytest.approx(expected, abs=1e-6)


def test_draws_have_the_moments_of_the_table() -> None:
    table = np.array([[[0.3, 0.4], [0.5, 0.8]], [[0.6, 0.9], [1.0, 2.0]]])
    found = tables(drawn(table, 0.5, (12, 12, 12), 400, RNG, {})).mean(0)
    assert found == pytest.approx(table, abs=0.1)


def test_tables_are_those_of_all_pairs() -> None:
    arrays = RNG.standard_normal((3, 4, 1, 6)) + RNG.standard_normal((3, 4, 1, 1))
    for array, table in zip(arrays, tables(arrays), strict=True):
        assert table == pytest.approx(empirical(array).table)
    for whole, own in zip((arrays, arrays[:, 0]), all_tables([arrays, arrays[:, 0]]), strict=True):
        assert own == pytest.approx(tables(whole))


def test_a_profile_goes_on_at_its_rate_before_what_was_drawn() -> None:
    arrays = RNG.standard_normal((50, 8, 20, 30)) * (0.5 ** np.arange(20)[::-1])[:, None]
    along = uneven(arrays, (8, 40, 30), 1)[1]
    assert np.diff(np.log2(along)) == pytest.approx(np.full(39, 2.0), abs=0.2)


def test_draws_of_parameters() -> None:
    orthogonal = Parameter("w", (32, 32), 0.0, 32**-0.5, 32**-0.5, init="orthogonal_")
    (w,) = drawn_value(parameter_value(orthogonal), (32, 32), 1, RNG)
    assert w @ w.T == pytest.approx(np.eye(32), abs=1e-9)
    square = nn.Linear(32, 32, bias=False)
    nn.init.eye_(square.weight)
    (parameter,) = trace(square, Inputs(torch.randn(2, 32))).graph.parameters
    (w,) = drawn_value(parameter_value(parameter), (32, 32), 1, RNG)
    assert w == pytest.approx(np.eye(32), abs=0.02)
    bias = Parameter("b", (40,), -2.0, 3.46, 4.0, parts=(((0.0, 0.0), (-8.0, 0.0), (0.0, 0.0), (0.0, 0.0)),))
    (b,) = drawn_value(parameter_value(bias), (40,), 1, RNG)
    assert b.tolist() == [0.0] * 10 + [-8.0] * 10 + [0.0] * 20


def names_of(model: nn.Module, x: Tensor) -> list[tuple[str, ...]]:
    graph = trace(model, Inputs(x)).graph
    found = find_loops(graph, range(len(graph)))
    return [tuple(graph.ops[index].name for index in loop.ops) for loop in found]


class Repeated(nn.Module):
    def __init__(self, times: int, *, apart: bool = False, rounded: bool = False) -> None:
        super().__init__()
        self.layer, self.times, self.apart, self.rounded = nn.Linear(8, 8), times, apart, rounded

    def forward(self, x: Tensor) -> Tensor:
        if self.apart:  # the same layer for several inputs is no loop
            return torch.stack([torch.tanh(self.layer(part)) for part in x.chunk(self.times)])
        for _ in range(self.times):
            x = torch.tanh(self.layer(x))
            x = x.cumsum(1) if self.rounded else x
        return x


def test_what_is_a_loop() -> None:
    x = torch.randn(6, 8)
    assert names_of(Repeated(3), x) == [("linear", "tanh") * 3]
    assert names_of(Repeated(2), x) == []
    assert names_of(Repeated(3, apart=True), x) == []
    assert names_of(Repeated(3, rounded=True), x) == []
    assert names_of(nn.Sequential(*(nn.Linear(8, 8) for _ in range(4))), x) == []
