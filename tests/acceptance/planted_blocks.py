"""Attention and residual blocks with a planted defect, in four styles; ``# finding`` marks the line to report."""

from __future__ import annotations

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
                qkv = self.qkv(self.norm(x)).chunk(3, -1)
                q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv)
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
    "method": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.f = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
            def forward(self, x):
                return (self.f(x) + x).relu()  # finding
        def build():
            net = nn.Sequential(nn.Linear(8, 32), *[Block(32) for _ in range(50)], nn.Linear(32, 2))
            for m in net.modules():
                if isinstance(m, nn.Linear):
                    nn.init.kaiming_normal_(m.weight)
            return net
        def example_inputs():
            return torch.randn(16, 8)
        """,
    "loop in one module": """
        class Net(nn.Module):
            def __init__(self, d=32):
                super().__init__()
                self.a = nn.ModuleList(nn.Linear(d, d) for _ in range(50))
                self.b = nn.ModuleList(nn.Linear(d, d) for _ in range(50))
                for m in [*self.a, *self.b]:
                    nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
            def forward(self, x):
                for a, b in zip(self.a, self.b):
                    x = torch.relu(torch.add(x, b(a(x).relu())))  # finding
                return x
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 32)
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
    "method": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.norm, self.skip = nn.LayerNorm(d), nn.LayerNorm(d)
                self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
            def forward(self, x):
                return self.mlp(self.norm(x)).add(self.skip(x))  # finding
        def build():
            return nn.Sequential(nn.Linear(8, 32), *[Block(32) for _ in range(20)], nn.Linear(32, 2))
        def example_inputs():
            return torch.randn(16, 8)
        """,
    "written by hand": """
        class Block(nn.Module):
            def __init__(self, d):
                super().__init__()
                self.f = nn.Sequential(nn.Linear(d, d), nn.LayerNorm(d), nn.GELU(), nn.Linear(d, d))
            def forward(self, x):
                skip = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)  # finding
                return skip + self.f(x)
        def build():
            return nn.Sequential(nn.Linear(8, 32), *[Block(32) for _ in range(20)], nn.Linear(32, 2))
        def example_inputs():
            return torch.randn(16, 8)
        """,
}
