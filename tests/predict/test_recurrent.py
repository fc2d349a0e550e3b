"""Recurrent layers and loops against autograd on the real ones: the gradient at the first and at the last step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
from recurrent_models import (
    Attending,
    Cells,
    Last,
    WrittenGRU,
    WrittenLSTM,
    WrittenRNN,
    bias_of_forget_gates,
    identity,
    orthogonal,
    scaled_by,
)
from torch import Tensor, nn

from stablelint.inputs import Inputs
from stablelint.predict import interpret, predict
from stablelint.predict.domain import Value
from stablelint.predict.transfer.recurrent import LONGEST
from stablelint.trace import trace

Make = Callable[[], nn.Module]


def ends(gradient: Tensor, axis: int) -> tuple[float, float]:
    """log10 of the gradient rms at the first and at the last step."""
    steps = gradient.double().movedim(axis, 0).flatten(1).pow(2).mean(1).sqrt().log10()
    return float(steps[0]), float(steps[-1])


def measured(make: Make, shape: tuple[int, ...], axis: int, seeds: int = 12) -> tuple[float, float, float]:
    """The ends of the gradient and the rms of the output, over seeds."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model, x = make().double(), torch.randn(shape, dtype=torch.float64, requires_grad=True)
        y = model(x)
        (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
        found.append((*ends(gradient, axis), float(y.detach().pow(2).mean().sqrt())))
    first, last, rms = (statistics.mean(column) for column in zip(*found, strict=True))
    return first, last, rms


def predicted(make: Make, shape: tuple[int, ...], axis: int) -> tuple[float, float, float]:
    torch.manual_seed(100)
    graph = trace(make(), Inputs(torch.randn(shape))).graph
    found = interpret(graph)
    assert not found.unknown, found.reasons
    source, sink = found.values[0], found.values[graph.outputs[0]]
    assert isinstance(source, Value)
    assert isinstance(sink, Value)
    gradient = source.gradient()
    assert gradient is not None
    focus = source.focus.get(axis, np.ones(shape[axis]))
    first, last = (0.5 * math.log10(float(gradient.flat[-1]) * float(focus[place])) for place in (0, -1))
    return first, last, math.sqrt(sink.power)


KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LAYERS: dict[str, tuple[Make, tuple[int, ...], int]] = {}
for _name, _kind in KINDS.items():
    for _steps in (16, 64, 200):
        LAYERS[f"{_name}{_steps}"] = (lambda k=_kind: Last(k(16, 64, batch_first=True)), (8, _steps, 16), 1)
    LAYERS |= {
        f"{_name}_time_first": (lambda k=_kind: Last(k(16, 64)), (32, 8, 16), 0),
        f"{_name}_both_ways": (lambda k=_kind: Last(k(16, 64, bidirectional=True)), (32, 8, 16), 0),
        f"{_name}_two_layers": (lambda k=_kind: Last(k(16, 64, 2, batch_first=True)), (8, 32, 16), 1),
        f"{_name}_orthogonal": (lambda k=_kind: Last(k(16, 64, batch_first=True), orthogonal), (8, 64, 16), 1),
        f"{_name}_no_bias": (lambda k=_kind: Last(k(16, 64, bias=False)), (32, 8, 16), 0),
        f"{_name}_wide": (lambda k=_kind: Last(k(16, 400)), (32, 2, 16), 0),
    }
LAYERS |= {
    "lstm_forget_1": (lambda: Last(nn.LSTM(16, 64), bias_of_forget_gates(0.5)), (64, 8, 16), 0),
    "lstm_forget_-8": (lambda: Last(nn.LSTM(16, 64), bias_of_forget_gates(-4.0)), (32, 8, 16), 0),
    "lstm_projected": (lambda: Last(nn.LSTM(16, 64, proj_size=24)), (32, 8, 16), 0),
    "lstm_scaled_by_8": (lambda: Last(nn.LSTM(16, 64), scaled_by(8.0)), (64, 8, 16), 0),
    "rnn_scaled_by_8": (lambda: Last(nn.RNN(16, 64), scaled_by(8.0)), (64, 8, 16), 0),
    "rnn_identity": (lambda: Last(nn.RNN(16, 64, nonlinearity="relu"), identity), (64, 8, 16), 0),
}
LOOPS: dict[str, tuple[Make, tuple[int, ...], int]] = {
    "lstm_cell": (lambda: Cells(nn.LSTMCell), (8, 64, 16), 1),
    "gru_cell": (lambda: Cells(nn.GRUCell), (8, 64, 16), 1),
    "rnn_cell": (lambda: Cells(nn.RNNCell), (8, 64, 16), 1),
    "two_lstm_cells": (lambda: Cells(nn.LSTMCell, two=True), (8, 24, 16), 1),
    "written_lstm": (WrittenLSTM, (8, 64, 16), 1),
    "written_lstm_forget_2": (lambda: WrittenLSTM(2.0), (8, 64, 16), 1),
    "written_lstm_forget_-8": (lambda: WrittenLSTM(-8.0), (8, 16, 16), 1),
    "written_gru": (WrittenGRU, (8, 64, 16), 1),
    "written_rnn": (lambda: WrittenRNN(0.0, 0.6), (8, 32, 16), 1),
    "written_rnn_diagonal": (lambda: WrittenRNN(0.8, 0.2), (8, 64, 16), 1),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", [*LAYERS, *LOOPS])
def test_gradient_at_the_first_and_last_step(name: str) -> None:
    make, shape, axis = (LAYERS | LOOPS)[name]
    truth, guess = measured(make, shape, axis), predicted(make, shape, axis)
    decay = abs(truth[1] - truth[0])
    # the decay of units as few as these varies by 7% from one draw of the weights to the next: by 2.7% between the
    # means of the 12 that are measured and the 16 that are predicted
    assert guess[0] == pytest.approx(truth[0], abs=0.25 + 0.055 * decay)
    assert guess[1] == pytest.approx(truth[1], abs=0.15)
    assert guess[2] == pytest.approx(truth[2], rel=0.25)


def test_weights_of_a_loop_grow_by_their_spectral_radius() -> None:
    """(a I + b W)^k: sum_j C(k,j)^2 a^(2(k-j)) b^(2j) for one W at all steps, (a^2 + b^2)^k for a new one each."""

    class Power(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(128, 128) / math.sqrt(128))

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):
                x = 0.5 * x + 0.25 * (x @ self.w)
            return x

    tied = sum(math.comb(20, j) ** 2 * 0.5 ** (2 * (20 - j)) * 0.25 ** (2 * j) for j in range(21))
    fresh = (0.5**2 + 0.25**2) ** 20
    gradient = next(row.grad_rms for row in predict(trace(Power(), Inputs(torch.randn(8, 128))).graph).rows)
    assert gradient is not None
    assert tied > 100 * fresh
    assert math.log10(gradient**2 / tied) == pytest.approx(0, abs=0.4)


def test_ops_inside_a_loop_have_their_gradient() -> None:
    torch.manual_seed(0)
    model, x = WrittenRNN(0.0, 0.6), torch.randn(8, 12, 16)
    graph = trace(model, Inputs(x)).graph
    rows = {row.op: row for row in predict(graph).rows}
    tanhs = [rows[op.index] for op in graph if op.name == "tanh"]
    states, h = [], torch.zeros(8, 48)
    for at in range(12):
        h = torch.tanh(x[:, at] @ model.u + h @ model.w + model.b)
        h.retain_grad()
        states.append(h)
    h.backward(torch.randn_like(h))
    for row, state in zip(tanhs, states, strict=True):
        assert state.grad is not None
        assert row.grad_rms is not None
        assert row.rms == pytest.approx(float(state.detach().pow(2).mean().sqrt()), rel=0.15)
        assert abs(math.log10(row.grad_rms / float(state.grad.pow(2).mean().sqrt()))) < 0.3


def test_gradients_of_weights_and_of_a_given_state() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.cell = nn.Linear(16, 64), nn.GRU(16, 64, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.cell(x, self.encode(x[:, 0]).unsqueeze(0))[0]
            return y

    truth: dict[str, list[float]] = {}
    for seed in range(4):
        torch.manual_seed(seed)
        model, x = Given(), torch.randn(16, 8, 16)
        y = model(x)
        y.backward(torch.randn_like(y))
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            truth.setdefault(name, []).append(float(parameter.grad.pow(2).mean().sqrt()))
    guesses = {row.name: row.grad_rms for row in predict(trace(model, Inputs(x)).graph).parameters}
    for name, values in truth.items():
        assert guesses[name] == pytest.approx(statistics.mean(values), rel=0.3), name


def test_long_layers_go_on_at_the_same_rate_and_cost_no_more() -> None:
    def make() -> nn.Module:
        return Last(nn.GRU(8, 32))

    guess = predicted(make, (500, 4, 8), 0)
    assert guess[0] == pytest.approx(measured(make, (500, 4, 8), 0, seeds=4)[0], rel=0.12)
    graph = trace(make(), Inputs(torch.randn(2000, 4, 8))).graph
    output = next(value for value in interpret(graph).values.values() if isinstance(value, tuple))[0]
    assert isinstance(output, Value)
    assert len(output.steps) == LONGEST  # what is drawn of 2000 steps


def test_attention_inside_a_loop() -> None:
    truth, guess = measured(Attending, (8, 12, 16), 1), predicted(Attending, (8, 12, 16), 1)
    assert guess == pytest.approx(truth, abs=0.1)


def test_overflow_is_not_taken_for_zero() -> None:
    model = Last(nn.RNN(8, 16, nonlinearity="relu"), scaled_by(100.0))
    found = interpret(trace(model, Inputs(torch.randn(400, 4, 8))).graph)
    source = found.values[0]
    assert isinstance(source, Value)
    gradient = source.gradient()
    assert gradient is not None
    assert float(gradient.flat[-1]) > 1e100


def test_a_loop_through_ops_that_cannot_be_drawn_is_taken_op_by_op() -> None:
    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv1d(1, 1, 3, padding=1), nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(5):
                x = self.conv(torch.tanh(self.mix(x)).unsqueeze(1)).squeeze(1)
            return x

    found = interpret(trace(Convolved(), Inputs(torch.randn(8, 32))).graph)
    source = found.values[0]
    assert not found.unknown
    assert isinstance(source, Value)
    assert source.gradient() is not None
