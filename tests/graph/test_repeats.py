"""Module calls as a tree, and the blocks and steps that a model repeats."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graph_building import Draft

from stablelint.graph import Graph
from stablelint.graph.calls import ModuleCall
from stablelint.site import Site

Frame = tuple[str, int, str]


class Calls(Draft):
    """A graph whose ops know the module calls that they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = [("", 0, "Net")]
        self.line = 1

    def op(self, *args, **kwargs) -> int:
        index = super().op(*args, **kwargs)
        scope, calls, types = zip(*self.frames, strict=True)
        site = Site(scope[-1], "net.py", self.line)
        self.ops[index] = replace(self.ops[index], scope=scope, calls=calls, types=types, site=site)
        return index

    def call(self, path: str, kind: str, x: int, *names: str, number: int = 0) -> int:
        self.frames.append((path, number, kind))
        x = self.branch(x, *names)
        self.frames.pop()
        return x

    def linear_with(self, x: int, weight: int) -> int:
        return self.op("linear", x, weight, operands={"input": 0, "weight": 1})


def outline(call: ModuleCall) -> list[object]:
    return [item if isinstance(item, int) else (item.path, item.number, outline(item)) for item in call.items]


def facts(graph: Graph) -> list[tuple[str, int, bool, bool]]:
    return [(each.kind, each.count, each.shared, each.series) for each in graph.repeats]


def test_the_tree_holds_every_op_once_where_it_ran():
    draft = Calls()
    x = draft.input(2, 8)
    x = draft.call("a", "A", x, "relu")
    draft.frames.append(("b", 0, "B"))
    x = draft.op("tanh", x)
    x = draft.call("b.c", "C", x, "relu", "relu")
    draft.frames.pop()
    x = draft.call("a", "A", x, "relu", number=1)
    (root,) = draft.graph().calls.items
    assert root.kind == "Net"
    assert outline(root) == [0, ("a", 0, [1]), ("b", 0, [2, ("b.c", 0, [3, 4])]), ("a", 1, [5])]
    assert [(call.first, call.last) for call in root.items[1:]] == [(1, 1), (2, 4), (5, 5)]


def test_calls_of_a_module_one_after_the_other_are_two():
    draft = Calls()
    x = draft.input(2, 8)
    for number in range(2):
        x = draft.call("a", "A", x, "relu", number=number)
    (root,) = draft.graph().calls.items
    assert [item.number for item in root.items[1:]] == [0, 1]


def test_a_graph_without_modules_is_one_call():
    draft = Draft()
    draft.branch(draft.input(2, 8), "relu", "tanh")
    assert draft.graph().calls.items == (0, 1, 2)


def test_an_empty_graph_has_no_repeats():
    assert Graph(()).repeats == ()


@pytest.mark.parametrize("added", [False, True], ids=["bare calls", "additions outside of the call"])
def test_equal_calls_in_a_row_are_blocks(added):
    draft = Calls()
    x = draft.linear(draft.input(2, 8))
    for number in range(12):
        out = draft.call(f"blocks.{number}", "Block", x, "norm", "linear", "relu")
        x = draft.op("add", x, out) if added else out
    draft.linear(x, 3)
    graph = draft.graph()
    (repeat,) = graph.repeats
    assert (repeat.kind, repeat.count, repeat.shared, repeat.series) == ("Block", 12, False, True)
    assert (repeat.paths[0], repeat.paths[-1]) == ("blocks.0", "blocks.11")
    seventh = repeat.units[6]
    assert {graph.places[index] for index in range(seventh[0], seventh[1] + 1)} == {"block 7 of 12"}
    assert len(graph.ops) - 1 not in graph.places


def test_modules_that_alternate_are_one_unit():
    draft = Calls()
    x = draft.input(2, 8)
    for number in range(5):
        x = draft.call(f"net.{2 * number}", "Linear", x, "linear")
        x = draft.call(f"net.{2 * number + 1}", "ReLU", x, "relu")
    assert facts(draft.graph()) == [("Linear, ReLU", 5, False, True)]


def test_calls_that_differ_in_shape_or_ops_are_no_repeat():
    draft = Calls()
    x = draft.input(2, 8)
    draft.frames.append(("a", 0, "Block"))
    x = draft.linear(x, 16)
    draft.frames[-1] = ("b", 0, "Block")
    x = draft.linear(x, 32)
    draft.frames.pop()
    x = draft.call("c", "Block", x, "linear", "relu")
    draft.call("d", "Block", x, "linear", "tanh")
    assert facts(draft.graph()) == []


def test_what_repeats_inside_a_block_comes_after_the_blocks():
    draft = Calls()
    x = draft.input(2, 8)
    for number in range(3):
        draft.frames.append((f"blocks.{number}", 0, "Block"))
        for inner in range(4):
            x = draft.call(f"blocks.{number}.{inner}", "Layer", x, "linear", "relu")
        draft.frames.pop()
    graph = draft.graph()
    assert facts(graph) == [("Block", 3, False, True), *[("Layer", 4, False, True)] * 3]
    assert graph.places[len(graph) - 1] == "block 3 of 3"


@pytest.mark.parametrize("shared", [False, True])
def test_a_loop_over_weights_repeats_its_lines(shared):
    draft = Calls()
    x = draft.op("tanh", draft.input(2, 8))
    weights = [draft.weight(8, 8)] * 6 if shared else [draft.weight(8, 8) for _ in range(6)]
    for weight in weights:
        draft.line = 4
        y = draft.linear_with(x, weight)
        draft.line = 5
        x = draft.op("add", x, draft.op("tanh", y))
    draft.line = 6
    draft.op("tanh", x)
    graph = draft.graph()
    assert facts(graph) == [("", 6, shared, True)]
    last = len(graph) - 1
    assert last not in graph.places
    assert graph.places[last - 1] == ("step 6 of 6" if shared else "block 6 of 6")


def test_equal_ops_on_different_lines_are_no_repeat():
    draft = Calls()
    x = draft.input(2, 8)
    for line in range(6):
        draft.line = line
        x = draft.linear(x)
    assert facts(draft.graph()) == []


def test_ops_without_weights_are_no_repeat():
    draft = Calls()
    draft.branch(draft.input(2, 8), *["relu", "tanh"] * 4)
    assert facts(draft.graph()) == []


@pytest.mark.parametrize("kind", ["towers", "siamese"])
def test_calls_side_by_side_are_no_blocks_in_depth(kind):
    draft = Calls()
    inputs = [draft.input(2, 8), draft.input(2, 8)]
    weights = [draft.weight(8, 8), draft.weight(8, 8)]
    outs = []
    for number, x in enumerate(inputs):
        siamese = kind == "siamese"
        draft.frames.append(("net", number, "Tower") if siamese else (f"net{number}", 0, "Tower"))
        outs.append(draft.op("relu", draft.linear_with(x, weights[0 if siamese else number])))
        draft.frames.pop()
    draft.op("cat", *outs, shape=(2, 16))
    graph = draft.graph()
    assert facts(graph) == [("Tower", 2, kind == "siamese", False)]
    assert dict(graph.places) == {}


def test_the_cost_per_op_does_not_grow_with_depth():
    def steps(depth: int) -> int:
        looked = 0

        class Counted(tuple):
            def __getitem__(self, key):
                nonlocal looked
                looked += 1
                return super().__getitem__(key)

        draft = Calls()
        x = draft.input(2, 8)
        for number in range(depth):
            x = draft.op("add", x, draft.call(f"blocks.{number}", "Block", x, "norm", "linear", "relu", "linear"))
        graph = Graph(Counted(draft.ops), (x,))
        assert graph.repeats[0].count == depth
        assert graph.places[x] == f"block {depth} of {depth}"
        return looked

    assert steps(400) < 4.5 * steps(100)
