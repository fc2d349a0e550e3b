"""Runs with a checkpoint from end to end: found without running the model, refused for several models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stablelint import api
from stablelint.config import Config
from stablelint.errors import UsageError
from stablelint.finding import Level

Write = Callable[..., str]

STACK = """
class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
        self.head = nn.Linear(32, 4)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)
def example_inputs():
    return torch.randn(8, 32)
"""


@pytest.fixture
def stack(write: Write) -> str:
    """A healthy stack, and ``weights.safetensors`` with one weight that training blew up."""
    draw = torch.Generator().manual_seed(1)
    state = {f"layers.{place}.weight": torch.randn(32, 32, generator=draw) / 4 for place in range(8)}
    state |= {f"layers.{place}.bias": torch.zeros(32) for place in range(8)}
    state |= {"head.weight": torch.randn(4, 32, generator=draw) / 6, "head.bias": torch.zeros(4)}
    save_file(state, "trained.safetensors")
    state["layers.3.weight"] *= 1e6
    save_file(state, "exploded.safetensors")
    return write("stack.py", STACK)


def test_the_exploded_weight_is_found_statically_where_the_initial_ones_are_clean(stack: str) -> None:
    for checkpoint in (None, Path("trained.safetensors")):
        (report,) = api.check([stack], Config(checkpoint=checkpoint)).targets
        assert (report.ok, report.findings) == (True, ()), checkpoint
    (report,) = api.check([stack], Config(checkpoint=Path("exploded.safetensors"))).targets
    found = {finding.name: finding for finding in report.findings}
    assert found["bad-init-scale"].level is Level.ERROR
    assert "layers.3.weight" in found["bad-init-scale"].message
    assert report.signals is not None
    assert report.signals["source"] == "predicted"


def test_the_probe_measures_the_loaded_weights(stack: str) -> None:
    (measured,) = api.probe(stack, Config(checkpoint=Path("exploded.safetensors"), seeds=2))
    name, found, remarks = measured
    assert name == "stack.py:Stack"
    assert (found.measured.gradient_ratio or 0) > 1e4
    assert remarks == ()


def test_a_checkpoint_is_for_one_model(stack: str, write: Write) -> None:
    write("two.py", "class A(nn.Linear):\n    def __init__(self): super().__init__(2, 2)\nclass B(A): pass\nb = B()\n")
    config = Config(checkpoint=Path("trained.safetensors"))
    with pytest.raises(UsageError, match=r"of one model, and there are 2: stack\.py, two\.py:A"):
        api.check([stack, "two.py:A"], config)
    with pytest.raises(UsageError, match=r"of one model, and there are 2: two\.py:A, two\.py:b"):
        api.check(["two.py"], config)


def test_what_is_wrong_with_a_checkpoint_fails_its_target(stack: str) -> None:
    (report,) = api.check([stack], Config(checkpoint=Path("stack.py"))).targets
    assert (report.status, report.reason) == ("failed", "stack.py cannot be read as a checkpoint of torch.save")


def test_lazy_layers_have_their_shapes_before_they_are_filled(write: Write) -> None:
    write("lazy.py", "def build(): return nn.LazyLinear(3)\ndef example_inputs(): return torch.randn(4, 5)\n")
    torch.save(nn.Linear(5, 3).state_dict(), "lazy.pt")
    (report,) = api.check(["lazy.py:build"], Config(checkpoint=Path("lazy.pt"))).targets
    assert report.ok
    assert report.remarks == ()
