"""Places that lie close to each other: overlapping windows in front of windows, against the real ops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_autograd import drawn, measured, predicted, weight
from torch import Tensor

from stablelint.predict.lags import FARTHEST, mixed, near, overlap, pooled, strided

IMAGES = (8, 16, 33, 33)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def varying(draw_power: float, alike: float) -> float:
    """The part of the second moment in which samples differ."""
    return draw_power * (1 - alike)


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (3, 1), (5, 2)])
def test_overlapping_maxima_in_front_of_an_average(size: int, stride: int) -> None:
    """Neighbours of a 3x3 pool of stride 2 share three of nine places: the variance of an average over 2x2 of them is
    1.75 times that of independent ones."""
    draw = drawn(lambda x: F.avg_pool2d(F.max_pool2d(x, size, stride), 2), IMAGES)
    truth, guess = measured(draw, 6), predicted(draw)
    assert guess.mean == pytest.approx(truth.mean, rel=0.02)
    assert varying(guess.power, guess.alike) == pytest.approx(varying(truth.power, truth.alike), rel=0.2)


def test_overlapping_averages_in_front_of_an_average() -> None:
    draw = drawn(lambda x: F.avg_pool2d(F.avg_pool2d(x, 3, 1), 2), (8, 16, 34, 34))
    assert predicted(draw).power == pytest.approx(measured(draw, 6).power, rel=0.03)


def test_overlapping_averages_in_front_of_a_maximum() -> None:
    """What a window has in common is the same for the window itself and for no other: E[y^2] needs all of it."""
    draw = drawn(lambda x: F.max_pool2d(F.avg_pool2d(x, 3, 1), 2), (8, 16, 34, 34))
    truth, guess = measured(draw, 6), predicted(draw)
    assert guess.mean == pytest.approx(truth.mean, rel=0.05)
    assert guess.power == pytest.approx(truth.power, rel=0.06)
    assert guess.alike == pytest.approx(truth.alike, abs=0.04)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_hands_neighbours_on(stride: int) -> None:
    """Random weights: places d apart in the result are as alike as places stride * d apart in the input."""

    def model(x: Tensor, w: Tensor) -> Tensor:
        return F.avg_pool2d(F.conv2d(F.avg_pool2d(x, 5, 1), w, stride=stride), 2)

    draw = drawn(model, (2, 64, 36, 36), w=lambda: weight(64, 64, 1, 1))
    assert predicted(draw).power == pytest.approx(measured(draw, 4).power, rel=0.06)


def test_an_activation_hands_neighbours_on() -> None:
    draw = drawn(lambda x: F.avg_pool2d((F.max_pool2d(x, 3, 2) - 1.5).relu(), 2), IMAGES)
    truth, guess = measured(draw, 8), predicted(draw)
    assert varying(guess.power, guess.alike) == pytest.approx(varying(truth.power, truth.alike), rel=0.2)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_lags_of_windows_are_those_of_moving_averages(size: int, stride: int) -> None:
    """The autocorrelation of sums over windows of white noise, and of such sums again."""
    noise = np.random.default_rng(0).standard_normal(600_000)
    sums = np.convolve(noise, np.ones(size), "valid")[::stride]
    twice = np.convolve(sums, np.ones(2), "valid")

    def autocorrelation(series: np.ndarray) -> list[float]:
        return [float(np.corrcoef(series[: len(series) - d], series[d:])[0, 1]) for d in range(1, 4)]

    once = pooled(size, stride, None)
    assert (once is None) == (size <= stride)
    again = pooled(2, 1, once)
    assert again is not None
    assert list(again[1:4]) == pytest.approx(autocorrelation(twice), abs=0.02)
    if once is not None:
        assert list(once[1:4]) == pytest.approx(autocorrelation(sums), abs=0.02)
        assert once[0] == 1


def test_overlap_counts_pairs_of_taps() -> None:
    lags = np.zeros(FARTHEST + 1)
    lags[:3] = 1.0, 0.5, 0.25
    assert overlap(3, None) == 3
    assert overlap(3, lags) == pytest.approx(3 + 4 * 0.5 + 2 * 0.25)
    assert near(3, lags) == pytest.approx((4 * 0.5 + 2 * 0.25) / 6)
    assert near(1, lags) == 0


def test_stride_picks_every_other_lag_and_drops_what_is_left_of_none() -> None:
    lags = np.zeros(FARTHEST + 1)
    lags[:3] = 1.0, 0.5, 0.25
    kept = strided(lags, 2)
    assert kept is not None
    assert list(kept[:3]) == [1.0, 0.25, 0.0]
    assert strided(lags, 3) is None
    assert strided(None, 1) is None


def test_lags_of_a_sum_are_weighed_by_what_each_adds() -> None:
    lags = np.zeros(FARTHEST + 1)
    lags[:2] = 1.0, 0.5
    found = mixed([(3.0, None), (1.0, lags)])
    assert found is not None
    assert list(found[:2]) == [1.0, 0.125]
    assert mixed([(1.0, None), (2.0, None)]) is None
    assert mixed([(0.0, lags)]) is None
