"""A fake run leaves no fake tensor in a cache, weights are faked faithfully, and safe guesses are the right ones."""

from __future__ import annotations

import functools
import gc

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stablelint.inputs import Inputs
from stablelint.trace import trace
from stablelint.trace.provenance import fake_weight
from stablelint.trace.weights import statistics

X = torch.randn(2, 4)


@functools.lru_cache(maxsize=8)
def table(width):
    return torch.arange(width).float()


@functools.cache
def tables(width):
    return {"all": [torch.ones(width)]}


@functools.cache
def settings():
    return object()


def decorated(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


@decorated
@functools.cache
def wrapped_table(width):
    return torch.zeros(width)


class Tables:
    @staticmethod
    @functools.cache
    def method_table(width):
        return torch.zeros(width)


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = functools.lru_cache(maxsize=2)(lambda width: torch.zeros(width))

    def forward(self, x):
        settings()
        x = x + wrapped_table(4) + Tables.method_table(4)
        return x + table(4) + tables(4)["all"][0] + self.own(4)


def test_fake_results_do_not_stay_in_caches():
    model = Cached()
    first, second = trace(model, Inputs(X)), trace(model, Inputs(X))
    assert [op.name for op in first.graph] == [op.name for op in second.graph]
    assert torch.equal(model(X), X + table(4) + 1)


def test_other_cached_results_are_kept():
    before = settings()
    table(4)
    trace(Cached(), Inputs(X))
    assert settings() is before
    assert table.cache_info().currsize == 1


def test_garbage_collection_is_as_before():
    trace(nn.Linear(4, 4), Inputs(X))
    assert gc.isenabled()
    gc.disable()
    try:
        trace(nn.Linear(4, 4), Inputs(X))
        assert not gc.isenabled()
    finally:
        gc.enable()


class Guarded(nn.Module):
    """Released detection transformers train behind such a guard."""

    def forward(self, x):
        y = x.exp()
        if not torch.isfinite(y).all():
            y = y.clamp(max=1e4)
        if torch.isinf(y).any() or torch.isnan(y).any():
            y = y.clamp(max=1e4)
        return y


def test_values_are_taken_as_finite():
    large = torch.randn(100, 100)
    graph = trace(Guarded(), Inputs(large)).graph
    assert "clamp" not in [op.name for op in graph]
    assert any(op.guessed for op in graph)


@pytest.mark.parametrize(
    "tensor",
    [
        nn.Parameter(torch.randn(3, 4)),
        nn.Parameter(torch.randn(4, 3).t()),
        nn.Parameter(torch.randn(3), requires_grad=False),
        nn.Buffer(torch.ones(2)),
        torch.zeros(()),
        torch.zeros(4, dtype=torch.long),
        torch.zeros(6)[2:4],
    ],
    ids=["matrix", "transposed", "frozen", "buffer", "scalar", "integers", "view"],
)
def test_weights_are_faked_as_torch_does(tensor):
    mode = FakeTensorMode()
    ours, theirs = fake_weight(tensor, mode, alone=True), mode.from_tensor(tensor)
    for name in ("shape", "dtype", "device", "requires_grad", "is_leaf", "layout"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.stride(), ours.storage_offset()) == (theirs.stride(), theirs.storage_offset())
    for kind in (nn.Parameter, nn.Buffer):
        assert isinstance(ours, kind) == isinstance(tensor, kind)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e25])
@pytest.mark.parametrize("mean", [0.0, 0.5, 30.0])
def test_statistics_of_large_weights_are_exact(mean, scale):
    values = (torch.randn(300, 400, generator=torch.Generator().manual_seed(0)) + mean) * scale
    found = statistics(values)
    expected = values.double()
    assert found[0] == pytest.approx(float(expected.mean()), rel=1e-4, abs=1e-4 * scale)
    if scale == 1.0:
        assert found[1] == pytest.approx(float(expected.std(correction=0)), rel=1e-4)
        assert found[2] == pytest.approx(float(expected.square().mean().sqrt()), rel=1e-4)
