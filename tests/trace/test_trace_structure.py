"""What is read off recorded models: repeated blocks, the trunk through every shape of network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.trace import trace


def recorded(model: nn.Module, *inputs: torch.Tensor) -> Graph:
    return trace(model, Inputs(*inputs)).graph


def blocks(graph: Graph) -> int:
    return len(set(graph.flow.block.values()))


class Forward(nn.Module):
    """A model of its parts and a function."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)


def doubled(inputs: int, outputs: int) -> nn.Module:
    layers = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def u_net(net, x):
    skips, y = [], x
    for down in net.down:
        y = down(y)
        skips.append(y)
        y = F.max_pool2d(y, 2)
    y = net.bottom(y)
    for up, skip in zip(net.up, reversed(skips), strict=True):
        y = up(torch.cat([skip, F.interpolate(y, scale_factor=2)], 1))
    return net.head(torch.cat([x, y], 1))


def test_a_u_net_is_followed_through_its_bottom():
    model = Forward(
        u_net,
        down=nn.ModuleList([doubled(3, 8), doubled(8, 16)]),
        bottom=doubled(16, 32),
        up=nn.ModuleList([doubled(48, 16), doubled(24, 8)]),
        head=nn.Conv2d(11, 1, 1),
    )
    graph = recorded(model, torch.randn(2, 3, 16, 16))
    assert blocks(graph) == 11
    assert {op.site.module.partition(".")[0] for op in map(graph.ops.__getitem__, graph.flow.trunk)} >= {"bottom"}


def test_a_transformer_is_two_stacks_and_the_deeper_stream_its_trunk():
    model = nn.Transformer(16, 2, 3, 4, 32, batch_first=True)
    graph = recorded(model, torch.randn(2, 5, 16), torch.randn(2, 6, 16))
    found = {(each.kind, each.count, each.paths[-1]) for each in graph.repeats}
    assert ("TransformerEncoderLayer", 3, "encoder.layers.2") in found
    assert ("TransformerDecoderLayer", 4, "decoder.layers.3") in found
    assert {graph.places[op.index] for op in graph if op.site.module.startswith("decoder.layers.3")} == {"block 4 of 4"}
    assert blocks(graph) >= 12


def unrolled(net, x):
    state = x.new_zeros(x.shape[0], 16)
    for step in range(x.shape[1]):
        state = net.cell(x[:, step], state)
    return net.head(state)


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.RNNCell])
def test_a_recurrence_in_python_repeats_steps(cell):
    graph = recorded(Forward(unrolled, cell=cell(8, 16), head=nn.Linear(16, 3)), torch.randn(2, 6, 8))
    (repeat,) = graph.repeats
    assert (repeat.kind, repeat.count, repeat.shared, repeat.series) == (cell.__name__, 6, True, True)
    assert "step 6 of 6" in graph.places.values()


def test_towers_and_siamese_calls_stand_side_by_side():
    def tower():
        return nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.ReLU())))

    x, y = torch.randn(4, 8), torch.randn(4, 8)
    pair = recorded(Forward(lambda net, x, y: net.a(x) @ net.b(y).mT, a=tower(), b=tower()), x, y)
    siamese = recorded(Forward(lambda net, x, y: net.a(x) - net.a(y), a=tower()), x, y)
    assert blocks(pair) == blocks(siamese) == 4
    for graph, shared in ((pair, False), (siamese, True)):
        outer = graph.repeats[0]
        assert (outer.count, outer.shared, outer.series) == (2, shared, False)
        assert set(graph.places.values()) == {f"block {number} of 4" for number in range(1, 5)}


def experts(net, x):
    for gate, several in zip(net.gates, net.experts, strict=True):
        weights = gate(x).softmax(-1)
        x = x + sum(weights[:, place, None] * expert(x).relu() for place, expert in enumerate(several))
    return x


def test_each_mixture_of_experts_is_one_block():
    gates = nn.ModuleList(nn.Linear(8, 3) for _ in range(4))
    several = nn.ModuleList(nn.ModuleList(nn.Linear(8, 8) for _ in range(3)) for _ in range(4))
    graph = recorded(Forward(experts, gates=gates, experts=several), torch.randn(2, 8))
    assert blocks(graph) == 4
    assert set(graph.places.values()) == {f"block {number} of 4" for number in range(1, 5)}


def test_a_loop_over_bare_weights_repeats_its_lines():
    weights = nn.ParameterList(nn.Parameter(torch.randn(8, 8)) for _ in range(5))

    def loop(net, x):
        for weight in net.weights:
            x = x + torch.tanh(x @ weight)
        return x

    graph = recorded(Forward(loop, weights=weights), torch.randn(2, 8))
    (repeat,) = graph.repeats
    assert (repeat.kind, repeat.count, repeat.shared) == ("", 5, False)
    assert graph.places[len(graph) - 1] == "block 5 of 5"
