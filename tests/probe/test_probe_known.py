"""A pass over known ops measures what a whole pass measures, or notices that they are not the same ops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stablelint.inputs import Inputs
from stablelint.probe import measure
from stablelint.probe.batches import differentiable
from stablelint.probe.gauge import Gauge, Reading
from stablelint.probe.known import Known
from stablelint.probe.objective import objective
from stablelint.trace import Trace, trace
from stablelint.trace.replay import DivergedError


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Everything(nn.Module):
    """Results in several parts, writes into views, custom functions, recomputation, fused attention, a loop in time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.halves, self.out = nn.Linear(8, 16), nn.Linear(16, 32), nn.Linear(16, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.branch = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.stem(x))
        left, right = self.halves(x).chunk(2, dim=-1)
        x = Double.apply(left) * torch.sigmoid(right)
        x = x + checkpoint(self.branch, x, use_reentrant=False)
        y = x.clone()
        y[:, 0] = 0
        x = x + F.scaled_dot_product_attention(y, x, x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.out(self.lstm(x)[0][:, -1])


def recorded(model: nn.Module, inputs: Inputs) -> tuple[Trace, Gauge]:
    gauge = Gauge(batch=4)
    found = trace(model, differentiable(inputs), fake=False, listener=gauge)
    gauge.batch_first = frozenset(op.index for op in found.graph if op.attrs.get("batch_first"))
    return found, finished(found, gauge)


def finished(found: Trace, gauge: Gauge) -> Gauge:
    gauge.outputs.clear()
    objective(found.graph, found.output, 0).backward()
    return gauge


def seen(readings: dict[int, Reading]) -> dict[int, tuple[float | None, ...]]:
    return {
        index: (reading.rms, reading.grad_rms, reading.dead, reading.saturated, reading.retention)
        for index, reading in readings.items()
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_known_ops_are_measured_as_all_are(seed: int) -> None:
    torch.manual_seed(seed)
    model, inputs = Everything(), Inputs(torch.randn(4, 6, 8))
    first, gauge = recorded(model, inputs)
    known = Known.of(first, gauge)
    assert known is not None
    assert {first.graph.ops[index].name for index in known.sites} >= {"linear", "add", "lstm"}
    again = Gauge(batch=4)
    finished(known.again(model, differentiable(inputs), again), again)
    assert seen(again.readings) == {index: seen(gauge.readings)[index] for index in known.sites}


def test_another_model_is_noticed() -> None:
    inputs = Inputs(torch.randn(4, 6, 8))
    known = Known.of(*recorded(Everything(), inputs))
    assert known is not None
    wider = Everything()
    wider.out = nn.Linear(16, 5)
    shorter = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    for other in (wider, shorter):
        with pytest.raises(DivergedError):
            known.again(other, differentiable(inputs), Gauge(batch=4))


class Fickle(nn.Module):
    """Takes another way from its second pass on."""

    def __init__(self, passes: Iterator[int]) -> None:
        super().__init__()
        self.passes = passes
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[: 2 if next(self.passes) else 3]:
            x = torch.relu(layer(x))
        return x


def test_a_pass_that_takes_another_way_does_not_count() -> None:
    passes, inputs = itertools.count(), Inputs(torch.randn(4, 8))
    _, signals = measure(Fickle(passes), inputs, rebuild=lambda seed: (Fickle(passes), inputs))
    assert signals.seeds == 1
    assert next(passes) > 3  # both were looked at again as a whole


def test_zeros_wake_in_every_draw() -> None:
    def net(seed: int) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
        nn.init.zeros_(model[-1].weight)
        return model, Inputs(torch.randn(8, 8))

    model, inputs = net(0)
    _, signals = measure(model, inputs, rebuild=net)
    assert signals.seeds == 3
    assert signals.awakened == 1
    assert all(row.grad_rms for row in signals.trunk)


class Either(nn.Module):
    """ReLU or sigmoid, as the data fall: the same number of calls, the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bend = torch.relu if float(x.detach().mean()) > 0 else torch.sigmoid
        for layer in self.layers:
            x = bend(layer(x))
        return x


def test_another_function_in_the_same_place_does_not_count() -> None:
    def given(seed: int) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(seed)
        return Either(), Inputs(torch.randn(16, 8) + (-1.0 if seed % 2 else 1.0))

    graph, signals = measure(*given(0), rebuild=given, seeds=6)
    assert "relu" in [op.name for op in graph]
    assert signals.seeds == 3


def test_a_recurrent_layer_whose_outputs_have_no_gradient_keeps_its_size() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[1][0][0])

    def given(seed: int) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(0)
        return Classifier(), Inputs(torch.randn(4, 6, 8) * 10.0**seed)

    _, signals = measure(*given(0), rebuild=given, seeds=3)
    alone = [measure(*given(seed), seeds=1)[1] for seed in range(3)]

    def size(of):
        return next(row.rms for row in of.rows if row.name == "lstm")

    assert size(signals) == pytest.approx((size(alone[0]) * size(alone[1]) * size(alone[2])) ** (1 / 3), rel=1e-4)
