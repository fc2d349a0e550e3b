"""Every spelling of an operation gets one canonical name and the same arguments."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stablelint.inputs import Inputs
from stablelint.trace import trace


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def ops(function, *args):
    if not args:
        args = (torch.randn(4, 4),)
    graph = trace(Function(function), Inputs(*args)).graph
    return [op for op in graph if op.name not in ("input", "parameter", "constant")]


def last(function, *args):
    return ops(function, *args)[-1]


SPELLINGS = {
    "softmax": [
        lambda x: x.softmax(-1),
        lambda x: torch.softmax(x, dim=1),
        lambda x: F.softmax(x, -1),
        lambda x: F.softmax(x, dim=1),
        nn.Softmax(-1),
    ],
    "relu": [torch.relu, F.relu, lambda x: x.relu(), lambda x: x.clone().relu_(), nn.ReLU(), torch.ops.aten.relu],
    "sigmoid": [torch.sigmoid, F.sigmoid, lambda x: x.sigmoid(), nn.Sigmoid(), torch.special.expit],
    "tanh": [torch.tanh, lambda x: x.tanh(), nn.Tanh(), F.tanh],
    "gelu": [F.gelu, nn.GELU()],
    "silu": [F.silu, nn.SiLU()],
    "leaky_relu": [F.leaky_relu, nn.LeakyReLU(), lambda x: F.leaky_relu_(x.clone())],
    "hardtanh": [F.hardtanh, nn.Hardtanh()],
    "rand": [lambda x: torch.rand(x.shape)],
    "bitwise_and": [lambda x: x.int() & x.int(), lambda x: x.int().__rand__(x.int())],
    "threshold": [lambda x: F.threshold(x, 0.1, 0.0), nn.Threshold(0.1, 0.0)],
    "logsigmoid": [F.logsigmoid, nn.LogSigmoid()],
    "matmul": [
        lambda x: x @ x,
        lambda x: torch.matmul(x, x),
        lambda x: x.mm(x),
        lambda x: torch.bmm(x[None], x[None]),
        lambda x: torch.addmm(x, x, x),
        lambda x: torch.linalg.matmul(x, x),
    ],
    "add": [lambda x: x + x, lambda x: torch.add(x, x), lambda x: x.clone().add_(x)],
    "sub": [lambda x: x - x, lambda x: x.sub(x), lambda x: torch.subtract(x, x), lambda x: torch.rsub(x, x)],
    "div": [lambda x: x / x, lambda x: torch.true_divide(x, x), lambda x: x.div(x), lambda x: x.clone().div_(x)],
    "mul": [lambda x: x * x, lambda x: torch.multiply(x, x), lambda x: x.mul(x)],
    "pow": [lambda x: x**2, lambda x: torch.pow(x, 2), lambda x: x.pow(2)],
    "neg": [lambda x: -x, torch.negative, lambda x: x.neg()],
    "abs": [abs, torch.absolute, lambda x: x.abs()],
    "clamp": [lambda x: x.clamp(min=0), lambda x: torch.clip(x, 0), lambda x: x.clamp_min(0)],
    "reshape": [lambda x: x.view(2, 8), lambda x: x.reshape((2, 8)), lambda x: torch.reshape(x, (2, 8))],
    "transpose": [
        lambda x: x.T,
        lambda x: x.mT,
        lambda x: x.t(),
        lambda x: x.transpose(-1, -2),
        lambda x: torch.swapaxes(x, 0, 1),
    ],
    "expand": [lambda x: x[:1].expand(4, 4), lambda x: torch.broadcast_to(x[:1], (4, 4))],
    "cat": [lambda x: torch.cat([x, x]), lambda x: torch.concat([x, x])],
    "to": [lambda x: x.double(), lambda x: x.to(torch.float64), lambda x: x.type(torch.float64)],
    "dropout": [F.dropout, nn.Dropout(), lambda x: F.dropout(x.clone(), inplace=True), torch.nn.AlphaDropout()],
    "detach": [lambda x: x.detach(), lambda x: x.data],
    "mse_loss": [lambda x: F.mse_loss(x, x), lambda x: nn.MSELoss()(x, x)],
    "bce_with_logits": [lambda x: F.binary_cross_entropy_with_logits(x, x), lambda x: nn.BCEWithLogitsLoss()(x, x)],
    "avg_pool": [lambda x: F.avg_pool1d(x, 2), nn.AdaptiveAvgPool1d(2)],
    "max_pool": [lambda x: F.max_pool1d(x, 2), nn.AdaptiveMaxPool1d(2), nn.MaxPool1d(2)],
    "maximum": [lambda x: torch.max(x, x), lambda x: torch.maximum(x, x)],
    "layer_norm": [lambda x: F.layer_norm(x, (4,)), nn.LayerNorm(4)],
    "batch_norm": [nn.BatchNorm1d(4), lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True)],
    "rms_norm": [nn.RMSNorm(4), lambda x: F.rms_norm(x, (4,))],
    "linear": [nn.Linear(4, 4), lambda x: F.linear(x, x)],
}


@pytest.mark.parametrize(("name", "function"), [(name, f) for name, found in SPELLINGS.items() for f in found])
def test_spelling(name, function):
    assert last(function).name == name


@pytest.mark.parametrize("function", SPELLINGS["softmax"])
def test_softmax_dim_counts_from_the_front(function):
    assert last(function).attrs["dim"] == 1


def test_scalar_operand_is_an_attribute():
    """A Python scalar is no operand; on the left of a non-commutative op it is marked."""
    for function, reversed_ in [(lambda x: x - 2, None), (lambda x: 2 - x, True), (lambda x: 2 / x, True)]:
        op = last(function)
        assert len(op.inputs) == 1
        assert op.attrs["other"] == 2
        assert op.attrs.get("reversed") is reversed_
    assert "reversed" not in last(lambda x: 2 * x).attrs
    assert last(lambda x: torch.add(x, x, alpha=3)).attrs["alpha"] == 3


def test_reversed_tensors_come_in_the_order_of_the_formula():
    """``torch.rsub(a, b)`` is ``b - a``."""
    graph = trace(Function(lambda a, b: torch.rsub(a, b)), Inputs(torch.randn(2), torch.randn(2))).graph
    assert [graph.ops[i].attrs["name"] for i in graph.ops[-1].inputs] == ["1", "0"]


def test_addmm_is_a_matmul_with_bias():
    bias, a, b = torch.randn(3), torch.randn(2, 4), torch.randn(4, 3)
    graph = trace(Function(lambda *args: torch.addmm(*args, alpha=2)), Inputs(bias, a, b)).graph
    op = graph.ops[-1]
    assert [graph.ops[i].shape for i in op.inputs] == [(2, 4), (4, 3), (3,)]
    assert op.attrs["bias"] is True
    assert op.attrs["alpha"] == 2


def test_attention_arguments():
    q = torch.randn(2, 2, 5, 8)
    op = last(lambda q: F.scaled_dot_product_attention(q, q, q), q)
    assert {key: op.attrs[key] for key in ("scale", "is_causal", "dropout_p")} == {
        "scale": None,
        "is_causal": False,
        "dropout_p": 0.0,
    }
    op = last(lambda q: F.scaled_dot_product_attention(q, q, q, scale=1.0, is_causal=True), q)
    assert op.attrs["scale"] == 1.0
    assert op.attrs["is_causal"] is True
    assert op.attrs["operands"] == {"query": 0, "key": 1, "value": 2}


@pytest.mark.parametrize(
    ("function", "operands"),
    [
        (lambda x, w: F.linear(x, w), {"input": 0, "weight": 1}),
        (lambda x, w: F.linear(x, w, w[0]), {"input": 0, "weight": 1, "bias": 2}),
        (lambda x, w: F.layer_norm(x, (4,), bias=w[0]), {"input": 0, "bias": 1}),
        (lambda x, w: F.prelu(x, w[0]), {"input": 0, "weight": 1}),
        (lambda x, w: F.conv1d(x, w[None]), {"input": 0, "weight": 1}),
        (lambda x, w: F.embedding(x.long().abs(), w), {"input": 0, "weight": 1}),
        (lambda x, w: torch.embedding(w, x.long().abs()), {"input": 0, "weight": 1}),
    ],
)
def test_operand_positions(function, operands):
    assert last(function, torch.zeros(4, 4), torch.randn(4, 4)).attrs["operands"] == operands


def test_builtin_batch_norm_has_the_operands_of_the_functional():
    def builtin(x, w, m, v):
        return torch.batch_norm(x, w, None, m, v, False, 0.1, 1e-5, False)

    args = (torch.randn(2, 4), torch.ones(4), torch.zeros(4), torch.ones(4))
    op = last(builtin, *args)
    assert op.attrs["operands"] == {"input": 0, "running_mean": 1, "running_var": 2, "weight": 3}
    assert op.attrs["training"] is False
    assert math.isclose(op.attrs["eps"], 1e-5)


def test_einsum_equation_and_operands():
    op = last(lambda x: torch.einsum("ij,kj->ik", x, x))
    assert op.name == "einsum"
    assert op.attrs["equation"] == "ij,kj->ik"
    assert len(op.inputs) == 2


def test_mask_and_where():
    mask = torch.eye(4, dtype=torch.bool)
    assert last(lambda x: x.masked_fill(mask, -math.inf)).attrs["value"] == -math.inf
    op = last(lambda x: torch.where(mask, x, 0.0))
    assert (op.name, op.attrs["other"], len(op.inputs)) == ("where", 0.0, 2)


def test_indices_of_slices_and_of_results():
    assert last(lambda x: x[:, 1]).attrs["index"] == (slice(None), 1)
    assert [op.attrs["item"] for op in ops(lambda x: x.max(dim=-1)[0])[1:]] == [0, 1]
    assert [op.name for op in ops(lambda x: torch.stack(list(x)))] == ["unbind", *["getitem"] * 4, "stack"]


def test_arguments_left_out_have_their_defaults():
    assert last(lambda x: F.layer_norm(x, (4,))).attrs["eps"] == 1e-5
    assert last(F.dropout).attrs["p"] == 0.5
    assert last(lambda x: torch.cat([x, x])).attrs["dim"] == 0


def test_queries_are_not_recorded():
    assert [op.name for op in ops(lambda x: x.view(x.shape[0] * x.size(1)) if x.dim() == 2 else x)] == ["reshape"]


def test_unknown_functions_keep_their_name():
    assert last(lambda x: torch.erfinv(x)).name == "erfinv"
    assert last(lambda x: F.pixel_shuffle(x.view(1, 4, 2, 2), 2)).name == "pixel_shuffle"


@pytest.mark.parametrize(("rnn", "name"), [(nn.LSTM, "lstm"), (nn.GRU, "gru"), (nn.RNN, "rnn")])
def test_recurrent_layers_are_one_op(rnn, name):
    layer = rnn(4, 3, 2, batch_first=True)
    graph = trace(layer, Inputs(torch.randn(2, 5, 4))).graph
    (op,) = (op for op in graph if op.name == name)
    weights = [graph.ops[op.inputs[i]].parameter.name for i in op.attrs["operands"]["weights"]]
    assert weights == [name for name, _ in layer.named_parameters()]
    assert op.attrs["num_layers"] == 2
    assert [user.attrs["item"] for user in graph.users(op)] == ([0, 1, 2] if name == "lstm" else [0, 1])


def test_attention_is_visible_inside_multihead_attention():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    names = [op.name for op in trace(attention, Inputs(x, x, x)).graph]
    assert {"linear", "matmul", "softmax"} <= set(names)
    names = [op.name for op in trace(attention, Inputs(x, x, x, need_weights=False)).graph]
    assert "scaled_dot_product_attention" in names
