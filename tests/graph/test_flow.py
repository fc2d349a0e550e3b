"""The signal, the trunk and its blocks."""

from __future__ import annotations

import pytest
from graph_building import Draft

from stablelint.graph import Graph


def blocks(graph: Graph, *indices: int) -> list[int]:
    return [graph.flow.block[index] for index in indices]


def test_every_op_of_a_chain_is_on_the_trunk_and_no_parameter_is():
    draft = Draft()
    x = draft.input(2, 8)
    first = draft.linear(x)
    act = draft.op("relu", first)
    last = draft.linear(act)
    flow = draft.graph().flow
    assert flow.trunk == (x, first, act, last)
    assert flow.signal == {x, first, act, last}
    assert (flow.source, flow.sink) == (x, last)


def test_the_branch_of_a_residual_block_is_signal_but_not_trunk():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    inner = draft.linear(stem)
    join = draft.op("add", stem, inner)
    flow = draft.graph().flow
    assert flow.trunk == (0, stem, join)
    assert inner in flow.signal


def test_a_single_layer_beside_a_concatenated_skip_is_not_on_the_trunk():
    draft = Draft()
    top = draft.linear(draft.input(2, 8))
    bottom = draft.branch(top, "avg_pool", "linear", "upsample")
    join = draft.op("cat", top, bottom, shape=(2, 16))
    out = draft.linear(join)
    assert draft.graph().flow.trunk == (0, top, join, out)


def test_the_trunk_starts_at_the_input_that_lies_deepest():
    draft = Draft()
    side, deep = draft.input(2, 8), draft.input(2, 8)
    first = draft.linear(deep)
    second = draft.linear(first)
    third = draft.linear(second)
    late = draft.linear(side)
    join = draft.op("add", late, third)
    flow = draft.graph().flow
    assert flow.source == deep
    assert flow.trunk == (deep, first, second, third, join)
    assert late in flow.signal


def test_of_equally_deep_inputs_the_one_with_the_longest_trunk_is_the_source():
    draft = Draft()
    forked, straight = draft.input(2, 8), draft.input(2, 8)
    left, right = draft.linear(forked), draft.linear(forked)
    first = draft.linear(straight)
    join = draft.op("cat", left, right, first)
    flow = draft.graph().flow
    assert flow.source == straight
    assert flow.trunk == (straight, first, join)


def test_a_side_input_that_comes_in_late_is_no_source_however_straight_its_way():
    draft = Draft()
    side, forked = draft.input(2, 8), draft.input(2, 8)
    branches = [draft.branch(forked, *["linear"] * 10) for _ in range(2)]
    late = draft.branch(side, "linear", "relu", "linear")
    join = draft.op("cat", *branches, late)
    flow = draft.graph().flow
    assert flow.source == forked
    assert flow.trunk == (forked, join)


def test_biases_gathered_by_what_the_data_chooses_are_no_source():
    draft = Draft()
    x = draft.input(2, 8)
    choice = draft.op("argmax", x, dtype="int64")
    bias = draft.branch(draft.op("index_select", draft.weight(4, 8), choice), "linear", "linear", "linear")
    join = draft.op("add", draft.linear(x), bias)
    graph = draft.graph()
    assert bias in graph.flow.signal
    assert graph.flow.source == x
    assert graph.flow.sink == join


def test_the_embedding_of_tokens_is_a_source():
    draft = Draft()
    tokens = draft.input(2, 5, dtype="int64")
    embedded = draft.op("embedding", tokens, draft.weight(10, 8), shape=(2, 5, 8))
    out = draft.linear(embedded)
    assert draft.graph().flow.trunk == (embedded, out)


def test_the_loss_is_the_sink_wherever_it_stands_among_the_outputs():
    draft = Draft()
    logits = draft.linear(draft.input(2, 8))
    target = draft.input(2, dtype="int64")
    loss = draft.op("cross_entropy", logits, target, shape=())
    for outputs in ((loss, logits), (logits, loss)):
        flow = draft.graph(*outputs).flow
        assert flow.sink == loss
        assert flow.trunk == (0, logits, loss)


@pytest.mark.parametrize("cut", ["detach", "sign", "round", "zeros_like", "new_zeros", "bernoulli"])
def test_nothing_before_a_cut_carries_gradient(cut):
    draft = Draft()
    before = draft.linear(draft.input(2, 8))
    stopped = draft.op(cut, before)
    after = draft.linear(stopped)
    assert draft.graph().flow.signal == {after}


def test_a_skip_past_a_cut_still_carries_gradient():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    lost = draft.linear(stem)
    join = draft.op("add", stem, draft.op("detach", lost))
    assert draft.graph().flow.signal == {0, stem, join}


def test_integers_turned_into_floats_carry_no_gradient():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    mask = draft.op("to", draft.input(2, 8, dtype="int64"))
    masked = draft.op("mul", stem, mask)
    graph = draft.graph()
    assert graph.flow.signal == {0, stem, masked}
    assert [op.index for op in graph.data_inputs(graph.ops[masked])] == [stem]


def test_an_op_that_reaches_no_output_is_no_signal():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    dead = draft.linear(stem)
    out = draft.linear(stem)
    assert draft.graph(out).flow.signal == {0, stem, out}
    assert dead in draft.graph(out, dead).flow.depth


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_a_model_without_a_differentiable_output_has_no_flow(dtype):
    draft = Draft()
    draft.op("argmax", draft.linear(draft.input(2, 8)), dtype=dtype)
    flow = draft.graph().flow
    assert (flow.sink, flow.source, flow.trunk, flow.block) == (None, None, (), {})


def test_a_weighted_layer_of_a_chain_opens_a_block():
    draft = Draft()
    x = draft.input(2, 8)
    first = draft.linear(x)
    act = draft.op("relu", first)
    second = draft.linear(act)
    tail = draft.op("relu", second)
    third = draft.linear(tail)
    assert blocks(draft.graph(), x, first, act, second, tail, third) == [0, 0, 0, 1, 1, 2]


def test_a_residual_addition_closes_a_block_whatever_the_branch_holds():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    joins = [stem]
    for names in (("linear",), ("norm", "linear", "relu", "linear")):
        joins.append(draft.op("add", joins[-1], draft.branch(joins[-1], *names)))
    tail = draft.op("relu", joins[-1])
    head = draft.linear(tail)
    assert blocks(draft.graph(), *joins, tail, head) == [0, 1, 2, 3, 3]


def test_a_residual_block_on_the_input_itself_is_a_block():
    draft = Draft()
    x = draft.input(2, 8)
    join = draft.op("add", x, draft.linear(x))
    head = draft.linear(join)
    assert blocks(draft.graph(), x, join, head) == [0, 0, 1]


def test_layers_that_ran_before_the_source_count_for_no_block():
    draft = Draft()
    early = draft.linear(draft.input(2, 8))
    x = draft.input(2, 8)
    act = draft.op("relu", x)
    first = draft.linear(act)
    late = draft.linear(draft.linear(first))
    draft.op("cat", late, early)
    assert blocks(draft.graph(), x, act, first) == [0, 0, 0]


def test_a_branch_without_weights_closes_no_block():
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    gated = draft.op("mul", stem, draft.op("sigmoid", stem))
    assert blocks(draft.graph(), stem, gated) == [0, 0]


def test_a_matmul_with_a_trained_matrix_is_a_layer_and_one_of_activations_is_not():
    draft = Draft()
    x = draft.input(2, 8, 8)
    layer = draft.matmul(x, draft.weight(8, 8))
    product = draft.matmul(layer, layer)
    graph = draft.graph()
    assert graph.weighted(graph.ops[layer])
    assert not graph.weighted(graph.ops[product])


def test_zero_weights_mute_a_layer_and_zero_biases_do_not():
    draft = Draft()
    x = draft.input(2, 8)
    live, zero = draft.linear(x), draft.linear(x, rms=0.0)
    kept, gain = draft.norm(x), draft.norm(x, gain=0.0)
    gate = draft.op("mul", x, draft.weight(rms=0.0))
    frozen = draft.op("mul", x, draft.weight(8, rms=0.0, buffer=True))
    graph = draft.graph()
    assert [index for index in (live, zero, kept, gain, gate, frozen) if graph.muted(graph.ops[index])] == [
        zero,
        gain,
        gate,
    ]
