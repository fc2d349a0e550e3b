"""Noise scale and agreement of sample gradients against brute force, and gradient norms against clip_grad_norm_."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stablelint.errors import TargetError
from stablelint.inputs import Inputs
from stablelint.probe.curvature import agreement, curvature, gradient_norms, noise_scale, pose, sample_gram, warmup
from stablelint.probe.curvature.samples import Gram
from stablelint.signals.curvature import GradientNorms, Hessian


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))


def rows(model: nn.Module, x: torch.Tensor, y: torch.Tensor, group: int = 1) -> torch.Tensor:
    """The gradient of each group of samples, in double precision."""
    found = []
    for at in range(0, len(x) - group + 1, group):
        loss = F.cross_entropy(model(x[at : at + group]), y[at : at + group])
        grads = torch.autograd.grad(loss, list(model.parameters()))
        found.append(torch.cat([grad.reshape(-1) for grad in grads]).double())
    return torch.stack(found)


def test_the_noise_scale_is_that_of_the_sample_gradients() -> None:
    model, x = mlp(), torch.randn(20, 6)
    y = (x[:, 0] > 0).long()
    gram = sample_gram(pose(model, Inputs(x), loss=nn.CrossEntropyLoss(), targets=y))
    found, grads = noise_scale(gram), rows(model, x, y)
    trace = float(grads.var(0).sum())
    square = float(grads.mean(0).square().sum()) - trace / 20
    assert (found.group, found.groups, gram.exact) == (1, 20, True)
    assert found.trace == pytest.approx(trace, rel=1e-4)
    assert found.gradient_square == pytest.approx(square, rel=1e-4)
    assert found.batch == pytest.approx(trace / square, rel=1e-4)


def test_groups_of_samples_estimate_the_same_from_two_batch_sizes() -> None:
    """Equations of appendix A.1 with small batches of 4 and a large one of 32."""
    model, x, y = mlp(), torch.randn(32, 6), torch.randint(3, (32,))
    found = noise_scale(sample_gram(pose(model, Inputs(x), loss=nn.CrossEntropyLoss(), targets=y), groups=8))
    grads = rows(model, x, y, group=4)
    small, large = float(grads.square().sum(1).mean()), float(grads.mean(0).square().sum())
    assert (found.group, found.groups) == (4, 8)
    assert found.gradient_square == pytest.approx((32 * large - 4 * small) / (32 - 4), rel=1e-4)
    assert found.trace == pytest.approx((small - large) / (1 / 4 - 1 / 32), rel=1e-4)


@pytest.mark.parametrize("groups", [32, 8])
def test_the_estimates_are_unbiased(groups: int) -> None:
    """Averaged over batches they give |G|^2 and tr(Sigma) of the population."""
    model = nn.Linear(4, 1, bias=False)
    x = torch.randn(4000, 4)
    y = x @ torch.tensor([[1.0], [0.5], [0.0], [-1.0]]) + 0.5 * torch.randn(4000, 1)
    errors = 2 * (model(x) - y).detach()
    population = (errors * x).double()
    problem = pose(model, Inputs(x), loss=nn.MSELoss(), targets=y)
    found = [noise_scale(sample_gram(problem.part(at, at + 32), groups=groups)) for at in range(0, 1280, 32)]
    square = sum(each.gradient_square for each in found) / len(found)
    trace = sum(each.trace for each in found) / len(found)
    spread = np.std([each.gradient_square for each in found]) / math.sqrt(len(found))
    assert abs(square - float(population.mean(0).square().sum())) < 4 * spread
    assert trace == pytest.approx(float(population.var(0).sum()), rel=0.15)
    bounded = [each.at_least < float(population.var(0).sum() / population.mean(0).square().sum()) for each in found]
    assert np.mean(bounded) > 0.9
    assert np.mean([each.error for each in found]) == pytest.approx(spread * math.sqrt(len(found)), rel=0.5)


def test_a_loss_that_sums_over_samples_has_the_same_noise_scale() -> None:
    model, x, y = mlp(), torch.randn(16, 6), torch.randint(3, (16,))
    mean, total = (
        noise_scale(sample_gram(pose(model, Inputs(x), loss=nn.CrossEntropyLoss(reduction=how), targets=y)))
        for how in ("mean", "sum")
    )
    assert mean.batch == pytest.approx(total.batch, rel=1e-4)


def test_further_batches_count_as_samples() -> None:
    model, x, y = mlp(), torch.randn(12, 6), torch.randint(3, (12,))
    parts = [
        pose(model, Inputs(x[at : at + 4]), loss=nn.CrossEntropyLoss(), targets=y[at : at + 4]) for at in (0, 4, 8)
    ]
    whole = pose(model, Inputs(x), loss=nn.CrossEntropyLoss(), targets=y)
    assert torch.allclose(sample_gram(parts[0], parts[1:]).total, sample_gram(whole).total, rtol=1e-4)


def test_samples_without_a_common_gradient_have_no_finite_noise_scale() -> None:
    noise = noise_scale(Gram({"": torch.eye(16, dtype=torch.float64)}, group=1, exact=True, cost=0))
    assert (noise.gradient_square, noise.trace, noise.batch, noise.resolved) == (0, 1, math.inf, False)


def test_batch_norm_ties_samples_together_so_they_are_taken_in_groups() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    gram = sample_gram(pose(model, Inputs(torch.randn(8, 2, 4, 4))))
    assert (gram.group, gram.total.shape) == (2, (4, 4))


def test_the_memory_for_gradients_is_bounded_and_the_estimate_without_bias() -> None:
    model = nn.Sequential(nn.Linear(100, 200), nn.Tanh(), nn.Linear(200, 3))
    problem = pose(model, Inputs(torch.randn(8, 100)))
    exact, sketched = sample_gram(problem), sample_gram(problem, budget=8 * 4 * 5000)
    assert (exact.exact, sketched.exact) == (True, False)
    assert float(sketched.total.trace()) == pytest.approx(float(exact.total.trace()), rel=0.1)


def test_cosines_participation_and_layers_are_those_of_the_gradients() -> None:
    model, x, y = mlp(), torch.randn(6, 6), torch.randint(3, (6,))
    found = agreement(sample_gram(pose(model, Inputs(x), loss=nn.CrossEntropyLoss(), targets=y)))
    grads = rows(model, x, y)
    unit = grads / grads.norm(dim=1, keepdim=True)
    assert np.allclose(found.samples, (unit @ unit.T).numpy(), atol=1e-5)
    assert found.mean_cosine == pytest.approx(float(((unit @ unit.T).sum() - 6) / 30), abs=1e-5)
    spectrum = torch.linalg.eigvalsh(grads @ grads.T)
    assert found.participation == pytest.approx(float(spectrum.sum() ** 2 / spectrum.square().sum()), rel=1e-4)
    first, last = grads[:, :70], grads[:, 70:]
    expected = (first.T @ last).square().sum() / ((first.T @ first).norm() * (last.T @ last).norm())
    assert found.layers == ("0", "2")
    assert found.mean_layer_cosine == pytest.approx(float(expected), rel=1e-4)


def test_equal_samples_pull_one_way() -> None:
    x, y = torch.randn(1, 6).expand(5, 6), torch.zeros(5, dtype=torch.long)
    found = agreement(sample_gram(pose(mlp(), Inputs(x), loss=nn.CrossEntropyLoss(), targets=y)))
    assert found.mean_cosine == pytest.approx(1, abs=1e-5)
    assert found.participation == pytest.approx(1, abs=1e-5)


def test_a_loss_that_cannot_be_taken_apart_is_refused_in_a_sentence() -> None:
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    with pytest.raises(TargetError, match="the loss cannot be taken of 1 of the samples"):
        sample_gram(pose(mlp(), Inputs(x), loss=lambda output: F.cross_entropy(output, y)))
    pairs = torch.randn(16, 3)
    with pytest.raises(TargetError, match="not the mean over its samples"):  # broadcasts to one sample
        sample_gram(pose(mlp(), Inputs(x), loss=lambda output: (output * pairs).sum()))
    with pytest.raises(TargetError, match="cannot be taken apart"):
        sample_gram(pose(mlp(), Inputs(x[:1])))


def test_what_one_quantity_lacks_costs_no_other() -> None:
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    found = curvature(mlp(), Inputs(x), loss=lambda output: F.cross_entropy(output, y), draws=2)
    assert found.noise is None
    assert found.hessian is not None
    assert [remark for remark in found.remarks if remark.startswith("the gradients of single samples: the loss")]


def test_gradient_norms_are_what_clipping_compares() -> None:
    models, x, y = [mlp() for _ in range(5)], torch.randn(8, 6), torch.randint(3, (8,))
    found = gradient_norms(pose(model, Inputs(x), loss=nn.CrossEntropyLoss(), targets=y) for model in models)
    expected = []
    for model in models:
        F.cross_entropy(model(x), y).backward()
        expected.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
    assert found.norms == pytest.approx(sorted(expected), rel=1e-5)
    for percent in (0, 50, 95, 99, 100):
        assert found.percentile(percent) == pytest.approx(np.percentile(expected, percent), rel=1e-5)


def test_fresh_models_and_batches_are_drawn_for_the_norms_and_the_samples() -> None:
    seeds = []

    def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
        seeds.append(seed)
        return mlp(), Inputs(torch.randn(4, 6))

    found = curvature(mlp(), Inputs(torch.randn(4, 6)), rebuild=rebuild, draws=10)
    assert seeds == list(range(1, 10))
    assert found.norms is not None
    assert len(set(found.norms.norms)) == 10
    assert found.agreement is not None
    assert len(found.agreement.samples) == 32


def test_a_threshold_far_below_the_median_is_warned_of() -> None:
    norms = GradientNorms((1.0, 2.0, 3.0), 3)
    assert norms.warning(0.2) is None
    warning = norms.warning(0.02)
    assert warning is not None
    assert "divides the learning rate by about 1e+02" in warning


def flat(largest: float) -> Hessian:
    return Hessian(largest, -1.0, (0.0, 0.0), (True, True), 0.1, 10_000, 1, "double backward", 1)


def test_a_warm_up_starts_at_the_largest_stable_rate_and_grows_with_the_ratio() -> None:
    assert (warmup(flat(1.0), 2.0).ratio, warmup(flat(1.0), 2.0).steps) == (1.0, 0)
    assert warmup(flat(-1.0), 5.0).steps == 0
    four, eight = warmup(flat(1.0), 8.0), warmup(flat(1.0), 16.0)
    assert (four.ratio, four.start, eight.start) == (4.0, 2.0, 2.0)
    assert 0 < four.steps < eight.steps
    assert four.steps / 2 == pytest.approx(eight.steps / 3, rel=0.01)  # doublings
    with pytest.raises(ValueError, match="above 0"):
        warmup(flat(1.0), 0.0)
