"""Memory that nobody has written is told from memory that was, whatever it happens to hold."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from stablelint.trace import observe_build
from stablelint.trace.state import named_tensors
from stablelint.trace.weights import describe

N = 512  # a square of this side is not small


def unwritten(allocate: bool, **made) -> dict[str, int | None]:
    """The parameters that nobody filled, with the line that allocated each."""
    with observe_build(allocate=allocate) as origins:
        model = nn.Module()
        for name, make in made.items():
            setattr(model, name, make())
    found = describe(named_tensors(model), origins).values()
    assert all(math.isnan(each.std) for each in found if each.init == "empty")
    return {each.name: each.init_site.line if each.init_site else None for each in found if each.init == "empty"}


def there(function) -> int:
    """The line of a function that is written on one line."""
    return function.__code__.co_firstlineno


both_builds = pytest.mark.parametrize("allocate", [True, False])
both_sizes = pytest.mark.parametrize("n", [8, N])


@both_builds
@both_sizes
def test_memory_that_nobody_writes_is_empty_and_its_line_is_known(allocate: bool, n: int) -> None:
    made = {
        "empty": lambda: nn.Parameter(torch.empty(n, n)),
        "legacy": lambda: nn.Parameter(torch.Tensor(n, n)),
        "float_tensor": lambda: nn.Parameter(torch.FloatTensor(n, n)),
        "like": lambda: nn.Parameter(torch.empty_like(nn.Linear(n, n).weight)),
        "new": lambda: nn.Parameter(torch.zeros(2).new_empty(n, n)),
        "in_half": lambda: nn.Parameter(torch.empty(n, n, dtype=torch.float16)),
        "in_double": lambda: nn.Parameter(torch.empty(n, n, dtype=torch.float64)),
        "as_complex": lambda: nn.Parameter(torch.empty(n, n, dtype=torch.complex64)),
        "scaled": lambda: nn.Parameter(torch.empty(n, n) * 0.02),
        "copied": lambda: copy.deepcopy(nn.Parameter(torch.empty(n, n))),
    }
    found = unwritten(allocate, **made)
    legacy = {
        "legacy",
        "float_tensor",
    }  # torch does not tell of these constructors: the line that registers them stands
    assert {name: line for name, line in found.items() if name not in legacy} == {
        name: there(make) for name, make in made.items() if name not in legacy
    }
    assert legacy <= set(found)
    assert None not in found.values()


def half_filled(n: int) -> nn.Parameter:
    weight = nn.Parameter(torch.empty(2 * n, n))  # allocated
    nn.init.xavier_uniform_(weight.data.chunk(2)[0])
    return weight


def only_scaled(n: int) -> nn.Parameter:
    weight = nn.Parameter(torch.empty(n, n))
    weight.data.mul_(0.02)
    return weight


@both_builds
@both_sizes
@pytest.mark.parametrize("make", [half_filled, only_scaled])
def test_a_write_that_leaves_something_unwritten_does_not_count(allocate: bool, n: int, make) -> None:
    assert unwritten(allocate, w=lambda: make(n)) == {"w": there(make) + 1}


def filled_by(write):
    def make(n: int) -> nn.Parameter:
        weight = nn.Parameter(torch.empty(3 * n, n))
        with torch.no_grad():
            write(weight)
        return weight

    return make


def moved(_n: int) -> nn.Module:
    with torch.device("meta"):
        layer = nn.Linear(8, 8)
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    return layer


FILLED = {
    "zeros": filled_by(lambda w: w.zero_()),
    "slice": filled_by(lambda w: w.__setitem__(slice(None), 1.0)),
    "chunks": filled_by(lambda w: [nn.init.xavier_uniform_(part) for part in w.chunk(3)]),
    "rows": filled_by(lambda w: [row.fill_(number) for number, row in enumerate(w[:-8])] + [w[-8:].normal_()]),
    "copy": filled_by(lambda w: w.copy_(torch.randn(w.shape))),
    "data": filled_by(lambda w: setattr(w, "data", torch.randn(w.shape))),
    "legacy": lambda _: nn.Parameter(torch.FloatTensor(8, 8).uniform_(-1, 1)),
    "values": lambda _: nn.Parameter(torch.Tensor([1.0, 2.0])),
    "nan": lambda _: nn.Parameter(torch.tensor(math.nan)),
    "recurrent": lambda _: nn.LSTM(8, 8, 2, bidirectional=True),
    "attention": lambda _: nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
    "moved": moved,
    "weight norm": lambda _: parametrizations.weight_norm(nn.Linear(8, 8)),
    "orthogonal": lambda _: parametrizations.orthogonal(nn.Linear(8, 8)),
    "lazy": lambda _: nn.LazyLinear(8),
}


@both_builds
@both_sizes
@pytest.mark.parametrize("make", FILLED.values(), ids=FILLED)
def test_every_way_to_fill_memory_is_seen(allocate: bool, n: int, make) -> None:
    assert unwritten(allocate, w=lambda: make(n)) == {}


@both_builds
def test_numpy_writes_small_memory_unseen_by_torch(allocate: bool) -> None:
    def make():
        weight = nn.Parameter(torch.empty(8))
        weight.detach().numpy()[:] = 1.0
        return weight

    assert unwritten(allocate, w=make) == {}


def test_luck_decides_nothing_memory_is_nan_until_it_is_written() -> None:
    recycled = torch.zeros(N, N)
    del recycled
    with observe_build():
        weight = torch.empty(N, N)
        integers = torch.empty(8, dtype=torch.int64)
    assert bool(weight.isnan().all())
    assert integers.dtype is torch.int64
