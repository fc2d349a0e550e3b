"""One cause, many spellings: modules, functions, methods, operators, containers and loops are the same to a rule."""

from __future__ import annotations

import pytest
from rule_pages import check_source, loud

HEADER = """
import math
import torch
from torch import nn
from torch.nn import functional as F


def build():
    return Net()

"""


def check(code: str, source: str) -> None:
    """The only finding above a note is the rule's, at the line marked ``# finding``."""
    lines = source.splitlines()
    (marked,) = (number for number, line in enumerate(lines, 1) if line.endswith("# finding"))
    found = check_source(source, code, probe=False)
    assert [(f.code, f.site.line) for f in found.findings if f.level > 0] == [(code, marked)], loud(found)


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.strip().splitlines())


SIGMOIDS = {
    "function": "x = torch.sigmoid(layer(x))  # finding",
    "functional": "x = F.sigmoid(layer(x))  # finding",
    "special": "x = torch.special.expit(layer(x))  # finding",
    "method": "x = layer(x).sigmoid()  # finding",
    "in place": "x = layer(x).sigmoid_()  # finding",
    "new module": "x = nn.Sigmoid()(layer(x))  # finding",
    "hardsigmoid": "x = F.hardsigmoid(layer(x))  # finding",
    "softmax": "x = layer(x).softmax(-1)  # finding",
    "operator": "x = torch.sigmoid(x @ layer.weight.T + layer.bias)  # finding",
    "addmm": "x = torch.addmm(layer.bias, x, layer.weight.T).sigmoid()  # finding",
    "dropout between": "x = F.dropout(torch.sigmoid(layer(x)), 0.1)  # finding",
    "own line": "x = layer(x)\nx = torch.sigmoid(x)  # finding",
}


@pytest.mark.parametrize("step", SIGMOIDS.values(), ids=SIGMOIDS)
def test_sigmoids_in_a_loop(step: str) -> None:
    check(
        "SL101",
        f"""{HEADER}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(10))

    def forward(self, x):
        for layer in self.layers:
{indented(step, 12)}
        return x


def example_inputs():
    return torch.randn(16, 32)
""",
    )


CONTAINERS = {
    "sequential": """
self.body = nn.Sequential(
    *(nn.Sequential(nn.Linear(32, 32), nn.Sigmoid()) for _ in range(10))  # finding
)""",
    "list of modules": """
layers = []
for _ in range(10):
    layers.append(nn.Linear(32, 32))
    layers.append(nn.Sigmoid())  # finding
self.body = nn.Sequential(*layers)""",
    "shared module": """
act = nn.Sigmoid()  # finding
self.body = nn.Sequential(*(module for _ in range(10) for module in (nn.Linear(32, 32), act)))""",
    "convolutions": """
self.body = nn.Sequential(
    nn.Unflatten(1, (2, 16)),
    *(module for _ in range(10) for module in (nn.Conv1d(2, 2, 3, padding=1), nn.Sigmoid())),  # finding
)""",
}


@pytest.mark.parametrize("body", CONTAINERS.values(), ids=CONTAINERS)
def test_sigmoids_in_containers(body: str) -> None:
    check(
        "SL101",
        f"""{HEADER}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
{indented(body, 8)}

    def forward(self, x):
        return self.body(x)


def example_inputs():
    return torch.randn(16, 32)
""",
    )


SKIPS = {
    "module": "return self.norm(x) + self.f(x)  # finding",
    "other order": "return self.f(x) + self.norm(x)  # finding",
    "function": "return F.layer_norm(x, (32,)) + self.f(x)  # finding",
    "batch norm": "return self.batch(x) + self.f(x)  # finding",
    "own line": "skip = self.norm(x)  # finding\nreturn skip + self.f(x)",
    "torch.add": "return torch.add(self.f(x), self.norm(x))  # finding",
    "in place": "y = self.f(x)\ny += self.norm(x)  # finding\nreturn y",
    "method": "return self.f(x).add_(self.norm(x))  # finding",
    "by hand": "return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) + self.f(x)  # finding",
    "by hand with mean": (
        "centred = x - x.mean(-1, keepdim=True)\n"
        "skip = centred / (centred.std(-1, keepdim=True) + 1e-6)  # finding\n"
        "return skip + self.f(x)"
    ),
    "scaled branch": "return self.norm(x) + 1.0 * self.f(x)  # finding",
    "nested function": "def norm(v):\n    return self.norm(v)  # finding\nreturn norm(x) + self.f(x)",
}


@pytest.mark.parametrize("step", SKIPS.values(), ids=SKIPS)
def test_norms_on_the_skip_path(step: str) -> None:
    check(
        "SL201",
        f"""{HEADER}
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.batch = nn.LayerNorm(32), nn.BatchNorm1d(32)
        self.expand, self.reduce = nn.Linear(32, 32), nn.Linear(32, 32)
        nn.init.normal_(self.reduce.weight, std=1.0)

    def f(self, x):
        return self.reduce(torch.sigmoid(self.expand(x)))

    def forward(self, x):
{indented(step, 8)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(8))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def example_inputs():
    return torch.randn(16, 32)
""",
    )


JOINS = {
    "function": "return torch.relu(x + self.f(x))  # finding",
    "functional": "return F.relu(self.f(x) + x)  # finding",
    "functional in place": "return F.relu(self.f(x) + x, inplace=True)  # finding",
    "method": "return (x + self.f(x)).relu()  # finding",
    "method in place": "return (x + self.f(x)).relu_()  # finding",
    "module": "return self.act(x + self.f(x))  # finding",
    "torch.add": "return torch.relu(torch.add(x, self.f(x)))  # finding",
    "in place": "y = self.f(x)\ny += x\nreturn self.act(y)  # finding",
    "scaled": "return torch.relu(x + 1.0 * self.f(x))  # finding",
    "leaky": "return F.leaky_relu(x + self.f(x))  # finding",
    "gelu": "return F.gelu(x + self.f(x))  # finding",
}


@pytest.mark.parametrize("step", JOINS.values(), ids=JOINS)
def test_activations_after_the_addition(step: str) -> None:
    check(
        "SL202",
        f"""{HEADER}
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand, self.reduce, self.act = nn.Linear(32, 32), nn.Linear(32, 32), nn.ReLU()
        for layer in (self.expand, self.reduce):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def f(self, x):
        return self.reduce(torch.relu(self.expand(x)))

    def forward(self, x):
{indented(step, 8)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(12)))

    def forward(self, x):
        return self.blocks(x)


def example_inputs():
    return torch.randn(16, 32)
""",
    )


SCORES = {
    "operator and method": "return (q @ k.mT).softmax(-1) @ v  # finding",
    "matmul": "return torch.matmul(F.softmax(torch.matmul(q, k.transpose(-2, -1)), dim=-1), v)  # finding",
    "module": "return self.softmax(q @ k.mT) @ v  # finding",
    "own line": "scores = q @ k.mT  # finding\nweights = torch.softmax(scores, -1)\nreturn weights @ v",
    "einsum": 'scores = torch.einsum("bhqd,bhkd->bhqk", q, k)  # finding\n'
    'return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)',
    "bmm": "q, k, v = (y.flatten(0, 1) for y in (q, k, v))\n"
    "scores = torch.bmm(q, k.mT)  # finding\nreturn torch.bmm(scores.softmax(-1), v).unflatten(0, (4, 2))",
    "baddbmm": "q, k, v = (y.flatten(0, 1) for y in (q, k, v))\n"
    "scores = torch.baddbmm(torch.zeros(8, 12, 12), q, k.mT)  # finding\n"
    "return torch.bmm(scores.softmax(-1), v).unflatten(0, (4, 2))",
    "fused": "return F.scaled_dot_product_attention(q, k, v, scale=1.0)  # finding",
    "mask": "scores = q @ k.mT  # finding\n"
    "future = torch.ones(12, 12, dtype=torch.bool).triu(1)\n"
    'return scores.masked_fill(future, float("-inf")).softmax(-1) @ v',
    "additive mask": "scores = q @ k.mT + torch.zeros(12, 12)  # finding\nreturn scores.softmax(-1) @ v",
    "dropout": "weights = F.dropout((q @ k.mT).softmax(-1), 0.1)  # finding\nreturn weights @ v",
    "upcast": "weights = (q @ k.mT).float().softmax(-1).to(v.dtype)  # finding\nreturn weights @ v",
    "inverted scale": "return (q @ k.mT * math.sqrt(4)).softmax(-1) @ v  # finding",
    "shifted": "scores = q @ k.mT  # finding\n"
    "scores = scores - scores.amax(-1, keepdim=True)\nreturn scores.softmax(-1) @ v",
    "by hand": "weights = torch.exp(q @ k.mT)  # finding\nreturn weights / weights.sum(-1, keepdim=True) @ v",
    "keys first": "return (v.mT @ (k @ q.mT).softmax(-2)).mT  # finding",
}


@pytest.mark.parametrize("step", SCORES.values(), ids=SCORES)
def test_attention_without_a_scale(step: str) -> None:
    check(
        "SL401",
        f"""{HEADER}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(128, 128, bias=False) for _ in range(3))
        self.softmax = nn.Softmax(dim=-1)
        for layer in (self.q, self.k):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(128))

    def attend(self, q, k, v):
{indented(step, 8)}

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (2, 64)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return x + self.attend(q, k, v).transpose(1, 2).flatten(2)


def example_inputs():
    return torch.randn(4, 12, 128)
""",
    )


INITS = {
    "init function": "for layer in layers:\n    nn.init.normal_(layer.weight)  # finding",
    "method of data": "for layer in layers:\n    layer.weight.data.normal_()  # finding",
    "no_grad": "with torch.no_grad():\n    for layer in layers:\n        layer.weight.normal_()  # finding",
    "copy": "with torch.no_grad():\n    for layer in layers:\n"
    "        layer.weight.copy_(torch.randn(32, 32))  # finding",
    "data": "for layer in layers:\n    layer.weight.data = torch.randn(32, 32)  # finding",
    "new parameter": "for layer in layers:\n    layer.weight = nn.Parameter(torch.randn(32, 32))  # finding",
    "multiplied": "with torch.no_grad():\n    for layer in layers:\n        layer.weight.mul_(10)  # finding",
    "xavier gain": "for layer in layers:\n    nn.init.xavier_uniform_(layer.weight, gain=6)  # finding",
    "uniform": "for layer in layers:\n    nn.init.uniform_(layer.weight, -2, 2)  # finding",
    "all parameters": "for layer in layers:\n    for p in layer.parameters():\n        nn.init.normal_(p)  # finding",
    "weight norm": "for layer in layers:\n    nn.init.normal_(layer.weight)  # finding\n"
    "    nn.utils.parametrizations.weight_norm(layer)",
    "apply": "def init(module):\n    if isinstance(module, nn.Linear):\n"
    "        nn.init.normal_(module.weight)  # finding\nself.layers.apply(init)",
}


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_weights_of_standard_deviation_one(init: str) -> None:
    check(
        "SL501",
        f"""{HEADER}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(10))
{indented(init, 8)}

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def example_inputs():
    return torch.randn(16, 32)
""",
    )


USES = {
    "operator": "x = torch.relu(x @ weight)",
    "function": "x = F.relu(torch.matmul(x, weight))",
    "mm": "x = x.mm(weight).relu()",
    "linear": "x = F.relu(F.linear(x, weight.T))",
    "addmm": "x = torch.addmm(torch.zeros(32), x, weight).relu_()",
    "einsum": 'x = torch.einsum("bi,io->bo", x, weight).relu()',
    "transposed": "x = torch.relu((weight @ x.T).T)",
    "gelu": "x = F.gelu(x @ weight)",
    "leaky": "x = F.leaky_relu(x @ weight, 0.2)",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_weights_are_parameters_of_any_use(use: str) -> None:
    check(
        "SL501",
        f"""{HEADER}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(32, 32) for _ in range(10))  # finding

    def forward(self, x):
        for weight in self.weights:
            {use}
        return x


def example_inputs():
    return torch.randn(16, 32)
""",
    )
