"""Residual additions: what is skipped, and by what."""

from __future__ import annotations

from itertools import pairwise

import pytest
from graph_building import Draft

from stablelint.graph import Graph
from stablelint.graph.residuals import Residual


def only(graph: Graph) -> Residual:
    (residual,) = graph.residuals()
    return residual


def indices(ops) -> tuple[int, ...]:
    return tuple(op.index for op in ops)


@pytest.mark.parametrize("name", ["add", "sub"])
def test_an_identity_skip_holds_no_op(name):
    draft = Draft()
    stem = draft.linear(draft.input(2, 8))
    first = draft.linear(stem)
    act = draft.op("relu", first)
    second = draft.linear(act)
    join = draft.op(name, stem, second)
    residual = only(draft.graph())
    assert (residual.join.index, residual.fork.index) == (join, stem)
    assert residual.skip == ()
    assert indices(residual.branch) == (first, act, second)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_path_with_fewer_weights_is_the_skip_on_either_side(swapped):
    draft = Draft()
    x = draft.input(2, 8)
    projection = draft.linear(x)
    branch = draft.branch(x, "linear", "relu", "linear")
    draft.op("add", *((branch, projection) if swapped else (projection, branch)))
    residual = only(draft.graph())
    assert indices(residual.skip) == (projection,)
    assert branch in indices(residual.branch)


def test_a_skip_of_many_ops_without_weights_is_still_the_skip():
    draft = Draft()
    x = draft.input(2, 8)
    layer = draft.linear(x)
    pooled = draft.op("avg_pool", x)
    padded = draft.op("pad", pooled)
    normed = draft.op("layer_norm", padded)
    draft.op("add", layer, normed)
    residual = only(draft.graph())
    assert indices(residual.skip) == (pooled, padded, normed)
    assert indices(residual.branch) == (layer,)


@pytest.mark.parametrize("swapped", [False, True])
def test_context_that_enters_from_elsewhere_marks_the_branch(swapped):
    draft = Draft()
    context, x = draft.input(2, 4, 8), draft.input(2, 4, 8)
    stem = draft.linear(x)
    query = draft.linear(stem)
    mixed = draft.matmul(query, draft.transposed(draft.linear(context)))
    join = draft.op("add", *((mixed, stem) if swapped else (stem, mixed)))
    residual = only(draft.graph())
    assert (residual.fork.index, residual.join.index, residual.skip) == (stem, join, ())
    assert {query, mixed} <= set(indices(residual.branch))


def test_two_branches_of_one_fork_that_are_added_one_by_one_share_it():
    draft = Draft()
    x = draft.input(2, 8)
    attention = draft.linear(x)
    first = draft.op("add", x, attention)
    feed = draft.branch(x, "linear", "relu", "linear")
    draft.op("add", first, feed)
    inner, outer = draft.graph().residuals()
    assert (inner.fork.index, inner.skip) == (x, ())
    assert outer.fork.index == x
    assert indices(outer.skip) == (attention, first)


def test_parallel_branches_that_are_summed_first_are_one_branch_beside_an_identity():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    normed = draft.norm(x)
    both = draft.op("add", draft.linear(normed), draft.branch(normed, "linear", "relu", "linear"))
    join = draft.op("add", both, x)
    residual = draft.graph().residuals()[-1]
    assert (residual.fork.index, residual.join.index, residual.skip) == (x, join, ())
    assert {normed, both} <= set(indices(residual.branch))


def test_blocks_in_a_row_are_found_in_execution_order():
    draft = Draft()
    stream = [draft.linear(draft.input(2, 8))]
    for _ in range(3):
        stream.append(draft.op("add", stream[-1], draft.branch(stream[-1], "norm", "linear")))
    found = draft.graph().residuals()
    assert [(residual.fork.index, residual.join.index) for residual in found] == list(pairwise(stream))


def test_the_sum_of_two_inputs_is_no_residual():
    draft = Draft()
    left, right = draft.input(2, 8), draft.input(2, 8)
    draft.op("add", draft.linear(left), draft.linear(right))
    assert draft.graph().residuals() == ()


def test_an_added_parameter_or_number_is_no_residual():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    draft.op("add", draft.op("add", x, draft.weight(8)), other=1.0)
    assert draft.graph().residuals() == ()


def test_a_branch_without_weights_is_no_residual():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    draft.op("add", x, draft.op("relu", x))
    assert draft.graph().residuals() == ()


def test_two_mixtures_of_the_same_two_sources_are_no_residual():
    draft = Draft()
    left, right = draft.linear(draft.input(2, 8, 8)), draft.linear(draft.input(2, 8, 8))
    one, other = draft.matmul(left, right), draft.matmul(right, left)
    draft.op("add", draft.linear(one), other)
    assert draft.graph().residuals() == ()


def test_a_sum_whose_sides_both_hear_another_input_is_no_residual():
    draft = Draft()
    one, other, x = (draft.linear(draft.input(2, 8, 8)) for _ in range(3))
    stem = draft.linear(x)
    draft.op("add", draft.linear(draft.matmul(stem, one)), draft.matmul(stem, other))
    assert draft.graph().residuals() == ()


def test_a_sum_that_reaches_no_output_is_no_residual():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    dead = draft.op("add", x, draft.linear(x))
    out = draft.linear(x)
    assert draft.graph(out).residuals() == ()
    assert len(draft.graph(dead).residuals()) == 1


def test_branches_of_one_norm_that_are_added_one_by_one_fork_at_the_stream():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    normed = draft.norm(x)
    first = draft.op("add", x, draft.linear(normed))
    draft.op("add", first, draft.branch(normed, "linear", "relu", "linear"))
    assert [residual.fork.index for residual in draft.graph().residuals()] == [x, x]
