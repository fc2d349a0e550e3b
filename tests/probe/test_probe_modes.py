"""Grad mode and autocast around and inside of a measurement."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.probe import measure


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
    model, given = Switches(error), Inputs(torch.randn(4, 8))
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
    given = Inputs(torch.randn(16, 32))
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
    given = Inputs(torch.randn(16, 16))
    _, full = measure(model, given, seeds=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, half = measure(model, given, seeds=1)
    assert half.awakened == full.awakened == 1
    assert half.rows[0].grad_rms == pytest.approx(full.rows[0].grad_rms, rel=0.05)
