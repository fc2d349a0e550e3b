"""Models are built without allocating their weights, and the distribution of every weight is known all the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.nn.utils import parametrizations
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from stablelint.errors import TraceTargetError
from stablelint.inputs import Inputs
from stablelint.trace import observe_build, trace
from stablelint.trace.provenance import SMALL, TooLarge, contents, sample
from stablelint.trace.state import named_tensors
from stablelint.trace.weights import describe

N = 512  # a square of this side is not small


class Holder(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.w = make()


def empty():
    return nn.Parameter(torch.empty(N, N))


def filled(fill):
    def make():
        weight = empty()
        with torch.no_grad():
            fill(weight)
        return weight

    return make


def rescaled(weight):
    weight.normal_()
    for _ in range(4):
        weight.mul_(0.5)
    weight.div_(2.0).add_(1.0)


def halves(weight):
    weight[:, : N // 2].normal_(0, 2.0)
    weight[:, N // 2 :] = 0


def rows(weight):
    for row in range(0, N, 64):
        weight[row : row + 64].uniform_(-1, 1)


def copied(weight):
    source = torch.empty(N, N).normal_(3.0, 0.5)
    weight.copy_(source.t() * 2)


# name -> (how it is made, mean, standard deviation, similarity of the rows; None: not looked at)
CASES = {
    "normal": (filled(lambda w: w.normal_(0, 0.02)), 0, 0.02, 0),
    "uniform": (filled(lambda w: w.uniform_(0, 1)), 0.5, 12**-0.5, 0.75),
    "kaiming": (filled(nn.init.kaiming_normal_), 0, math.sqrt(2 / N), 0),
    "truncated": (filled(lambda w: nn.init.trunc_normal_(w, std=0.02)), 0, 0.02, 0),
    "truncated at one": (filled(lambda w: nn.init.trunc_normal_(w, a=-1, b=1)), 0, 0.5396, 0),
    "truncated far out": (filled(lambda w: nn.init.trunc_normal_(w, std=1, a=0.5, b=0.9)), 0.69, 0.114, None),
    "orthogonal": (filled(nn.init.orthogonal_), 0, N**-0.5, 0),
    "sparse": (filled(lambda w: nn.init.sparse_(w, 0.75, std=1.0)), 0, 0.5, 0),
    "eye": (filled(nn.init.eye_), 1 / N, N**-0.5, 0),
    "constant": (filled(lambda w: w.fill_(0.1)), 0.1, 0, 1),
    "zeros": (lambda: nn.Parameter(torch.zeros(N, N)), 0, 0, 1),
    "randn scaled": (lambda: nn.Parameter(torch.randn(N, N) * 0.02), 0, 0.02, 0),
    "tensor expanded": (lambda: nn.Parameter(torch.tensor(3.0).expand(N, N).clone()), 3, 0, 1),
    "rescaled in place": (filled(rescaled), 1, 2**-5, None),
    "columns": (filled(halves), 0, 2**0.5, 0),
    "rows": (filled(rows), 0, 3**-0.5, 0),
    "copy": (filled(copied), 6, 1, None),
    "linspace": (lambda: nn.Parameter(torch.linspace(0, 1, N * N).view(N, N)), 0.5, 12**-0.5, None),
    "cat": (lambda: nn.Parameter(torch.cat([torch.zeros(N, N), torch.randn(N, N)])), 0, 0.5**0.5, 0),
    "padding row": (lambda: nn.Embedding(N, N, padding_idx=0).weight, 0, math.sqrt(1 - 1 / N), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_distribution_is_that_of_a_real_build(case: str) -> None:
    make, mean, std, similarity = CASES[case]
    torch.manual_seed(0)
    with observe_build(allocate=False) as origins:
        model = Holder(make)
    assert model.w.is_meta
    found = describe(named_tensors(model), origins)["w"]
    # four standard errors of a sample of 4096, for the kinds that are drawn and not given by quantiles
    error = 4 / math.sqrt(4096)
    assert found.mean == pytest.approx(mean, abs=(0.01 + error) * max(std, abs(mean)) + 1e-6)
    assert found.std == pytest.approx(std, rel=0.01 + error / math.sqrt(2), abs=1e-6)
    if similarity is not None:
        assert found.row_similarity == pytest.approx(similarity, abs=0.01)


def test_gates_in_one_bias_are_told_apart() -> None:
    def make() -> nn.Parameter:
        bias = nn.Parameter(torch.empty(4 * N * N))
        with torch.no_grad():
            bias.zero_()
            bias[N * N : 2 * N * N].fill_(-8.0)
        return bias

    with observe_build(allocate=False) as origins:
        model = Holder(make)
    assert model.w.is_meta
    assert describe(named_tensors(model), origins)["w"].parts[-1] == ((0, 0), (-8, 0), (0, 0), (0, 0))


def test_parametrized_weights_are_known() -> None:
    with observe_build(allocate=False) as origins:
        model = nn.Sequential(
            parametrizations.weight_norm(nn.Linear(N, N)), parametrizations.spectral_norm(nn.Linear(N, N))
        )
    found = describe(named_tensors(model), origins)
    scale = found["0.parametrizations.weight.original0"]
    assert scale.mean == pytest.approx(math.sqrt(N) * (3 * N) ** -0.5, rel=0.02)
    for name in ("0.parametrizations.weight.original1", "1.parametrizations.weight.original"):
        assert found[name].std == pytest.approx((3 * N) ** -0.5, rel=0.02)


def test_small_tensors_have_their_values_and_code_sees_no_meta() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rates = [x.item() for x in torch.linspace(0, 0.5, 3)]
            self.big = nn.Linear(N, N)
            self.register_buffer("mask", torch.ones(N, N, device=self.big.weight.device).tril())
            self.register_buffer("frequencies", 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8))
            self.seen = (self.big.weight.device.type, self.big.weight.is_meta)
            self.scale = float(self.big.weight.detach().std())
            self.tied = nn.Linear(N, N)
            self.tied.weight = self.big.weight

        def forward(self, x):
            return self.tied(self.big(x))

    with observe_build(allocate=False) as origins:
        model = Net()
    assert model.rates == [0.0, 0.25, 0.5]
    assert torch.equal(model.mask, torch.ones(N, N).tril())
    assert model.frequencies.tolist() == pytest.approx([1, 0.1, 0.01, 0.001])
    assert model.seen == ("cpu", False)
    assert model.scale == pytest.approx((3 * N) ** -0.5, rel=0.05)
    assert model.big.weight is model.tied.weight
    assert not model.big.bias.is_meta
    found = trace(model, Inputs(torch.randn(2, N)), origins=origins)
    (weight,) = [each for each in found.graph.parameters if each.name == "big.weight"]
    assert weight.init == "kaiming_uniform_"
    assert weight.init_site is not None
    assert weight.init_site.file == __file__ or weight.init_site.file in __file__
    assert model.big.weight.is_meta


def test_a_model_without_weights_cannot_run_for_real() -> None:
    with observe_build(allocate=False) as origins:
        model = nn.Linear(N, N)
    with pytest.raises(TraceTargetError, match="without its weights"):
        trace(model, Inputs(torch.randn(2, N)), fake=False, origins=origins)
    with pytest.raises(TraceTargetError, match="without values"):
        trace(model, Inputs(torch.randn(2, N + 1)), origins=origins)


def test_everything_is_undone_also_after_an_exception() -> None:
    def patched():
        return (
            nn.Module.__init__,
            nn.Module.__dict__["__setstate__"],
            dict(module_hooks._global_parameter_registration_hooks),
            len(_get_current_dispatch_mode_stack()),
            len(_get_current_function_mode_stack()),
        )

    before = patched()
    with pytest.raises(RuntimeError, match="shape"), observe_build(allocate=False):
        nn.Linear(N, N).weight.view(7, 7)
    assert patched() == before
    assert not nn.Linear(N, N).weight.is_meta


def test_the_build_does_not_draw_from_the_global_generator_for_what_it_leaves_out() -> None:
    state = torch.get_rng_state()
    with observe_build(allocate=False):
        nn.Embedding(N, N)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make", [lambda: nn.Linear(N, N), lambda: torch.empty(10 * N, 10 * N)])
def test_a_build_stops_before_it_allocates_too_much(make) -> None:
    with pytest.raises(TooLarge), observe_build(most=SMALL):
        make()


def test_regions_that_are_written_in_turn() -> None:
    memory = contents.Contents(100)
    one, two = sample.constant(1.0), sample.constant(2.0)
    memory.write(contents.Region((10, 5), (10, 1), 0), one)
    assert not memory.read(contents.Region((100,), (1,), 0)).filled
    memory.write(contents.Region((10, 5), (10, 1), 5), two)
    mean, std, _ = contents.moments(memory.parts(contents.Region((100,), (1,), 0)))
    assert (mean, std) == pytest.approx((1.5, 0.5))
    memory.write(contents.Region((50,), (1,), 0), two)
    mean, _, _ = contents.moments(memory.parts(contents.Region((100,), (1,), 0)))
    assert mean == pytest.approx(1.75, abs=0.26)


def test_samples_that_belong_together_stay_together() -> None:
    drawn = sample.drawn("normal", 0.0, 1.0)
    zero = sample.combine(torch.sub, [drawn, drawn])
    assert float(zero.values.abs().max()) == 0.0
    other = sample.combine(torch.add, [drawn, drawn.fresh()])
    assert other.moments()[1] == pytest.approx(2.0, rel=0.1)
