"""What keeps the gradient from parameters, found in graphs written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graph_building import Draft

from stablelint.causes.gradient_path.cut_gradient_path import cut_gradient_path
from stablelint.graph import Graph


def named(graph: Graph) -> Graph:
    """The same with parameters of different names, and listed."""
    ops, parameters = [], []
    for op in graph.ops:
        if op.parameter is not None:
            op = replace(op, parameter=replace(op.parameter, name=f"p{op.index}"))
            parameters.append(op.parameter)
        ops.append(op)
    return Graph(tuple(ops), graph.outputs, tuple(parameters))


def under_no_grad(graph: Graph, *indices: int) -> Graph:
    ops = tuple(replace(op, differentiable=op.index not in indices) for op in graph.ops)
    return Graph(ops, graph.outputs, graph.parameters)


def chain(*names: str, dtype: str = "float32") -> tuple[Graph, int]:
    """A linear layer, the ops, another linear layer; and the index of the first of the ops."""
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    for name in names:
        x = draft.op(name, x, dtype=dtype)
    draft.linear(x)
    return named(draft.graph()), 4


@pytest.mark.parametrize("name", ["detach", "round", "sign", "floor"])
def test_an_op_without_derivative_on_the_only_way_severs(name):
    graph, at = chain(name, "mul")
    (cut,) = graph.cuts
    assert (cut.op, cut.name, cut.parameters) == (at, name, ("p1", "p2"))
    assert cut.severs
    assert not cut.shields
    assert not cut.aside
    assert cut.share == pytest.approx(0.5)
    assert cut.elements == 16 * 16 + 16


def test_integers_and_no_grad_cut_and_other_ops_do_not():
    graph, at = chain("argmax", dtype="int64")
    assert [cut.op for cut in graph.cuts] == [at]
    graph, at = chain("mul")
    assert graph.cuts == ()
    (cut,) = under_no_grad(graph, at).cuts
    assert cut.severs
    assert not cut.shields
    assert at not in under_no_grad(graph, at).flow.signal


def test_parameters_that_are_read_under_no_grad_are_shielded():
    graph, at = chain("mul")
    (cut,) = under_no_grad(graph, at - 1).cuts
    assert cut.shields
    assert cut.name == "linear"


def test_another_way_keeps_the_gradient():
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    hard = draft.op("detach", draft.op("sub", draft.op("round", x), x))
    draft.linear(draft.op("add", x, hard))
    assert named(draft.graph()).cuts == ()


def test_a_branch_beside_the_data_is_cut_and_nothing_is_severed():
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    gate = draft.op("detach", draft.op("sigmoid", draft.linear(x)))
    draft.linear(draft.op("mul", x, gate))
    (cut,) = named(draft.graph()).cuts
    assert (cut.op, cut.severs, cut.aside) == (gate, False, False)
    assert len(cut.parameters) == 2


def test_what_is_only_returned_is_told_apart():
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    best = draft.op("argmax", draft.linear(x), dtype="int64")
    loss = draft.linear(x)
    (cut,) = named(draft.graph(loss, best)).cuts
    assert (cut.op, cut.aside) == (best, True)


def test_in_eval_mode_only_what_severs_is_sure():
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    proposals = draft.op("detach", draft.linear(x))
    draft.linear(draft.op("add", x, proposals))
    graph = named(draft.graph())
    assert [cut.aside for cut in graph.cuts] == [False]
    assert [cut.aside for cut in replace(graph, training=False).cuts] == [True]
    severed, _ = chain("detach")
    assert [cut.aside for cut in replace(severed, training=False).cuts] == [False]


def test_frozen_parameters_shapes_and_dead_values_are_no_cuts():
    graph, _ = chain("detach")
    frozen = tuple(replace(each, trainable=False) for each in graph.parameters[:2])
    frozen_by_name = {each.name: each for each in frozen}
    ops = tuple(replace(op, parameter=frozen_by_name.get(op.parameter.name, op.parameter)) if op.parameter else op
                for op in graph.ops)  # fmt: skip
    assert Graph(ops, graph.outputs, frozen + graph.parameters[2:]).cuts == ()
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    side = draft.op("zeros_like", draft.linear(x))
    draft.linear(draft.op("add", x, side))
    assert named(draft.graph()).cuts == ()
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    draft.op("detach", draft.linear(x))
    out = draft.linear(x)
    graph = named(draft.graph(out))
    live = Graph(tuple(replace(op, live=op.index not in range(4, 8)) for op in graph.ops), graph.outputs,
                 graph.parameters)  # fmt: skip
    assert live.cuts == ()
    assert live.readers["p4"] == ()


def test_readers_are_where_the_data_is_met():
    draft = Draft()
    x = draft.input(8, 16)
    weight = draft.op("transpose", draft.weight(16, 16))
    product = draft.matmul(x, weight)
    graph = named(draft.graph(product))
    assert graph.readers == {"p1": (product,)}


def test_sleepers_are_the_zero_factors_behind_and_no_bias():
    draft = Draft()
    x = draft.linear(draft.input(8, 16))
    x = draft.linear(x, rms=0.0)
    draft.linear(x)
    graph = named(draft.graph())
    assert graph.sleepers["p1"] == ("p4",)
    assert graph.sleepers["p4"] == ()
    assert graph.sleepers["p7"] == ()


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("detach", "float32", "detach leaves the gradient behind"),
        ("argmax", "int64", "argmax turns real numbers into int64"),
        ("round", "float32", "round is flat wherever it has a derivative"),
    ],
)
def test_the_cause_says_how_the_gradient_is_lost(name, dtype, words):
    graph, at = chain(name, dtype=dtype)
    (hit,) = cut_gradient_path.hits(graph)
    assert hit.message.startswith(words)
    assert "p1 and 1 more (272 elements, 50% of all) can never be trained" in hit.message
    assert hit.span == (at,)


def test_the_cause_asks_to_freeze_what_is_read_under_no_grad():
    graph, at = chain("mul")
    (hit,) = cut_gradient_path.hits(under_no_grad(graph, at - 1))
    assert "runs with autograd off (no_grad)" in hit.message
    assert "requires_grad_(False)" in (hit.fix or "")
