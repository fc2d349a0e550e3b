"""The defects that a first user would try, each in four styles: the right cause, at the right line, as an error."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from stablelint.api import check_model
from stablelint.config import Config
from stablelint.finding import Level, TargetReport
from stablelint.targets.build import candidates
from stablelint.targets.spec import Request

HEADER = "import math\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def check(source: str, tmp_path: Path, *, probe: bool) -> tuple[TargetReport, int]:
    """The report on a file and the line that its ``# finding`` comment marks."""
    text = HEADER + textwrap.dedent(source)
    path = tmp_path / "model.py"
    path.write_text(text, encoding="utf-8")
    torch.set_num_threads(1)
    built = candidates(Request(f"{path}:build"))[0].build()
    report = check_model(
        built.model,
        built.inputs,
        config=Config(seeds=1),
        name="model.py",
        probe=probe,
        rebuild=built.rebuild,
        origins=built.origins,
    )
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "# finding" in line]
    return report, marked[0]


def assert_found(source: str, tmp_path: Path, name: str, least: Level = Level.ERROR) -> None:
    report, line = check(source, tmp_path, probe=True)
    found = [(finding.name, finding.site.line) for finding in report.findings if finding.level >= least]
    assert (name, line) in found, report.findings
    static, _ = check(source, tmp_path, probe=False)
    assert (name, line) in [(finding.name, finding.site.line) for finding in static.findings], static.findings


SIGMOID_CHAIN = {
    "sequential": """
        def build():
            layers = []
            for _ in range(20):
                layers += [nn.Linear(64, 64), nn.Sigmoid()]  # finding
            return nn.Sequential(*layers, nn.Linear(64, 10))
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "functional": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fcs = nn.ModuleList([nn.Linear(64, 64) for _ in range(20)])
                self.head = nn.Linear(64, 10)
            def forward(self, x):
                for fc in self.fcs:
                    x = torch.sigmoid(fc(x))  # finding
                return self.head(x)
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "method": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fcs = nn.ModuleList(nn.Linear(64, 64) for _ in range(20))
            def forward(self, x):
                for fc in self.fcs:
                    x = fc(x).sigmoid()  # finding
                return x.sum(-1, keepdim=True)
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "module attribute": """
        class Layer(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.fc, self.act = nn.Linear(d, d), nn.Sigmoid()
            def forward(self, x):
                return self.act(self.fc(x))  # finding
        def build():
            return nn.Sequential(*[Layer(64) for _ in range(20)], nn.Linear(64, 10))
        def example_inputs():
            return torch.randn(16, 64)
        """,
}

DEFAULT_RELU = {
    "sequential": """
        def build():
            layers = []
            for _ in range(30):
                layers += [nn.Linear(64, 64), nn.ReLU()]  # finding
            return nn.Sequential(*layers, nn.Linear(64, 10))
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "functional": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fcs = nn.ModuleList([nn.Linear(64, 64) for _ in range(30)])  # finding
                self.head = nn.Linear(64, 10)
            def forward(self, x):
                for fc in self.fcs:
                    x = F.relu(fc(x))
                return self.head(x)
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "method in place": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fcs = nn.ModuleList([nn.Linear(64, 64) for _ in range(30)])  # finding
                self.head = nn.Linear(64, 10)
            def forward(self, x):
                for fc in self.fcs:
                    x = fc(x).relu_()
                return self.head(x)
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "nested modules": """
        class Layer(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.fc = nn.Linear(d, d)  # finding
                self.act = nn.ReLU(inplace=True)
            def forward(self, x):
                return self.act(self.fc(x))
        def build():
            return nn.Sequential(*[Layer(64) for _ in range(30)], nn.Linear(64, 10))
        def example_inputs():
            return torch.randn(16, 64)
        """,
}

UNSCALED = {
    "operator": """
        class Attention(nn.Module):
            def __init__(self, d=256, heads=4):
                super().__init__()
                self.heads = heads
                self.norm = nn.LayerNorm(d)
                self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
                nn.init.normal_(self.qkv.weight, std=d ** -0.5)
            def forward(self, x):
                q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
                scores = q @ k.transpose(-2, -1)  # finding
                return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        def build():
            return nn.Sequential(Attention(), Attention(), nn.Linear(256, 10))
        def example_inputs():
            return torch.randn(4, 16, 256)
        """,
    "einsum": """
        class Attention(nn.Module):
            def __init__(self, d=256, heads=4):
                super().__init__()
                self.heads = heads
                self.norm = nn.LayerNorm(d)
                self.q, self.k, self.v, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
                for m in (self.q, self.k):
                    nn.init.normal_(m.weight, std=d ** -0.5)
            def forward(self, x):
                h = self.norm(x)
                q, k, v = (m(h).view(*x.shape[:2], self.heads, -1) for m in (self.q, self.k, self.v))
                a = torch.einsum("bihd,bjhd->bhij", q, k)  # finding
                a = torch.softmax(a, dim=-1)
                return x + self.out(torch.einsum("bhij,bjhd->bihd", a, v).reshape(x.shape))
        def build():
            return nn.Sequential(Attention(), Attention(), nn.Linear(256, 10))
        def example_inputs():
            return torch.randn(4, 16, 256)
        """,
    "fused": """
        class Attention(nn.Module):
            def __init__(self, d=256, heads=4):
                super().__init__()
                self.heads = heads
                self.norm = nn.LayerNorm(d)
                self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))
                for m in (self.q, self.k):
                    nn.init.normal_(m.weight, std=d ** -0.5)
            def forward(self, x):
                h = self.norm(x)
                q, k, v = (m(h).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
                y = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # finding
                return x + self.out(y.transpose(1, 2).reshape(x.shape))
        def build():
            return nn.Sequential(Attention(), Attention(), nn.Linear(256, 10))
        def example_inputs():
            return torch.randn(4, 16, 256)
        """,
    "bmm": """
        class Attention(nn.Module):
            def __init__(self, d=64):
                super().__init__()
                self.norm = nn.LayerNorm(d)
                self.q, self.k, self.v = (nn.Linear(d, d) for _ in range(3))
                for m in (self.q, self.k):
                    nn.init.normal_(m.weight, std=d ** -0.5)
                self.softmax = nn.Softmax(dim=2)
            def forward(self, x):
                h = self.norm(x)
                energy = torch.bmm(self.q(h), self.k(h).permute(0, 2, 1))  # finding
                return x + torch.bmm(self.softmax(energy), self.v(h))
        def build():
            return nn.Sequential(Attention(), Attention(), nn.Linear(64, 10))
        def example_inputs():
            return torch.randn(4, 16, 64)
        """,
}

NORMAL_INIT = {
    "apply": """
        def init(m):
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight)  # finding
        def build():
            net = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(8)], nn.Linear(64, 10))
            return net.apply(init)
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "data": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fcs = nn.ModuleList([nn.Linear(64, 64) for _ in range(8)])
                for fc in self.fcs:
                    fc.weight.data.normal_(0, 1)  # finding
            def forward(self, x):
                for fc in self.fcs:
                    x = torch.relu(fc(x))
                return x
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "randn parameter": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.ws = nn.ParameterList([nn.Parameter(torch.randn(64, 64)) for _ in range(8)])  # finding
            def forward(self, x):
                for w in self.ws:
                    x = (x @ w).relu()
                return x
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "conv": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.convs = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)])
                for p in self.parameters():
                    if p.dim() > 1:
                        nn.init.normal_(p, 0.0, 1.0)  # finding
            def forward(self, x):
                for conv in self.convs:
                    x = F.relu(conv(x))
                return x.mean((2, 3))
        def build():
            return Net()
        def example_inputs():
            return torch.randn(4, 16, 16, 16)
        """,
}

POST_ACTIVATION = {
    "functional": """
        class Block(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
                for m in (self.a, self.b):
                    nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            def forward(self, x):
                return F.relu(x + self.b(F.relu(self.a(x))))  # finding
        def build():
            return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *[Block(8) for _ in range(50)])
        def example_inputs():
            return torch.randn(4, 3, 8, 8)
        """,
    "in place": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)
                self.relu = nn.ReLU(inplace=True)
                for m in (self.a, self.b):
                    nn.init.kaiming_normal_(m.weight)
            def forward(self, x):
                out = self.b(self.relu(self.a(x)))
                out += x
                return self.relu(out)  # finding
        def build():
            return nn.Sequential(nn.Linear(8, 32), *[Block(32) for _ in range(50)], nn.Linear(32, 2))
        def example_inputs():
            return torch.randn(16, 8)
        """,
}

NORM_ON_SKIP = {
    "functional": """
        class Block(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
                self.bn, self.skip_bn = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
            def forward(self, x):
                return self.skip_bn(x) + self.b(F.relu(self.bn(self.a(x))))  # finding
        def build():
            return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *[Block(16) for _ in range(20)])
        def example_inputs():
            return torch.randn(8, 3, 16, 16)
        """,
    "separate lines": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.f = nn.Sequential(nn.Linear(d, d), nn.BatchNorm1d(d), nn.ReLU(), nn.Linear(d, d))
                self.skip_norm = nn.BatchNorm1d(d)
            def forward(self, x):
                out = self.f(x)
                identity = self.skip_norm(x)  # finding
                out = out + identity
                return out
        def build():
            return nn.Sequential(nn.Linear(8, 32), *[Block(32) for _ in range(20)], nn.Linear(32, 2))
        def example_inputs():
            return torch.randn(16, 8)
        """,
}


def styles(sources: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", sources.values(), ids=sources.keys())


@styles(SIGMOID_CHAIN)
def test_twenty_sigmoid_layers(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "deep-sigmoid-chain")


@styles(DEFAULT_RELU)
def test_thirty_default_initialised_relu_layers(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "bad-init-scale")


@styles(UNSCALED)
def test_attention_of_head_size_64_without_scale(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "unscaled-attention", Level.WARNING)


@styles(NORMAL_INIT)
def test_layers_drawn_from_a_standard_normal(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "bad-init-scale")


@styles(POST_ACTIVATION)
def test_fifty_post_activation_blocks_without_norm(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "post-activation-residual")


@styles(NORM_ON_SKIP)
def test_batch_norm_on_the_skip_of_twenty_blocks_is_named_though_it_does_no_harm_there(
    source: str, tmp_path: Path
) -> None:
    assert_found(source, tmp_path, "norm-on-skip", Level.WARNING)
    report, _ = check(source, tmp_path, probe=True)
    assert report.count(Level.ERROR) == 0


DEAD = {
    "sequential": "nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))",
    "leading": "nn.Sequential(nn.Identity(), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))",
}


@styles(DEAD)
def test_dead_relu(source: str, tmp_path: Path) -> None:
    text = f"""
        def build():
            net = {source}  # finding
            nn.init.constant_(net[2].bias, -10.0)
            return net
        def example_inputs():
            return torch.randn(16, 64)
        """
    report, line = check(text, tmp_path, probe=True)
    assert [(finding.name, finding.site.line) for finding in report.findings if finding.level is Level.ERROR] == [
        ("dead-units", line)
    ]
