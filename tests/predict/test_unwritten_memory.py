"""What reads memory that nobody wrote is predicted as not finite, the rest as if it had been filled."""

from __future__ import annotations

import torch
from torch import nn

from stablelint.inputs import Inputs
from stablelint.predict import predict
from stablelint.trace import observe_build, trace


class Net(nn.Module):
    def __init__(self, fill: bool):
        super().__init__()
        self.first = nn.Parameter(torch.empty(32, 32))
        self.second = nn.Parameter(torch.empty(32, 32))
        self.unread = nn.Parameter(torch.empty(8))
        if fill:
            nn.init.normal_(self.first, std=32**-0.5)
            nn.init.normal_(self.second, std=32**-0.5)

    def forward(self, x):
        return torch.tanh(x @ self.first) @ self.second


def predicted(fill: bool):
    torch.manual_seed(0)
    with observe_build() as origins:
        model = Net(fill)
    graph = trace(model, Inputs(torch.randn(8, 32)), origins=origins).graph
    return [op.index for op in graph if op.name == "matmul"], predict(graph)


def test_the_first_reader_is_named_and_the_others_stand_beside_it():
    readers, signals = predicted(fill=False)
    assert signals.nonfinite is not None
    assert [signals.nonfinite.op, *signals.nonfinite.beside] == readers


def test_an_unread_parameter_changes_nothing_and_the_rest_is_judged_as_if_filled():
    _, filled = predicted(fill=True)
    _, unfilled = predicted(fill=False)
    assert filled.nonfinite is None
    for one, other in zip(filled.trunk, unfilled.trunk, strict=True):
        assert 0.8 < one.rms / other.rms < 1.25
