"""Trunk and blocks of every shape of network, drawn by hand."""

from __future__ import annotations

import pytest
from graph_building import Draft

from stablelint.graph import Graph


def blocks(graph: Graph) -> int:
    return len(set(graph.flow.block.values()))


def layers_of_trunk(graph: Graph) -> int:
    return sum(graph.weighted(graph.ops[index]) for index in graph.flow.trunk)


@pytest.mark.parametrize("depth", [1, 7])
def test_a_chain_has_a_block_for_each_layer(depth):
    draft = Draft()
    draft.branch(draft.input(2, 8), *["linear", "relu"] * depth)
    graph = draft.graph()
    assert graph.flow.trunk == tuple(sorted(graph.flow.signal))
    assert blocks(graph) == depth


@pytest.mark.parametrize("post", [False, True])
def test_a_residual_stack_has_a_block_for_each_addition(post):
    draft = Draft()
    stream = draft.linear(draft.input(2, 8))
    joins = []
    for _ in range(5):
        branch = ("linear", "relu", "linear") if post else ("norm", "linear", "relu", "linear")
        stream = draft.op("add", stream, draft.branch(stream, *branch))
        joins.append(stream)
        stream = draft.norm(stream) if post else stream
    head = draft.linear(stream)
    graph = draft.graph()
    assert set(joins) <= set(graph.flow.trunk)
    assert [graph.flow.block[index] for index in joins] == list(range(1, 6))
    assert graph.flow.block[head] == 6


def u_net(draft: Draft, levels: int, *, last: int | None = None) -> int:
    """Two layers per level on both ways, skips by concatenation; ``last`` is concatenated before the head."""
    x = draft.input(2, 8)
    skips = []
    for _ in range(levels):
        x = draft.branch(x, "linear", "relu", "linear", "relu")
        skips.append(x)
        x = draft.op("max_pool", x)
    x = draft.branch(x, "linear", "relu", "linear", "relu")
    for skip in reversed(skips):
        x = draft.op("cat", skip, draft.op("interpolate", x), shape=(2, 16))
        x = draft.branch(draft.linear(x, 8), "relu", "linear", "relu")
    if last is not None:
        x = draft.op("cat", last, x, shape=(2, 16))
    return draft.linear(x)


@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("last", [None, 0], ids=["", "input concatenated at the end"])
def test_the_trunk_of_a_u_net_leads_through_its_bottom(levels, last):
    draft = Draft()
    u_net(draft, levels, last=last)
    graph = draft.graph()
    assert layers_of_trunk(graph) == 4 * levels + 3
    assert blocks(graph) == 4 * levels + 3


def test_a_zero_initialised_way_through_the_bottom_leaves_the_trunk_on_the_skip():
    draft = Draft()
    top = draft.linear(draft.input(2, 8))
    bottom = draft.linear(draft.branch(top, "linear", "relu", "linear", "relu"), rms=0.0)
    join = draft.op("cat", top, bottom, shape=(2, 16))
    assert draft.graph().flow.trunk == (0, top, join)


@pytest.mark.parametrize(("layer", "expected"), [((), 7), (("norm", "relu", "linear", "norm", "relu"), 13)])
def test_a_dense_block_has_a_block_for_each_layer(layer, expected):
    draft = Draft()
    stream = draft.input(2, 8)
    for growth in range(1, 7):
        new = draft.linear(draft.branch(stream, *layer), 8)
        stream = draft.op("cat", stream, new, shape=(2, 8 * (growth + 1)))
    draft.linear(stream, 4)
    assert blocks(draft.graph()) == expected


def test_a_dense_list_of_bottlenecks_is_followed_layer_by_layer():
    draft = Draft()
    values = [draft.input(2, 8)]
    for count in range(1, 6):
        joined = draft.op("cat", *values, shape=(2, 8 * count)) if count > 1 else values[0]
        values.append(draft.branch(draft.linear(draft.norm(joined), 8), "norm", "relu", "linear"))
    draft.linear(draft.op("cat", *values, shape=(2, 48)), 4)
    assert layers_of_trunk(draft.graph()) == 11


def test_parallel_branches_of_one_depth_meet_on_the_trunk():
    draft = Draft()
    x = draft.input(2, 8)
    joins = []
    for _ in range(4):
        x = draft.op("cat", *(draft.linear(x, 4) for _ in range(3)), shape=(2, 12))
        joins.append(x)
        x = draft.op("relu", x)
    draft.linear(x)
    graph = draft.graph()
    assert set(joins) <= set(graph.flow.trunk)
    assert blocks(graph) == 5


def test_the_deep_part_beside_a_wide_one_is_the_trunk():
    draft = Draft()
    x = draft.input(2, 8)
    deep = draft.branch(x, *["linear", "relu"] * 4)
    draft.linear(draft.op("cat", draft.linear(x), deep, shape=(2, 16)))
    assert layers_of_trunk(draft.graph()) == 5


def test_a_side_input_that_is_concatenated_late_is_no_source():
    draft = Draft()
    side, x = draft.input(2, 8), draft.input(2, 8)
    deep = draft.branch(x, *["linear", "relu"] * 4)
    draft.linear(draft.op("cat", draft.linear(side), deep, shape=(2, 16)))
    flow = draft.graph().flow
    assert flow.source == x
    assert side in flow.signal


def transformer_layer(draft: Draft, x: int, memory: int | None = None) -> int:
    for context in (None, memory) if memory is not None else (None,):
        normed = draft.norm(x)
        keys = normed if context is None else context
        scores = draft.matmul(draft.linear(normed), draft.transposed(draft.linear(keys)))
        mixed = draft.matmul(draft.op("softmax", scores), draft.linear(keys))
        x = draft.op("add", x, draft.linear(mixed))
    return draft.op("add", x, draft.branch(x, "norm", "linear", "relu", "linear"))


@pytest.mark.parametrize("deeper", ["encoder", "decoder"])
def test_the_trunk_of_an_encoder_decoder_is_a_stream_of_additions(deeper):
    draft = Draft()
    source, target = draft.input(2, 5, 8), draft.input(2, 4, 8)
    memory = draft.linear(source)
    for _ in range(6 if deeper == "encoder" else 2):
        memory = transformer_layer(draft, memory)
    x = draft.linear(target)
    for _ in range(2 if deeper == "encoder" else 6):
        x = transformer_layer(draft, x, memory)
    draft.linear(x)
    graph = draft.graph()
    assert graph.flow.source == (source if deeper == "encoder" else target)
    # the stream of the deeper side; into the other one several ways lead
    assert blocks(graph) >= (12 if deeper == "encoder" else 18)


def test_a_mixture_of_experts_is_one_block_beside_its_stream():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    for _ in range(4):
        gate = draft.op("softmax", draft.linear(x, 3))
        total = None
        for _ in range(3):
            part = draft.op("mul", gate, draft.branch(x, "linear", "relu", "linear"), shape=(2, 8))
            total = part if total is None else draft.op("add", total, part)
        x = draft.op("add", x, total)
    draft.linear(x)
    assert blocks(draft.graph()) == 6


def test_two_towers_have_the_depth_of_one():
    draft = Draft()
    towers = [draft.branch(draft.input(4, 8), *["linear", "relu"] * 5) for _ in range(2)]
    logits = draft.matmul(towers[0], draft.transposed(towers[1]))
    graph = draft.graph(logits)
    assert graph.flow.source in (0, 21)
    assert blocks(graph) == 5


def test_of_several_heads_the_deepest_ends_the_trunk():
    draft = Draft()
    x = draft.branch(draft.input(2, 8), *["linear", "relu"] * 3)
    shallow, deep = draft.linear(x, 3), draft.branch(x, "linear", "relu", "linear")
    graph = draft.graph(shallow, deep)
    assert graph.flow.sink == deep
    assert shallow not in graph.flow.signal
    assert blocks(graph) == 5


@pytest.mark.parametrize("compare", ["cat", "sub"])
def test_a_network_that_runs_twice_has_the_depth_of_one_run(compare):
    draft = Draft()
    weights = [draft.weight(8, 8, rms=0.35) for _ in range(4)]
    ends = []
    for _ in range(2):
        x = draft.input(4, 8)
        for weight in weights:
            x = draft.op("relu", draft.op("linear", x, weight, shape=(4, 8), operands={"input": 0, "weight": 1}))
        ends.append(x)
    draft.linear(draft.op(compare, *ends, shape=(4, 16 if compare == "cat" else 8)), 1)
    graph = draft.graph()
    assert layers_of_trunk(graph) == 5
    assert blocks(graph) in (5, 6)


def test_a_recurrence_that_reads_its_first_state_only_is_a_chain():
    draft = Draft()
    state = draft.input(2, 8)
    weight = draft.weight(8, 8, rms=0.35)
    for _ in range(6):
        state = draft.op("tanh", draft.op("linear", state, weight, operands={"input": 0, "weight": 1}))
    assert blocks(draft.graph()) == 6
