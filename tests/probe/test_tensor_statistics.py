"""Statistics of tensors: exact where they claim to be, and of the right elements."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from stablelint.probe.tensor_statistics import (
    dead_share,
    fused_row_statistics,
    rms,
    row_statistics,
    sampled_rms,
    thinned,
)


def exact(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None, *, causal: bool = False):
    """Row statistics of the whole attention matrix, as torch computes it."""
    if 1 < key.shape[1] < query.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    logits = query.double() @ key.double().transpose(-2, -1) / math.sqrt(query.shape[-1])
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    return row_statistics(logits.softmax(-1))


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_fused_attention_is_that_of_each_head_with_its_own_keys(batch: int, queries: int, keys: int) -> None:
    torch.manual_seed(0)
    query, key = 3 * torch.randn(batch, queries, 12, 8), 3 * torch.randn(batch, keys, 12, 8)
    expected = exact(query[:1], key[:1])  # four heads are looked at
    assert fused_row_statistics((query, key, key), None, False) == pytest.approx(expected)


def test_keys_may_be_broadcast_over_the_batch() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(3, 2, 12, 8), torch.randn(1, 2, 12, 8)
    expected = exact(query[:2], key.expand(3, -1, -1, -1)[:2])
    assert fused_row_statistics((query, key, key), None, False) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(2, 1, 1, 12), (1, 1, 12, 12), (12, 12), (2, 2, 12, 12)])
def test_masks_of_any_shape_that_broadcasts_count(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 12, 8), torch.randn(2, 2, 12, 8)
    mask = torch.rand(shape) < 0.5
    mask[..., 0] = True
    assert F.scaled_dot_product_attention(query, key, key, mask).isfinite().all()
    expected = exact(query, key, mask.expand(2, 2, 12, 12))
    assert fused_row_statistics((query, key, key, mask), None, False) == pytest.approx(expected)


def test_causal_rows_that_are_sampled_know_their_place() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 400, 8), torch.randn(1, 4, 400, 8)
    found = fused_row_statistics((query, key, key), None, True)
    assert found == pytest.approx(exact(query, key, causal=True), rel=0.1)


@pytest.mark.parametrize("layout", ["contiguous", "strided", "expanded", "flat"])
def test_the_rms_of_many_elements_is_that_of_double_precision(layout: str) -> None:
    torch.manual_seed(0)
    value = torch.randn(3000, 4000)
    if layout == "strided":
        value = value[:, ::2]
    elif layout == "expanded":
        value = torch.full((1, 1), 0.7).expand(3000, 4000)
    elif layout == "flat":
        value = value.flatten()
    expected = float(value.double().square().mean().sqrt())
    within = 1e-3 if layout == "expanded" else 5e-5  # the rounding of equal numbers has one direction
    assert rms(value) == pytest.approx(expected, rel=within)
    assert rms(value * 1e-30) == pytest.approx(expected * 1e-30, rel=within)


def test_a_unit_that_is_seldom_active_is_not_dead() -> None:
    value = torch.zeros(64, 8, 32, 32)
    value[:, :4] = 1.0
    value[63, 4, 31, 31] = 1.0  # between the positions of the sample
    assert dead_share(value, 1) == 3 / 8


def test_a_sample_is_even_and_never_empty() -> None:
    for length in (1, 2, 7, 100, 1001):
        chosen = thinned(torch.arange(length), (0,), 10).tolist()
        assert 1 <= len(chosen) <= 10
        assert abs(sum(chosen) / len(chosen) - (length - 1) / 2) <= max(1.0, 0.06 * length)


@pytest.mark.parametrize("shape", [(2, 256, 56, 56), (8, 197, 768), (4, 3_000_000), (3_000_000,), (2, 1024, 7, 7)])
def test_the_size_of_a_sample_is_that_of_all(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(shape, generator=generator) * torch.rand(shape[-1], generator=generator)
    assert sampled_rms(value) == pytest.approx(rms(value), rel=0.01)
    assert sampled_rms(torch.zeros(shape)) == 0
    assert not math.isfinite(sampled_rms(torch.full(shape, math.nan)))


def test_the_largest_value_is_found_on_either_side() -> None:
    assert rms(torch.tensor([-1e-20, 1e-21])) == pytest.approx(1e-20 / math.sqrt(2), rel=0.01)
    assert math.isnan(rms(torch.tensor([1.0, math.nan])))
    assert rms(torch.tensor([1.0, -math.inf])) == math.inf
