"""One cause, many spellings: modules, functions, methods, operators, containers and loops are the same to a rule."""

from __future__ import annotations

import pytest
from spelling import check_spelling, indented

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
    check_spelling(
        "SL101",
        f"""
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
    check_spelling(
        "SL101",
        f"""
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
    check_spelling(
        "SL201",
        f"""
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
    check_spelling(
        "SL202",
        f"""
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
