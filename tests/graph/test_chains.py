"""Layers with their gains, squashing functions in a row, and runs that nothing rescales."""

from __future__ import annotations

import math

import pytest
from graph_building import Draft

from stablelint.graph import Graph

QUARTER = math.log10(0.25)


def squashed(draft: Draft, x: int, count: int, name: str = "sigmoid", rms: float | None = None) -> list[int]:
    """The squashing ops behind ``count`` layers in a row; weights of the default rms keep the gradient's size."""
    found = []
    for _ in range(count):
        x = draft.op(name, draft.linear(x, rms=rms))
        found.append(x)
    return found


def chains(graph: Graph) -> list[tuple[int, ...]]:
    return [tuple(op.index for op in chain.ops) for chain in graph.squashing_chains()]


def runs(graph: Graph) -> list[tuple[int, ...]]:
    return [tuple(layer.op.index for layer in run.layers) for run in graph.unscaled_runs()]


# ---- layers


def test_a_linear_layer_knows_its_fans_and_gains():
    draft = Draft()
    layer = draft.linear(draft.input(2, 4), 16, rms=0.5)
    found = draft.graph().layers[layer]
    assert (found.fan_in, found.fan_out) == (4, 16)
    assert found.forward_gain == pytest.approx(1.0)
    assert found.backward_gain == pytest.approx(2.0)


def test_a_weight_is_found_behind_a_transposition():
    draft = Draft()
    x = draft.input(2, 4)
    layer = draft.matmul(x, draft.transposed(draft.weight(16, 4, rms=0.5)))
    found = draft.graph().layers[layer]
    assert (found.fan_in, found.fan_out, found.weight.rms) == (4, 16, 0.5)


@pytest.mark.parametrize(
    ("weight", "before", "after", "groups", "fans"),
    [
        ((16, 8, 3, 3), (2, 8, 6, 6), (2, 16, 6, 6), 1, (8 * 9, 16 * 9)),
        ((16, 8, 3, 3), (2, 8, 6, 6), (2, 16, 3, 3), 1, (8 * 9, 16 * 9 / 4)),
        ((8, 1, 3, 3), (2, 8, 6, 6), (2, 8, 6, 6), 8, (9, 9)),
    ],
    ids=["plain", "strided", "depthwise"],
)
def test_the_fans_of_a_convolution_count_kernel_groups_and_stride(weight, before, after, groups, fans):
    draft = Draft()
    layer = draft.conv(draft.input(*before), weight, after, groups=groups)
    found = draft.graph().layers[layer]
    assert (found.fan_in, found.fan_out) == pytest.approx(fans)


def test_a_transposed_convolution_with_stride_sums_fewer_inputs():
    draft = Draft()
    layer = draft.conv(draft.input(2, 8, 3, 3), (8, 4, 4, 4), (2, 4, 6, 6), name="conv_transpose")
    found = draft.graph().layers[layer]
    assert (found.fan_in, found.fan_out) == (8 * 16 // 4, 4 * 16)


def test_embeddings_zero_weights_and_unknown_weights_are_no_layers():
    draft = Draft()
    tokens = draft.input(2, 5, dtype="int64")
    x = draft.op("embedding", tokens, draft.weight(10, 8), shape=(2, 5, 8))
    x = draft.linear(draft.linear(x, rms=0.0), rms=math.nan)
    last = draft.linear(x)
    assert list(draft.graph().layers) == [last]


def test_the_activation_of_a_layer_is_found_behind_bias_and_dropout():
    draft = Draft()
    layer = draft.linear(draft.input(2, 8))
    act = draft.op("gelu", draft.op("dropout", draft.op("add", layer, draft.weight(8))))
    found = draft.graph().layers[layer].activation
    assert found is not None
    assert found.index == act


@pytest.mark.parametrize("after", ["two users", "norm", "residual"])
def test_a_layer_that_something_else_reads_has_no_activation(after):
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    layer = draft.linear(x)
    if after == "two users":
        draft.op("mul", draft.op("relu", layer), draft.op("sigmoid", layer))
    elif after == "norm":
        draft.op("relu", draft.norm(layer))
    else:
        draft.op("relu", draft.op("add", x, layer))
    assert draft.graph().layers[layer].activation is None


# ---- squashing chains


def test_sigmoids_in_a_row_lose_a_quarter_each_if_the_weights_keep_the_gradient():
    draft = Draft()
    ops = squashed(draft, draft.input(2, 8), 5)
    (chain,) = draft.graph().squashing_chains()
    assert [op.index for op in chain.ops] == ops
    assert chain.decades == pytest.approx(5 * QUARTER)


def test_larger_weights_win_back_part_of_what_sigmoids_lose():
    draft = Draft()
    squashed(draft, draft.input(2, 16), 3, rms=2 / math.sqrt(16))
    (chain,) = draft.graph().squashing_chains()
    assert chain.decades == pytest.approx(3 * QUARTER + 2 * math.log10(2))


def test_weights_never_win_back_more_than_was_lost():
    draft = Draft()
    squashed(draft, draft.input(2, 16), 3, rms=100.0)
    (chain,) = draft.graph().squashing_chains()
    assert chain.decades == pytest.approx(QUARTER)


def test_a_norm_ends_a_chain():
    draft = Draft()
    first = squashed(draft, draft.input(2, 8), 3)
    second = squashed(draft, draft.norm(first[-1]), 2)
    assert chains(draft.graph()) == [tuple(first), tuple(second)]


def test_a_chain_that_a_skip_avoids_does_not_grow():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    for _ in range(4):
        x = draft.op("add", x, squashed(draft, x, 1)[0])
    assert [len(chain) for chain in chains(draft.graph())] == [1, 1, 1, 1]


def test_a_chain_goes_on_past_a_skip_without_what_the_skip_avoids():
    draft = Draft()
    before = squashed(draft, draft.input(2, 8), 4)
    avoided = squashed(draft, before[-1], 1)
    after = squashed(draft, draft.op("add", before[-1], avoided[-1]), 2)
    (chain,) = draft.graph().squashing_chains()
    assert [op.index for op in chain.ops] == [*before, *after]
    assert chain.decades == pytest.approx(6 * QUARTER)


def test_a_softmax_over_many_classes_loses_more_than_a_sigmoid():
    draft = Draft()
    squashed(draft, draft.input(2, 100), 1, name="softmax")
    (chain,) = draft.graph().squashing_chains()
    assert chain.decades == pytest.approx(-2.0)


def test_the_softmax_of_an_attention_squashes_nothing():
    draft = Draft()
    x = draft.linear(draft.input(2, 5, 8))
    weights = draft.op("softmax", draft.matmul(x, draft.transposed(x)), dim=-1)
    draft.matmul(weights, x)
    assert chains(draft.graph()) == []


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_other_activations_form_no_chain(name):
    draft = Draft()
    squashed(draft, draft.input(2, 8), 5, name=name)
    assert chains(draft.graph()) == []


# ---- runs of layers


def layers(draft: Draft, x: int, count: int, rms: float | None = None) -> list[int]:
    found = []
    for _ in range(count):
        x = draft.linear(x, rms=rms)
        found.append(x)
        x = draft.op("relu", x)
    return found


def test_the_layers_of_a_plain_net_are_one_run():
    draft = Draft()
    found = layers(draft, draft.input(2, 8), 4)
    (run,) = draft.graph().unscaled_runs()
    assert [layer.op.index for layer in run.layers] == found
    assert not run.rescaled


def test_a_norm_splits_a_run_and_rescales_the_part_in_front():
    draft = Draft()
    first = layers(draft, draft.input(2, 8), 2)
    second = layers(draft, draft.norm(len(draft.ops) - 1), 3)
    graph = draft.graph()
    assert runs(graph) == [tuple(first), tuple(second)]
    assert [run.rescaled for run in graph.unscaled_runs()] == [True, False]


def test_a_norm_that_reads_through_an_activation_and_a_reshape_still_rescales():
    draft = Draft()
    layer = draft.linear(draft.input(2, 8))
    draft.norm(draft.op("reshape", draft.op("relu", layer)))
    (run,) = draft.graph().unscaled_runs()
    assert run.rescaled


def test_layers_beside_a_skip_are_in_no_run():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    x = stem
    for _ in range(3):
        x = draft.op("add", x, layers(draft, x, 2)[-1])
    head = draft.linear(x)
    assert runs(draft.graph()) == [(stem, head)]


def test_where_ways_meet_the_one_with_fewest_layers_counts():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    short = draft.linear(x)
    long = layers(draft, x, 3)[-1]
    draft.op("add", short, long)
    assert runs(draft.graph()) == [(x, short)]


def test_layers_beside_a_concatenated_skip_are_a_run_of_their_own():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    short = draft.linear(x)
    deep = layers(draft, x, 3)
    draft.op("cat", short, deep[-1])
    assert runs(draft.graph()) == [(x, short), tuple(deep)]


def test_a_zero_initialised_layer_is_no_way_out():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    long = layers(draft, x, 2)
    closed = draft.linear(x, rms=0.0)
    draft.op("add", long[-1], closed)
    assert runs(draft.graph()) == [(x, *long)]


def test_a_zero_gate_is_no_way_out():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    long = layers(draft, x, 2)
    gated = draft.op("mul", x, draft.weight(rms=0.0))
    draft.op("add", long[-1], gated)
    assert runs(draft.graph()) == [(x, *long)]
