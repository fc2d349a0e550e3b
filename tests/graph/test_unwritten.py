"""Parameters without initial values, and who reads them."""

from __future__ import annotations

import math

import pytest
from graph_building import Draft

from stablelint.causes.initialization.uninitialized_parameter import uninitialized_parameter
from stablelint.finding import Level
from stablelint.graph import Graph, Op, Parameter
from stablelint.site import Site


def empty(draft: Draft, *shape: int, name: str = "w", line: int = 7, **more) -> int:
    described = Parameter(
        name, shape, math.nan, math.nan, math.nan, init="empty", init_site=Site("", "net.py", line), **more
    )
    return draft.op("parameter", shape=shape, parameter=described)


def finished(draft: Draft, *, live: bool = True) -> Graph:
    parameters = tuple(op.parameter for op in draft.ops if op.parameter is not None)
    ops = draft.ops if live else [Op(op.index, op.name, op.inputs, live=False) for op in draft.ops]
    return Graph(tuple(ops), (len(ops) - 1,), parameters)


def readers(graph: Graph) -> dict[str, list[int]]:
    return {name: [op.index for op in ops] for name, ops in graph.unwritten.items()}


def test_the_reader_is_where_the_content_meets_the_data():
    draft = Draft()
    x = draft.input(2, 8)
    weight = draft.op("transpose", draft.op("mul", empty(draft, 8, 8), other=0.1))
    product = draft.matmul(x, weight)
    draft.op("relu", product)
    assert readers(finished(draft)) == {"w": [product]}


def test_values_that_only_give_their_shape_are_not_read():
    draft = Draft()
    x = draft.input(2, 8)
    draft.op("add", x, draft.op("zeros_like", empty(draft, 8)))
    assert readers(finished(draft)) == {"w": []}


@pytest.mark.parametrize("fill", ["copy", "setitem", "normal"])
def test_a_forward_pass_that_fills_before_it_reads_is_left_alone(fill):
    draft = Draft()
    x = draft.input(2, 8)
    memory = draft.op("detach", empty(draft, 8))
    draft.ops.append(Op(len(draft.ops), fill, (memory, draft.reduce("mean", x)), shape=(8,), inplace=True))
    draft.op("mul", x, len(draft.ops) - 1)
    assert readers(finished(draft)) == {}


def test_arithmetic_in_place_fills_nothing():
    draft = Draft()
    x = draft.input(2, 8)
    memory = empty(draft, 8)
    draft.ops.append(Op(len(draft.ops), "clamp", (memory,), shape=(8,), inplace=True))
    product = draft.op("mul", x, len(draft.ops) - 1)
    assert readers(finished(draft)) == {"w": [product]}


@pytest.mark.parametrize("more", [{"buffer": True}])
def test_a_buffer_is_filled_when_it_is_used(more):
    draft = Draft()
    draft.op("add", draft.input(2, 8), empty(draft, 8, **more))
    assert readers(finished(draft)) == {}


def test_a_parameter_without_elements_holds_nothing():
    draft = Draft()
    draft.op("add", draft.input(2, 8), empty(draft, 0))
    assert readers(finished(draft)) == {}


def test_what_reaches_no_output_reads_nothing():
    draft = Draft()
    x = draft.input(2, 8)
    lost = draft.op("add", x, empty(draft, 8))
    out = draft.op("relu", x)
    graph = finished(draft)
    ops = tuple(op if op.index != lost else Op(lost, "add", op.inputs, live=False) for op in graph)
    assert readers(Graph(ops, (out,), graph.parameters)) == {"w": []}


def test_parameters_of_one_line_are_one_hit_and_unread_ones_a_note():
    draft = Draft()
    x = draft.input(2, 8)
    for name in ("a.w", "b.w"):
        x = draft.op("add", x, empty(draft, 8, name=name))
    empty(draft, 8, name="spare", line=9)
    draft.op("relu", x)
    used, unused = uninitialized_parameter.hits(finished(draft))
    assert (used.site.line, used.level, used.facts["parameters"]) == (7, None, 2)
    assert (unused.site.line, unused.level, unused.span) == (9, Level.NOTE, ())
    assert len(used.span) == 2


@pytest.mark.parametrize(
    ("name", "use", "shape", "recipe"),
    [
        ("w", "matmul", (8, 8), "xavier_uniform_(self.w)"),
        ("position", "add", (4, 8), "normal_(self.position, std=0.02)"),
        ("gain", "mul", (8,), "ones_(self.gain)"),
        ("bias", "add", (8,), "zeros_(self.bias)"),
    ],
)
def test_the_fix_fits_the_use(name, use, shape, recipe):
    draft = Draft()
    draft.op(use, draft.input(4, 8), empty(draft, *shape, name=f"net.{name}"))
    (hit,) = uninitialized_parameter.hits(finished(draft))
    assert hit.fix.endswith(recipe)
