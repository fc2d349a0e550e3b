"""Where autograd is off while a model runs, and what that means for prediction and probe."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.probe import measure
from stablelint.trace import trace


class Net(nn.Module):
    """Two layers around ``between``."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Linear(8, 16), nn.Linear(16, 4), between

    def forward(self, x):
        return self.second(self.between(self, x))


def doubled_without_gradient(net, x):
    x = net.first(x)
    with torch.no_grad():
        return x * 2


def shielded(net, x):
    with torch.inference_mode(False), torch.no_grad():
        return net.first(x).relu()


def reentrant(net, x):
    return checkpoint(net.first, x.clone().requires_grad_(), use_reentrant=True)


def reentrant_within_no_grad(net, x):
    with torch.no_grad():
        return checkpoint(net.first, x, use_reentrant=True)


def graph_of(between, *, fake: bool) -> Graph:
    return trace(Net(between), Inputs(torch.randn(6, 8)), fake=fake).graph


def off(graph: Graph) -> list[str]:
    return [op.name for op in graph if not op.differentiable]


@pytest.mark.parametrize("fake", [True, False], ids=["fake", "real"])
@pytest.mark.parametrize(
    ("between", "expected"),
    [(doubled_without_gradient, ["mul"]), (shielded, ["linear", "relu"]), (reentrant, [])],
)
def test_ops_without_autograd_are_marked(between, expected, fake):
    assert off(graph_of(between, fake=fake)) == expected


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpointing_under_no_grad_is_not_differentiable():
    assert off(graph_of(reentrant_within_no_grad, fake=True)) == ["linear"]


def test_the_graph_knows_the_mode_of_the_model():
    model, inputs = Net(shielded), Inputs(torch.randn(6, 8))
    assert trace(model, inputs).graph.training
    assert not trace(model.eval(), inputs).graph.training


def test_a_trace_sees_the_gradient_although_its_caller_switched_autograd_off():
    with torch.no_grad():
        assert off(graph_of(doubled_without_gradient, fake=True)) == ["mul"]


def test_prediction_and_probe_agree_that_nothing_goes_back():
    model, inputs = Net(doubled_without_gradient), Inputs(torch.randn(6, 8))
    predicted = predict(trace(model, inputs).graph)
    _, measured = measure(model, inputs, seeds=1)
    for signals in (predicted, measured):
        gradients = {each.name: each.grad_rms for each in signals.parameters}
        assert not gradients["first.weight"]
        assert gradients["second.weight"] > 0
        assert [(cut.name, cut.parameters) for cut in signals.cuts] == [("mul", ("first.weight", "first.bias"))]
        assert {each.name: each.matrix for each in signals.parameters} == {
            "first.weight": True, "first.bias": False, "second.weight": True, "second.bias": False,
        }  # fmt: skip
        assert all(each.readers for each in signals.parameters)
