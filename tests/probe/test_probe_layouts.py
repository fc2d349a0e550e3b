"""Axes and state that the probe must read from the ops and not guess from the shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.finding import Level
from stablelint.inputs import Inputs
from stablelint.probe import measure


class Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 2)
        nn.init.constant_(self.lstm.bias_ih_l0, -4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.lstm(x)[0]
        return self.head(states[:, -1] if self.lstm.batch_first else states[-1])


@pytest.mark.parametrize("batch_first", [True, False])
def test_time_is_the_axis_that_the_recurrent_op_says(batch_first: bool) -> None:
    torch.manual_seed(0)
    shape = (6, 24, 8) if batch_first else (24, 6, 8)
    _, signals = measure(Recurrent(batch_first=batch_first), Inputs(torch.randn(shape)), seeds=1)
    (factor,) = [row.retention for row in signals.rows if row.retention is not None]
    assert factor < 0.1


def test_channels_of_a_conv1d_are_its_units() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 8, 3)
    with torch.no_grad():
        conv.bias[:6] = -50.0  # type: ignore[index]
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14, 2))
    _, signals = measure(model, Inputs(torch.randn(8, 4, 16)), seeds=1)
    assert [row.dead for row in signals.rows if row.name == "relu"] == [0.75]


class RebindsBuffer(nn.Module):
    """Its head sleeps, so that the probe runs it outside of a trace as well."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.shift = nn.Parameter(torch.zeros(8))
        self.register_buffer("average", torch.zeros(8))
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        x.sub_(1.0)
        ids[0] = 7
        self.shift.data.copy_(x.detach().mean(0))
        y = torch.relu(self.body(x - self.shift))
        self.average = 0.9 * self.average + 0.1 * y.detach().mean(0)
        return self.head(y - self.average)


def test_parameters_rebound_buffers_and_inputs_are_restored() -> None:
    torch.manual_seed(0)
    model, x, ids = RebindsBuffer(), torch.randn(16, 8), torch.zeros(3, dtype=torch.long)
    state, average, before = {k: v.clone() for k, v in model.state_dict().items()}, model.average, x.clone()
    measure(model, Inputs(x, ids), seeds=2)
    assert model.average is average
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, before)
    assert ids.tolist() == [0, 0, 0]


def test_lazy_layers_leave_the_random_state() -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    measure(nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)), Inputs(torch.ones(8, 4)), seeds=1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_units_that_share_only_their_gradient_are_not_copies() -> None:
    torch.manual_seed(0)

    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 16)
            nn.init.constant_(self.fc.bias, 20.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).mean(-1, keepdim=True)

    _, signals = measure(Averaged(), Inputs(torch.randn(16, 8)), seeds=1)
    (share,) = [row.unit_similarity for row in signals.rows if row.name == "linear"]
    assert share is not None
    assert 0.99 < share < 0.99999


@pytest.mark.parametrize(("steps", "warned"), [(24, False), (200, True)])
def test_a_long_sequence_is_mostly_not_heard(steps: int, warned: bool) -> None:
    """A default RNN keeps about half of the gradient per step: of any length it hears the last dozen."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(8, 32, batch_first=True), nn.Linear(32, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model, inputs = Last(), Inputs(torch.randn(6, steps, 8))
    for deep in (False, True):
        report = check_model(model, inputs, probe=True, deep=deep)
        found = [finding for finding in report.findings if finding.code == "SL908"]
        assert bool(found) == (deep and warned)
        assert all(finding.level is Level.WARNING for finding in found)
    (row,) = [row for row in measure(model, inputs, seeds=1)[1].rows if row.steps_heard is not None]
    assert 8 <= row.steps_heard * steps <= 16
    assert 1 < row.step_variation < steps**0.5
