"""A measurement leaves the model and the process as they were, also when it is interrupted."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.probe import measure


class Stateful(nn.Module):
    """Assigns attributes and buffers in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("calls", torch.zeros(()))
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = self.fc(x)
        self.seen = True
        return self.last.relu_()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.emb(ids)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attention(x, x, x)[0]


class Frozen(nn.Module):
    """A frozen trunk with a zero-initialised head: requires_grad flags and zero weights must survive."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).requires_grad_(False)
        self.head = nn.Linear(8, 2)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def half_eval() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
    model[1].eval()
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...] | None]] = {
    "batch norm partly in eval, in-place ReLU, dropout": (half_eval, (4, 3, 8, 8)),
    "whole model in eval": (lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).eval(), (8, 8)),
    "state assigned in forward": (Stateful, (4, 8)),
    "tied weights": (Tied, None),
    "multi-head attention": (Attention, (2, 5, 8)),
    "frozen body, zero head": (Frozen, (4, 8)),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), (4, 8)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), (4, 8)),
    "recurrent": (lambda: nn.Sequential(nn.Linear(8, 8), nn.GRUCell(8, 8)), (4, 8)),
}


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "grads": {name: parameter.grad for name, parameter in model.named_parameters()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "identities": {name: id(value) for name, value in [*model.named_parameters(), *model.named_buffers()]},
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
        "hooks": {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in model.named_modules()},
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()),
        "modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, value in before["tensors"].items():
        assert torch.equal(value, after["tensors"][name]), name
    for key in ("grads", "requires_grad", "training", "identities", "attributes", "hooks", "modes"):
        assert before[key] == after[key], key
    assert torch.equal(before["random"][0], after["random"][0])
    assert before["random"][1] == after["random"][1]
    assert np.array_equal(before["random"][2], after["random"][2])


def inputs(shape: tuple[int, ...] | None) -> Inputs:
    return Inputs(torch.randint(20, (4, 6)) if shape is None else torch.randn(shape))


@pytest.mark.parametrize(("build", "shape"), MODELS.values(), ids=MODELS.keys())
def test_nothing_of_a_model_changes(build: Callable[[], nn.Module], shape: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    model, given = build(), inputs(shape)
    before = snapshot(model)
    measure(model, given, seeds=2)
    assert_same(before, snapshot(model))


class Interrupted(nn.Module):
    """Fails at a given call, after it has changed what it could."""

    def __init__(self, error: type[BaseException], call: int) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.gate = nn.Parameter(torch.zeros(8))
        self.error, self.call = error, call
        self.count = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count[0] += 1
        random.random()
        np.random.random()
        x = self.norm(self.fc(x))
        if self.count[0] >= self.call:
            raise self.error("enough")
        return F.dropout(x * self.gate)


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_or_ctrl_c_in_the_forward_pass_leaves_nothing_behind(error: type[BaseException], call: int) -> None:
    model, given = Interrupted(error, call), inputs((4, 8))
    before = snapshot(model)
    with pytest.raises((error, TraceTargetError)):
        measure(model, given, seeds=2)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize(("build", "shape"), MODELS.values(), ids=MODELS.keys())
def test_a_deep_measurement_changes_nothing(build: Callable[[], nn.Module], shape: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    model, given = build(), inputs(shape)
    before = snapshot(model)
    _, signals = measure(model, given, seeds=1, deep=True)
    assert signals.deep is not None
    assert signals.deep.failed == ()
    # the weights did move in between
    assert signals.deep.learning is not None
    assert any(fit.last != fit.first for fit in signals.deep.learning.fits)
    assert_same(before, snapshot(model))


def test_a_deep_measurement_that_is_interrupted_changes_nothing() -> None:
    class Interrupts(Stateful):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and torch.is_grad_enabled() and not torch.equal(self.fc.weight, self.first):
                raise KeyboardInterrupt  # the first pass after an optimiser step
            return super().forward(x)

    torch.manual_seed(0)
    model = Interrupts()
    model.first = model.fc.weight.detach().clone()
    given = Inputs(torch.randn(4, 8))
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        measure(model, given, seeds=1, deep=True)
    assert_same(before, snapshot(model))


class Switches(nn.Module):
    """Switches grad mode and autocast in its forward and leaves them so, or is stopped before it can put them back."""

    def __init__(self, error: type[BaseException] | None) -> None:
        super().__init__()
        self.fc, self.error = nn.Linear(8, 8), error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", not torch.is_autocast_enabled("cpu"))
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_autocast_cache_enabled(False)
        if self.error is not None:
            raise self.error("enough")
        return x


def modes() -> tuple[bool, bool, torch.dtype, bool]:
    return (
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
    )


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_grad_mode_and_autocast_are_put_back(autocast: bool, grad: bool, error: type[BaseException] | None) -> None:
    model, given = Switches(error), inputs((4, 8))
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        before = modes()
        with pytest.raises((error, TraceTargetError)) if error else contextlib.nullcontext():
            measure(model, given, seeds=1)
        assert modes() == before
        if error is None:
            assert measure(nn.Linear(8, 8), given, seeds=1)[1].rows


def test_under_autocast_the_ops_that_are_cast_are_measured_as_they_run() -> None:
    """bfloat16 has 8 bits: the same signals to one part in a hundred."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 8))
    given = inputs((16, 32))
    _, full = measure(model, given, seeds=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph, half = measure(model, given, seeds=1)
    assert {op.dtype for op in graph if op.name == "linear"} == {"bfloat16"}
    assert [row.name for row in half.rows] == [row.name for row in full.rows]
    for one, other in zip(half.rows, full.rows, strict=True):
        assert one.rms == pytest.approx(other.rms, rel=0.01)
        assert one.grad_rms == pytest.approx(other.grad_rms, rel=0.02)
    assert half.discrimination == pytest.approx(full.discrimination, rel=0.02)


def test_autocast_does_not_remember_weights_from_before_they_woke() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    nn.init.zeros_(model[2].weight)
    given = inputs((16, 16))
    _, full = measure(model, given, seeds=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, half = measure(model, given, seeds=1)
    assert half.awakened == full.awakened == 1
    assert half.rows[0].grad_rms == pytest.approx(full.rows[0].grad_rms, rel=0.05)


def test_existing_gradients_are_kept() -> None:
    model = nn.Linear(4, 4)
    model(torch.randn(2, 4)).sum().backward()
    assert model.weight.grad is not None
    before = model.weight.grad.clone()
    measure(model, Inputs(torch.randn(2, 4)), seeds=1)
    assert torch.equal(model.weight.grad, before)


def test_the_inputs_of_the_user_are_not_written_into() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.mul_(2)
            return self.fc(x)

    given = torch.ones(3, 4)
    measure(Writes(), Inputs(given), seeds=1)
    assert torch.equal(given, torch.ones(3, 4))
    assert not given.requires_grad
