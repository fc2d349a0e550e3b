"""The Hessian's ends against dense second derivatives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from footprint import Footprint
from layers_to_restore import SMALL
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from stablelint.errors import TargetError, TraceTargetError
from stablelint.inputs import Inputs
from stablelint.probe.curvature import curvature, hessian, pose
from stablelint.probe.curvature.problem import OWN, RANDOM, Problem


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][:, -1])


class OwnLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.net(x)
        return F.cross_entropy(logits, labels), logits


class Once(torch.autograd.Function):
    """tanh without a second derivative."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class Single(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(x)


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), activation, nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "tanh": (lambda: mlp(nn.Tanh()), (16, 6)),
    "relu in place": (lambda: mlp(nn.ReLU(inplace=True)), (16, 6)),
    "convolution and batch norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(64, 2)),
        (8, 2, 6, 6),
    ),
    "fused attention": (Attention, (8, 5, 6)),
    "lstm": (Recurrent, (8, 5, 4)),
}


def dense(problem: Problem) -> torch.Tensor:
    """All eigenvalues, from second derivatives in double precision."""
    model = copy.deepcopy(problem.model).double().train()
    named = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    start = torch.cat([value.reshape(-1) for value in named.values()])
    args = [arg.double() if arg.is_floating_point() else arg for arg in problem.inputs.args]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        pieces = vector.split([value.numel() for value in named.values()])
        weights = {name: piece.reshape(named[name].shape) for name, piece in zip(named, pieces, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            output = functional_call(model, weights, tuple(args))
        if problem.kind == OWN:
            return problem.loss(output)
        targets = problem.targets
        targets = [target.double() for target in targets] if isinstance(targets, list) else targets
        return problem.loss(output, targets)

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))


@pytest.mark.parametrize(("build", "shape"), CASES.values(), ids=CASES.keys())
def test_both_ends_are_within_two_percent_of_the_dense_hessian(build: Callable, shape: tuple[int, ...]) -> None:
    problem = pose(build(), Inputs(torch.randn(shape)))
    assert problem.kind == RANDOM
    found, exact = hessian(problem), dense(problem)
    assert found.by == "double backward"
    assert found.converged == (True, True)
    assert found.parameters == len(exact)
    assert found.largest == pytest.approx(float(exact[-1]), rel=0.02)
    assert found.smallest == pytest.approx(float(exact[0]), rel=0.02)
    assert found.mean_absolute == pytest.approx(float(exact.abs().mean()), rel=0.5)  # one random vector
    assert found.max_learning_rate() == 2 / found.largest


@pytest.mark.parametrize("given", [False, True])
def test_the_loss_is_the_models_own_or_the_given_one(given: bool) -> None:
    x, labels = torch.randn(12, 5), torch.randint(3, (12,))
    model = OwnLoss()
    problem = pose(model, Inputs(x, labels))
    if given:
        problem = pose(model.net, Inputs(x), loss=nn.CrossEntropyLoss(), targets=labels)
    assert (problem.kind == OWN) != given
    assert hessian(problem).largest == pytest.approx(float(dense(problem)[-1]), rel=0.02)


def test_differences_of_gradients_are_as_good_where_the_loss_is_smooth() -> None:
    problem = pose(mlp(nn.Tanh()), Inputs(torch.randn(16, 6)))
    found, exact = hessian(problem, differences=True), dense(problem)
    assert found.by == "differences of gradients"
    assert found.largest == pytest.approx(float(exact[-1]), rel=0.02)
    assert found.smallest == pytest.approx(float(exact[0]), rel=0.02)


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(6, 6), inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, self.first(x), use_reentrant=True)


@pytest.mark.parametrize(
    ("hard", "easy"),
    [
        (lambda net: nn.Sequential(*net[:1], Single(), *net[2:]), lambda net: net),
        (Checkpointed, lambda net: net),
    ],
    ids=["an op without second derivative", "reentrant checkpointing"],
)
def test_what_cannot_be_derived_twice_is_differenced(hard: Callable, easy: Callable) -> None:
    net, x = mlp(nn.Tanh()), torch.randn(16, 6)
    model = hard(net)
    twin = nn.Sequential(model.first, net) if isinstance(model, Checkpointed) else easy(net)
    problem = pose(model, Inputs(x))
    found = hessian(problem)
    exact = dense(Problem(twin, Inputs(x), problem.loss, problem.targets, RANDOM))
    assert found.by == "differences of gradients"
    assert found.largest == pytest.approx(float(exact[-1]), rel=0.02)
    remarks = curvature(model, Inputs(x), draws=2).remarks
    assert any("no second derivative" in remark for remark in remarks)


def test_gradient_descent_is_stable_up_to_the_largest_rate_and_not_above() -> None:
    x, y = torch.randn(64, 5), torch.randn(64, 2)
    found = hessian(pose(nn.Linear(5, 2), Inputs(x), loss=nn.MSELoss(), targets=y))
    for momentum in (0.0, 0.9):
        ends = []
        for factor in (0.97, 1.03):
            model = nn.Linear(5, 2)
            rate = factor * found.max_learning_rate(momentum)
            optimizer = torch.optim.SGD(model.parameters(), rate, momentum=momentum)
            for _ in range(600):
                optimizer.zero_grad()
                F.mse_loss(model(x), y).backward()
                optimizer.step()
            ends.append(F.mse_loss(model(x), y).item())
        assert ends[0] < 2
        assert not ends[1] < 100


def test_a_loss_that_is_linear_in_the_parameters_bounds_no_rate() -> None:
    found = hessian(pose(nn.Linear(3, 2), Inputs(torch.randn(4, 3)), loss=lambda output: output.sum()))
    assert found.largest == found.smallest == 0
    assert found.max_learning_rate() == math.inf
    assert found.condition is None


def test_half_precision_gives_the_same_within_its_rounding() -> None:
    net, x = mlp(nn.Tanh()), torch.randn(16, 6)
    full = pose(net, Inputs(x))
    half = pose(copy.deepcopy(net).bfloat16(), Inputs(x.bfloat16()))
    found = hessian(half)
    assert found.by == "double backward"
    assert found.largest == pytest.approx(hessian(full).largest, rel=0.1)


def test_a_dead_network_has_figures_and_no_crash() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    nn.init.constant_(model[0].bias, -100.0)
    found = curvature(model, Inputs(torch.randn(8, 4)), draws=2)
    assert found.hessian is not None
    assert found.noise is not None
    assert found.blocks[0].largest == 0
    nn.init.zeros_(model[2].weight)
    everything = curvature(model, Inputs(torch.randn(8, 4)), loss=lambda output: 0 * output.sum(), draws=2)
    assert everything.hessian is not None
    assert everything.hessian.max_learning_rate() == math.inf
    assert everything.noise is not None
    assert not everything.noise.resolved


def test_fewer_products_than_needed_are_admitted() -> None:
    problem = pose(mlp(nn.Tanh()), Inputs(torch.randn(16, 6)))
    found = hessian(problem, limit=3)
    assert found.products == 3
    assert found.converged == (False, False)


# what cannot be run twice in a row has no curvature: restoring it is the business of test_probe_restoration.py
@pytest.mark.parametrize(
    "name",
    [
        "in-place ReLU, batch norm partly in eval, dropout",
        "whole model in eval",
        "state of every kind",
        "random generators of its own",
        "hooks of modules and tensors, gradients that are there",
        "parts that are not registered",
        "tied weights",
        "multi-head attention",
        "partly frozen, with a zero head",
        "spectral norm and weight norm",
        "spectral norm and weight norm of old",
    ],
)
def test_nothing_of_a_model_changes(name: str) -> None:
    torch.manual_seed(0)
    model, given = SMALL[name]()
    before = Footprint(model, given.args, given.kwargs)
    found = curvature(model, given, draws=3, limit=8)
    before.assert_same(Footprint(model, given.args, given.kwargs))
    assert found.hessian is not None
    assert found.norms is not None
    assert found.blocks


@pytest.mark.parametrize("call", [2, 4, 6, 9])
def test_an_interrupt_leaves_nothing_behind(call: int) -> None:
    calls = 0  # outside of the model, whose own counter would be put back between passes

    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls >= call:
                raise KeyboardInterrupt
            return self.norm(self.fc(x))

    model, given = Interrupted(), Inputs(torch.randn(8, 4))
    before = Footprint(model, *given.args)
    with pytest.raises(KeyboardInterrupt):
        curvature(model, given)
    before.assert_same(Footprint(model, *given.args))


def test_mistakes_get_a_sentence() -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    with pytest.raises(TargetError, match="is not one number"):
        curvature(model, Inputs(x), loss=lambda output: output)
    with pytest.raises(TargetError, match="is nan on this batch"):
        curvature(model, Inputs(x), loss=lambda output: output.sum() * float("nan"))
    with pytest.raises(TraceTargetError, match="no output of the forward pass depends"):
        curvature(model, Inputs(x), loss=lambda output: output.detach().sum())
    with pytest.raises(TraceTargetError, match="the forward pass fails"):
        curvature(model, Inputs(torch.randn(4, 7)))
