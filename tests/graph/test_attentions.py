"""Attentions: what contracts queries with keys, and what sets the size of the scores."""

from __future__ import annotations

import math

import pytest
from graph_building import Draft

from stablelint.graph.attentions import Attention

WIDTH, TOKENS = 64, 10


def heads(draft: Draft, rms: float | None = None) -> tuple[int, int, int]:
    """Queries, keys and values as projections of one input; by default all of unit variance."""
    x = draft.input(2, TOKENS, WIDTH)
    return draft.linear(x, rms=rms), draft.linear(x, rms=rms), draft.linear(x)


def products(draft: Draft, query: int, key: int) -> int:
    return draft.matmul(query, draft.transposed(key))


def attend(draft: Draft, scores: int, value: int) -> int:
    return draft.matmul(draft.op("softmax", scores, dim=-1), value)


def only(draft: Draft) -> Attention:
    (attention,) = draft.graph().attentions()
    return attention


def test_plain_dot_products_have_scale_one():
    draft = Draft()
    query, key, value = heads(draft)
    scores = products(draft, query, key)
    softmax = draft.op("softmax", scores, dim=-1)
    draft.matmul(softmax, value)
    attention = only(draft)
    assert (attention.scores.index, attention.softmax.index) == (scores, softmax)
    assert (attention.head_dim, attention.keys, attention.scale) == (WIDTH, TOKENS, 1.0)
    assert not attention.scales_scores
    assert not attention.learned_scale


def divided(draft: Draft, query: int, key: int) -> int:
    return draft.op("div", products(draft, query, key), other=8.0)


def multiplied_by_a_tensor(draft: Draft, query: int, key: int) -> int:
    return draft.op("mul", products(draft, query, key), draft.number(0.125))


def divided_by_a_tensor(draft: Draft, query: int, key: int) -> int:
    return draft.op("div", products(draft, query, key), draft.number(8.0))


def on_the_query(draft: Draft, query: int, key: int) -> int:
    return products(draft, draft.op("mul", query, other=0.125), key)


def half_on_each_side(draft: Draft, query: int, key: int) -> int:
    root = 8.0**0.5
    return products(draft, draft.op("div", query, other=root), draft.op("div", key, other=root))


def as_alpha_of_a_fused_matmul(draft: Draft, query: int, key: int) -> int:
    return draft.matmul(query, draft.transposed(key), draft.op("zeros", shape=(TOKENS, TOKENS)), alpha=0.125)


def before_the_mask(draft: Draft, query: int, key: int) -> int:
    mask = draft.op("to", draft.input(2, TOKENS, TOKENS, dtype="int64"))
    return draft.op("add", draft.op("mul", products(draft, query, key), other=0.125), mask)


def after_the_mask(draft: Draft, query: int, key: int) -> int:
    masked = draft.op("masked_fill", products(draft, query, key), draft.input(TOKENS, TOKENS, dtype="bool"))
    return draft.op("mul", masked, other=0.125)


@pytest.mark.parametrize(
    "spelling",
    [
        divided,
        multiplied_by_a_tensor,
        divided_by_a_tensor,
        on_the_query,
        half_on_each_side,
        as_alpha_of_a_fused_matmul,
        before_the_mask,
        after_the_mask,
    ],
)
def test_the_scale_is_found_wherever_it_stands(spelling):
    draft = Draft()
    query, key, value = heads(draft)
    attend(draft, spelling(draft, query, key), value)
    attention = only(draft)
    assert attention.scale == pytest.approx(1 / 8)
    assert attention.scales_scores
    assert attention.logit_std == pytest.approx(1.0)
    assert not attention.learned_scale


@pytest.mark.parametrize("equation", ["bid,bjd->bij", "... i d, ... j d -> ... i j"])
def test_an_einsum_is_read_by_its_equation(equation):
    draft = Draft()
    query, key, value = heads(draft)
    scores = draft.op("einsum", query, key, shape=(2, TOKENS, TOKENS), equation=equation)
    attend(draft, draft.op("mul", scores, other=0.125), value)
    attention = only(draft)
    assert (attention.scores.index, attention.head_dim) == (scores, WIDTH)
    assert attention.scale == pytest.approx(1 / 8)


def test_an_einsum_that_sums_two_axes_sums_their_product():
    draft = Draft()
    query, key = draft.input(2, 5, 4, 8), draft.input(2, 5, 4, 8)
    scores = draft.op("einsum", query, key, shape=(2, 5, 5), equation="bihd,bjhd->bij")
    attend(draft, scores, draft.input(2, 5, 8))
    assert only(draft).head_dim == 4 * 8


def test_an_outer_product_is_no_attention():
    draft = Draft()
    query, key = draft.input(2, 5), draft.input(2, 5)
    scores = draft.op("einsum", query, key, shape=(2, 5, 5), equation="bi,bj->bij")
    attend(draft, scores, draft.input(2, 5, 8))
    assert draft.graph().attentions() == ()


@pytest.mark.parametrize(("given", "scale"), [(None, 1 / 8), (1.0, 1.0), (0.5, 0.5)])
def test_the_fused_op_scales_by_default_and_as_told(given, scale):
    draft = Draft()
    attrs = {} if given is None else {"scale": given}
    draft.op("scaled_dot_product_attention", *heads(draft), **attrs)
    attention = only(draft)
    assert attention.scale == pytest.approx(scale)
    assert attention.scales_scores is (scale != 1)
    assert (attention.head_dim, attention.keys) == (WIDTH, TOKENS)
    assert attention.logit_std == pytest.approx(8 * scale)


def test_a_factor_on_the_query_of_the_fused_op_counts_on_top_of_its_own():
    draft = Draft()
    query, key, value = heads(draft)
    draft.op("scaled_dot_product_attention", draft.op("mul", query, other=0.5), key, value)
    assert only(draft).scale == pytest.approx(0.5 / 8)


@pytest.mark.parametrize("place", ["scores", "query"])
def test_a_trained_factor_is_a_learned_scale(place):
    draft = Draft()
    query, key, value = heads(draft)
    temperature = draft.op("exp", draft.weight())
    if place == "query":
        scores = products(draft, draft.op("mul", query, temperature), key)
    else:
        scores = draft.op("mul", products(draft, query, key), temperature)
    attend(draft, scores, value)
    assert only(draft).learned_scale


def test_a_trained_bias_on_the_scores_is_no_learned_scale():
    draft = Draft()
    query, key, value = heads(draft)
    biased = draft.op("add", products(draft, query, key), draft.weight(TOKENS, TOKENS))
    attend(draft, biased, value)
    assert not only(draft).learned_scale


def by_hand(draft: Draft, x: int) -> int:
    return draft.op("div", x, draft.op("clamp", draft.reduce("norm", x), min=1e-12))


@pytest.mark.parametrize("normalise", [Draft.norm, by_hand])
@pytest.mark.parametrize("side", [0, 1])
def test_a_norm_of_the_queries_or_keys_sets_the_size_of_the_scores(normalise, side):
    draft = Draft()
    projected = list(heads(draft))
    projected[side] = normalise(draft, projected[side])
    attend(draft, products(draft, *projected[:2]), projected[2])
    assert only(draft).learned_scale


def test_small_weights_stand_in_for_the_scale_as_in_t5():
    draft = Draft()
    query, key, value = heads(draft, rms=WIDTH**-0.75)
    attend(draft, products(draft, query, key), value)
    attention = only(draft)
    assert attention.scale == 1.0
    assert not attention.assumed
    assert attention.logit_std == pytest.approx(math.sqrt(WIDTH) * WIDTH**-0.5)


def test_queries_of_unknown_size_are_assumed_to_have_unit_variance():
    draft = Draft()
    query, key, value = (draft.input(2, TOKENS, WIDTH) for _ in range(3))
    attend(draft, products(draft, query, key), value)
    attention = only(draft)
    assert attention.assumed
    assert attention.logit_std == pytest.approx(math.sqrt(WIDTH))


def test_unknown_keys_are_assumed_also_where_the_queries_are_known():
    draft = Draft()
    query, _, value = heads(draft, rms=0.5)
    attend(draft, products(draft, query, draft.input(2, TOKENS, WIDTH)), value)
    attention = only(draft)
    assert attention.assumed
    assert attention.logit_std == pytest.approx(math.sqrt(WIDTH) * (8 * 0.5))


def test_heads_are_followed_through_reshapes_and_rotations():
    draft = Draft()
    query, key, value = heads(draft, rms=0.5)
    split = [draft.op("permute", draft.op("reshape", side, shape=(2, TOKENS, 4, 16)), shape=(2, 4, TOKENS, 16))
             for side in (query, key, value)]  # fmt: skip
    table = draft.op("constant", shape=(TOKENS, 16))
    rotated = draft.op("add", draft.op("mul", split[0], table), draft.op("mul", split[0], table))
    attend(draft, products(draft, rotated, split[1]), split[2])
    attention = only(draft)
    assert (attention.head_dim, attention.assumed) == (16, False)
    assert attention.logit_std == pytest.approx(math.sqrt(16) * (8 * 0.5) ** 2)


@pytest.mark.parametrize("stable", [False, True])
def test_a_softmax_written_by_hand_is_attention_and_no_norm(stable):
    draft = Draft()
    query, key, value = heads(draft)
    scores = draft.op("mul", products(draft, query, key), other=0.25)
    if stable:
        scores = draft.op("sub", scores, draft.reduce("amax", scores))
    powers = draft.op("exp", scores)
    weights = draft.op("div", powers, draft.reduce("sum", powers))
    draft.matmul(weights, value)
    attention = only(draft)
    assert (attention.softmax.index, attention.head_dim) == (weights, WIDTH)
    assert attention.scale == pytest.approx(1 / 4)


def test_dropout_stands_between_the_weights_and_the_values():
    draft = Draft()
    query, key, value = heads(draft)
    weights = draft.op("dropout", draft.op("softmax", products(draft, query, key), dim=-1))
    draft.matmul(weights, value)
    assert only(draft).head_dim == WIDTH


def test_learned_queries_are_read_from_their_parameter():
    draft = Draft()
    _, key, value = heads(draft)
    scores = products(draft, draft.weight(4, WIDTH, rms=0.02), key)
    attend(draft, scores, value)
    attention = only(draft)
    assert not attention.assumed
    assert attention.logit_std == pytest.approx(8 * 0.02)


def test_a_classifier_is_no_attention():
    draft = Draft()
    query, key, _ = heads(draft)
    draft.op("softmax", products(draft, query, key), dim=-1)
    assert draft.graph().attentions() == ()


@pytest.mark.parametrize("dispatch", ["mul", "matmul"])
def test_a_router_of_experts_is_no_attention(dispatch):
    draft = Draft()
    x = draft.input(2, TOKENS, WIDTH)
    gates = draft.op("softmax", draft.linear(x, TOKENS), dim=-1)
    if dispatch == "mul":
        draft.op("mul", gates, draft.linear(x, TOKENS))
    else:
        draft.matmul(gates, x)
    assert draft.graph().attentions() == ()


def test_attentions_come_in_execution_order():
    draft = Draft()
    query, key, value = heads(draft)
    first = attend(draft, products(draft, query, key), value)
    draft.op("scaled_dot_product_attention", first, key, value)
    assert [attention.softmax.name for attention in draft.graph().attentions()] == [
        "softmax",
        "scaled_dot_product_attention",
    ]
