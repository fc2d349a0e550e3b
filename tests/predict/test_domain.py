"""The agreement table: what it says of known tensors, and that sums and reshapes of it are exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stablelint.predict.domain import LIMIT, empirical, iid, pair_mean, pair_sum, settle, unbroadcast
from stablelint.predict.transfer.reduction import summed
from stablelint.predict.transfer.shaping import joined, permuted, reshape_table, sliced


def brute_force(array: np.ndarray) -> np.ndarray:
    table = np.zeros((2,) * array.ndim)
    count = np.zeros_like(table)
    places = list(itertools.product(*(range(size) for size in array.shape)))
    for first, second in itertools.product(places, places):
        pattern = tuple(int(a == b) for a, b in zip(first, second, strict=True))
        table[pattern] += array[first] * array[second]
        count[pattern] += 1
    return np.where(count > 0, table / np.maximum(count, 1), 0.0)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(3).normal(0.3, 1.0, (3, 2, 4))


def test_empirical_table_is_the_average_over_pairs(array: np.ndarray) -> None:
    assert np.allclose(empirical(array).table, brute_force(array))


def test_sum_over_an_axis_is_exact(array: np.ndarray) -> None:
    assert np.allclose(pair_sum(empirical(array).table, 1, 2), brute_force(array.sum(1)))
    value = empirical(array)
    assert np.allclose(summed(value, (0, 2), 1.0).table, empirical(array.sum((0, 2), keepdims=True)).table)


def test_mean_over_axes_is_exact(array: np.ndarray) -> None:
    mean = array.mean((0, 2), keepdims=True)
    assert np.allclose(pair_mean(empirical(array).table, (0, 2), array.shape), empirical(mean).table)


def test_merging_axes_is_exact(array: np.ndarray) -> None:
    merged = reshape_table(empirical(array).table, (3, 2, 4), (3, 8))
    assert np.allclose(merged, brute_force(array.reshape(3, 8)))


def test_reshape_there_and_back_keeps_the_second_moment(array: np.ndarray) -> None:
    table = empirical(array).table
    there = reshape_table(table, (3, 2, 4), (6, 4))
    assert np.isclose(reshape_table(there, (6, 4), (3, 2, 4)).flat[-1], table.flat[-1])


def test_permute_is_exact(array: np.ndarray) -> None:
    assert np.allclose(permuted(empirical(array), (2, 0, 1)).table, brute_force(array.transpose(2, 0, 1)))


def test_cat_of_independent_tensors_is_a_mixture() -> None:
    generator = np.random.default_rng(0)
    small, large = generator.normal(0, 1, (40, 30)), generator.normal(1, 3, (40, 10))
    found = joined([iid((40, 30), 0, 1), iid((40, 10), 1, 9)], 1)
    truth = empirical(np.concatenate([small, large], 1))
    assert np.isclose(found.power, truth.power, rtol=0.1)
    assert np.isclose(found.mean, truth.mean, atol=0.1)


def test_cotangent_of_a_slice_keeps_the_squared_norm() -> None:
    value = iid((5, 12), 0.0, 1.0)
    part = sliced(value, 1, 3, 0)
    seed = np.zeros((2, 2))
    seed.flat[-1] = 2.0
    (_, pull) = part.parents[0]
    assert np.isclose(pull(seed).flat[-1] * 5 * 12, 2.0 * 5 * 3)


def test_unbroadcast_sums_over_copies() -> None:
    seed = np.zeros((2, 2))
    seed.flat[-1] = 1.0
    assert np.isclose(unbroadcast(seed, (7, 4), (4,)).flat[-1], 7.0)


def test_tables_stay_finite_and_within_cauchy_schwarz() -> None:
    wild = np.array([[np.nan, np.inf], [-np.inf, 1e300]])
    table = settle(wild, (3, 3))
    assert np.isfinite(table).all()
    assert table.flat[-1] == LIMIT
    assert (np.abs(table) <= table.flat[-1]).all()


def test_axis_of_length_one_agrees_with_itself() -> None:
    table = settle(np.array([[0.1, 0.2], [0.3, 0.4]]), (1, 5))
    assert np.array_equal(table[0], table[1])
