"""One cause, many spellings: attention and initial weights."""

from __future__ import annotations

import pytest
from spelling import check_spelling, indented

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
    "scaled too late": "scores = q @ k.mT  # finding\nreturn scores.softmax(-1) / math.sqrt(64) @ v",
    "keys first": "return (v.mT @ (k @ q.mT).softmax(-2)).mT  # finding",
}


@pytest.mark.parametrize("step", SCORES.values(), ids=SCORES)
def test_attention_without_a_scale(step: str) -> None:
    check_spelling(
        "SL401",
        f"""
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
    "apply": "def init(module):\n    if isinstance(module, nn.Linear):\n"
    "        nn.init.normal_(module.weight)  # finding\nself.layers.apply(init)",
}


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_weights_of_standard_deviation_one(init: str) -> None:
    check_spelling(
        "SL501",
        f"""
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
    check_spelling(
        "SL501",
        f"""
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
