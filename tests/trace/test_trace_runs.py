"""Runs: fake and real traces agree, unusual forwards are recorded, the model stays as it was."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from functional_module import Functional
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from stablelint.inputs import Inputs
from stablelint.trace import trace


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x)
        return torch.exp(x * k).log1p()

    @staticmethod
    def backward(ctx, g):
        return g, None


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2)
    )


X = torch.randn(4, 4)
MODELS = {
    "cnn": lambda: (cnn(), Inputs(torch.randn(2, 3, 8, 8))),
    "encoder": lambda: (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), Inputs(torch.randn(2, 5, 8))),
    "gru": lambda: (nn.GRU(4, 3, bidirectional=True), Inputs(torch.randn(2, 5, 4))),
    "autograd function": lambda: (Functional(lambda net, x: Square.apply(net.a(x), 2.0), a=nn.Linear(4, 4)), Inputs(X)),
    "vmap": lambda: (Functional(lambda net, x: torch.func.vmap(net.a)(x), a=nn.Linear(4, 4)), Inputs(X)),
    "scripted": lambda: (Functional(lambda net, x: net.b(net.a(x)), a=scripted(), b=nn.Linear(4, 2)), Inputs(X)),
    "weight norm": lambda: (parametrizations.weight_norm(nn.Linear(4, 4)), Inputs(X)),
    "spectral norm": lambda: (parametrizations.spectral_norm(nn.Linear(4, 4)), Inputs(X)),
    "orthogonal": lambda: (parametrizations.orthogonal(nn.Linear(4, 4)), Inputs(X)),
    "checkpoint": lambda: (
        Functional(lambda net, x: checkpoint(net.a, x, use_reentrant=False), a=nn.Linear(4, 4)),
        Inputs(X),
    ),
    "loop": lambda: (
        Functional(lambda net, x: torch.stack([net.c(row[None]) for row in x]), c=nn.GRUCell(4, 3)),
        Inputs(X),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_fake_and_real_runs_agree(name):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    fake, real = trace(model, inputs), trace(model, inputs, fake=False)
    assert [(op.name, op.shape, op.inputs) for op in fake.graph] == [
        (op.name, op.shape, op.inputs) for op in real.graph
    ]
    assert not fake.remarks
    assert len(fake.fx.nodes) == len(fake.graph) + 1
    assert all(op.index == index for index, op in enumerate(fake.graph))
    assert any(op.live and op.parameter is not None for op in fake.graph)


def test_autograd_function_is_one_op():
    model, inputs = MODELS["autograd function"]()
    names = [op.name for op in trace(model, inputs).graph]
    assert names == ["input", "parameter", "parameter", "linear", "Square"]


def test_scripted_module_and_function_are_one_op():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        swish = torch.jit.script(lambda_free_swish)
    model = Functional(lambda net, x: swish(net.a(x)), a=scripted())
    graph = trace(model, Inputs(X)).graph
    assert [op.name for op in graph] == ["input", "parameter", "parameter", "Sequential", "lambda_free_swish"]
    assert all(op.live for op in graph)


def lambda_free_swish(x):
    return x * torch.sigmoid(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint_is_transparent(reentrant):
    block = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    model = Functional(lambda net, x: checkpoint(net.a, net.b(x), use_reentrant=reentrant), a=block, b=nn.Linear(4, 4))
    graph = trace(model, Inputs(X), fake=False).graph
    assert [op.name for op in graph if op.name != "parameter"] == ["input", "linear", "linear", "gelu"]
    assert all(op.live for op in graph)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


def test_nested_inputs_and_outputs():
    """Dicts, keywords and dataclasses: every tensor gets a name and every output is found."""

    def forward(net, batch, *, scale):
        y = batch["x"] * scale
        return {"a": Output(y, (batch["x"],)), "b": [y.relu()]}

    found = trace(Functional(forward), Inputs({"x": X}, scale=torch.tensor(2.0)))
    assert [op.attrs["name"] for op in found.graph if op.name == "input"] == ["0['x']", "scale"]
    assert [found.graph.ops[index].name for index in found.graph.outputs] == ["mul", "input", "relu"]


def test_tied_weights_share_the_first_name():
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    model = Functional(lambda net, x: net.head(net.e(x)), e=embedding, head=head)
    graph = trace(model, Inputs(torch.tensor([[1, 2]]))).graph
    (leaf,) = (op for op in graph if op.name == "parameter")
    assert leaf.parameter.name == "e.weight"
    assert [op.name for op in graph.users(leaf)] == ["embedding", "linear"]
    assert head.weight is embedding.weight


def test_modules_in_a_python_list_are_seen():
    """Their weights are constants that want a gradient, for nobody registered them."""
    layers = [nn.Linear(4, 4)]
    graph = trace(Functional(lambda net, x: layers[0](x)), Inputs(X)).graph
    constants = [op for op in graph if op.name == "constant"]
    assert [op.attrs for op in constants] == [{"requires_grad": True}] * 2
    assert graph.ops[-1].scope == ("", "<Linear>")


def test_module_converted_in_forward():
    """``module.to(dtype)`` inside forward works on fake weights and changes nothing outside."""

    def forward(net, x):
        return net.a.to(torch.float64)(x.double())

    model = Functional(forward, a=nn.Linear(4, 4))
    found = trace(model, Inputs(X))
    assert found.remarks == ()
    assert found.graph.ops[-1].dtype == "float64"
    assert found.graph.ops[-1].live
    assert model.a.weight.dtype is torch.float32


def test_value_in_a_string_is_a_guess():
    """A dictionary keyed by a tensor's text: the text is that of a value, not of a fake tensor."""

    def forward(net, x):
        return getattr(net, f"expert_{x.argmax() * 0}")(x)

    found = trace(Functional(forward, expert_0=nn.Linear(64, 2)), Inputs(torch.randn(80, 64)))
    assert len(found.remarks) == 1
    assert found.graph.ops[-1].name == "linear"


def test_unused_parameters_are_listed():
    model = Functional(lambda net, x: net.a(x), a=nn.Linear(4, 4), unused=nn.Linear(2, 2))
    names = [parameter.name for parameter in trace(model, Inputs(X)).graph.parameters]
    assert names == ["a.weight", "a.bias", "unused.weight", "unused.bias"]


def test_statistics_are_those_of_the_real_weights():
    layer = nn.Linear(64, 32)
    nn.init.normal_(layer.weight, 0.5, 2.0)
    nn.init.zeros_(layer.bias)
    weight, bias = trace(layer, Inputs(torch.randn(2, 64))).graph.parameters
    real = layer.weight.detach().double()
    assert weight.mean == pytest.approx(real.mean().item())
    assert weight.std == pytest.approx(real.std(correction=0).item())
    assert weight.rms == pytest.approx(real.square().mean().sqrt().item())
    units = F.normalize(real, dim=1)
    assert weight.row_similarity == pytest.approx(((units @ units.T).sum().item() - 32) / (32 * 31))
    assert (bias.mean, bias.std, bias.row_similarity) == (0.0, 0.0, None)
    nn.init.constant_(layer.weight, 0.1)
    assert trace(layer, Inputs(torch.randn(2, 64))).graph.parameters[0].row_similarity == pytest.approx(1.0)


def test_gates_in_one_bias_and_diagonals_are_told_apart():
    cell = nn.LSTMCell(8, 32)
    nn.init.zeros_(cell.bias_ih)
    with torch.no_grad():
        cell.bias_ih[32:64] = 2.0
        cell.weight_hh[96:] = torch.eye(32)
    _, hidden, given, plain = trace(cell, Inputs(torch.randn(2, 8))).graph.parameters
    assert given.parts[-1] == ((0.0, 0.0), (2.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    assert plain.parts == ()
    assert hidden.diagonals == pytest.approx([0, 0, 0, 1], abs=0.1)
    assert trace(nn.Linear(32, 32), Inputs(torch.randn(2, 32))).graph.parameters[0].diagonals == ()


def test_lazy_modules_are_materialised():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: lazy modules are under development
        graph = trace(model, Inputs(torch.randn(2, 3, 8, 8))).graph
    assert graph.ops[-1].shape == (2, 3)
    assert model.training
    assert int(model[1].num_batches_tracked) == 0


def test_repeated_calls_of_a_module_are_numbered():
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    graph = trace(Functional(lambda net, x: net.block(net.block(x)), block=block), Inputs(X)).graph
    assert [(op.scope, op.calls) for op in graph if op.name == "tanh"] == [
        (("", "block", "block.1"), (0, 0, 0)),
        (("", "block", "block.1"), (0, 1, 1)),
    ]
    assert graph.ops[-1].types == ("Functional", "Sequential", "Tanh")


# ---- the listener


def test_listener_hears_every_op_with_autograd():
    heard = []
    model, inputs = MODELS["gru"]()

    def listen(index, name, module, tensors, output):
        heard.append((index, name, module, tuple(output.shape), output.requires_grad))

    graph = trace(model, inputs, fake=False, listener=listen).graph
    ops = [op for op in graph if op.name not in ("input", "parameter", "constant")]
    assert [entry[:4] for entry in heard] == [(op.index, op.name, op.site.module, op.shape) for op in ops]
    assert [entry[4] for entry in heard if entry[1] == "getitem"] == [True, True]


# ---- nothing is left behind
