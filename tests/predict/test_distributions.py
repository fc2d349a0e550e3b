"""Elements that are not normal, gradients that depend on the value: against Monte Carlo on the real ops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_autograd import drawn, measured, predicted, weight
from torch import Tensor

from stablelint.predict.domain import Value, iid
from stablelint.predict.gaussian import NODES, WEIGHTS, Function
from stablelint.predict.marginal import law, of_mixture, of_product, of_sum
from stablelint.predict.slant import combined, of_winners
from stablelint.predict.transfer.arithmetic import add, mul
from stablelint.predict.transfer.elementwise import apply

RELU = Function("relu", lambda x: np.maximum(x, 0))
VECTORS = (64, 256)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rectified_stream(*branches: Tensor) -> Tensor:
    """x <- relu(x) + branch, as in a post-activation residual network."""
    x = branches[0]
    for branch in branches[1:]:
        x = x.relu() + branch
    return x.relu()


@pytest.mark.parametrize("length", [2, 3, 5])
def test_rectified_stream(length: int) -> None:
    """Mean and similarity of relu(x) are off by a fifth if x is taken for normal, the gradient by the share of the
    masks that agree: 0.375 of it passes two masks of a stream, not a quarter."""
    draw = drawn(rectified_stream, *[VECTORS] * length)
    truth, guess = measured(draw, 6), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.015)
    assert guess.mean == pytest.approx(truth.mean, rel=0.01)
    assert guess.alike == pytest.approx(truth.alike, abs=0.01)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.06)


def test_two_masks_of_a_stream_pass_three_eighths() -> None:
    """P(x > 0 and x + n > 0) for independent normal x and n of one variance."""
    guess = predicted(drawn(rectified_stream, VECTORS, VECTORS))
    assert guess.gradient == pytest.approx(3 / 8, rel=0.03)


def test_product_of_two_tensors_has_heavy_tails() -> None:
    """relu(a b) has the mean 1 / pi; a normal variable of the same variance has 1 / sqrt(2 pi)."""
    guess = predicted(drawn(lambda a, b: (a * b).relu(), VECTORS, VECTORS))
    assert guess.mean == pytest.approx(1 / math.pi, rel=0.01)


def test_joined_tensors_of_different_size_are_a_mixture() -> None:
    draw = drawn(lambda a, b: torch.cat([0.1 * a, 3 * b], 1).tanh(), VECTORS, VECTORS)
    truth, guess = measured(draw, 6), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.03)


@pytest.mark.parametrize("factor", [1.0, -0.5, 2.0])
def test_quantiles_of_a_sum(factor: float) -> None:
    left, right = apply(iid(VECTORS, 0.3, 1.0), RELU), iid(VECTORS, 0.0, 0.5)
    total = add(left, right, factor)
    generator = np.random.default_rng(0)
    sample = np.maximum(0.3 + generator.standard_normal(400_000), 0)
    sample = sample + factor * math.sqrt(0.5) * generator.standard_normal(400_000)
    points = law(total).points()
    third = float(WEIGHTS @ ((points - total.mean) ** 3))
    assert third == pytest.approx(float(((sample - sample.mean()) ** 3).mean()), rel=0.1)
    below = np.searchsorted(np.sort(sample), points[[250, 350, 400, 450, 550]]) / len(sample)
    normal = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in NODES[[250, 350, 400, 450, 550]]]
    assert below == pytest.approx(normal, abs=0.015)


def test_sums_and_products_of_what_is_normal_need_no_quantiles() -> None:
    left, right = iid(VECTORS, 0.0, 1.0), iid(VECTORS, 1.0, 2.0)
    assert of_sum(left, right, 1.0) is None
    assert of_mixture([(0.5, left), (0.5, iid(VECTORS, 0.0, 1.0))]) is None
    assert of_product(left, iid(VECTORS, 3.0, 0.0)) is None, "a gain that is constant only scales"
    wide = add(left, apply(right, Function("scale", lambda x: 0.1 * x)))
    assert law(wide).quantiles is None


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.3, 0.9])
def test_correlation_of_skewed_variables_is_kept(correlation: float) -> None:
    """ "Normal to anything": the latent correlation is the one that gives the variable its own."""
    base = apply(_correlated(correlation), RELU)
    total = add(base, iid(VECTORS, 0.0, 0.2))
    distribution = law(total)
    again = apply(total, Function("twice", lambda x: 2 * x))
    assert again.table[0, 1] == pytest.approx(4 * total.table[0, 1], rel=1e-2)
    assert again.power == pytest.approx(4 * total.power, rel=1e-6)
    assert distribution.latent(total.table)[1, 1] == pytest.approx(1.0)


def _correlated(correlation: float) -> Value:
    table = np.zeros((2, 2))
    table[0, 1], table[1, 1] = correlation, 1.0
    return Value(VECTORS, table, 0.0)


def test_slope_of_prelu_is_no_part_of_the_mask_behind_it() -> None:
    """relu(prelu(x)) passes one half: what the first lets through in full is what the second lets through."""
    draw = drawn(
        lambda x, w, slope: F.prelu(x @ w, slope).relu(), VECTORS,
        w=lambda: weight(256, 256), slope=lambda: torch.full((1,), 0.25),
    )  # fmt: skip
    assert predicted(draw).gradient == pytest.approx(measured(draw, 6).gradient, rel=0.05)


def test_maximum_picks_what_is_large() -> None:
    """The element that wins a window of a rectified stream was let through by the ReLU more often than not."""
    images = (8, 32, 8, 8)
    draw = drawn(lambda x, y: F.max_pool2d(x.relu() + y, 2), images, images)
    assert predicted(draw).gradient == pytest.approx(measured(draw, 6).gradient, rel=0.05)


@pytest.mark.parametrize("places", [1.0, 2.5, 4.0, 9.0])
def test_winners_are_distributed_as_the_largest_of_several(places: float) -> None:
    slant = of_winners(places)
    assert float(WEIGHTS @ slant) == pytest.approx(1.0, rel=1e-3)
    if places == 4:  # the mean of the largest of four normal variables
        assert float(WEIGHTS @ (slant * NODES)) == pytest.approx(1.0294, abs=1e-3)


def test_slants_of_several_readers_are_weighed_by_their_gradients() -> None:
    tilted = of_winners(4.0)
    assert combined(1.0, None, 1.0, None) is None
    found = combined(3.0, None, 1.0, tilted)
    assert found is not None
    assert found == pytest.approx(0.75 + 0.25 * tilted)


def gated(x: Tensor, w: Tensor) -> Tensor:
    """Squeeze and excitation in front of a max pool."""
    x = F.batch_norm(x, None, None, training=True).relu()
    return F.max_pool2d(x * F.conv2d(x.mean((2, 3), keepdim=True), w).sigmoid(), 2)


def test_gate_in_front_of_a_max_pool() -> None:
    draw = drawn(gated, (8, 16, 8, 8), w=lambda: weight(16, 16, 1, 1))
    truth, guess = measured(draw, 8), predicted(draw)
    assert guess.power == pytest.approx(truth.power, rel=0.1)
    assert guess.alike == pytest.approx(truth.alike, abs=0.03)
    assert guess.gradient == pytest.approx(truth.gradient, rel=0.15)


def test_gradient_of_a_gate_is_that_along_its_product() -> None:
    """g x = (g y) / w, so what a norm or pool behind has made of g y reaches the gate w, which has one sign."""
    signal, gate = iid(VECTORS, 0.0, 1.0), iid(VECTORS, 2.0, 0.01)
    result = mul(signal, gate)
    (_, to_signal), (_, to_gate) = result.parents
    independent = np.array([[0.0, 0.0], [0.0, 1.0]])
    assert to_gate(independent).flat[-1] == pytest.approx(signal.power)
    result.joint = 0.25 * result.table
    assert to_gate(independent).flat[-1] == pytest.approx(0.25 * signal.power)
    assert to_signal(independent).flat[-1] == pytest.approx(gate.power), "x may be next to zero where g y is not"
