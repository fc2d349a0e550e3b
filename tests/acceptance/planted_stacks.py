"""Layers in a row with a planted defect, each in four styles; ``# finding`` marks the line to report."""

from __future__ import annotations

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

DEAD_RELU = {
    "sequential": """
        def build():
            net = nn.Sequential(
                nn.Linear(64, 64),
                nn.ReLU(),
                nn.Linear(64, 64),
                nn.ReLU(),  # finding
                nn.Linear(64, 10),
            )
            nn.init.constant_(net[2].bias, -10.0)
            return net
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "functional": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
                self.b.bias.data.fill_(-10)
            def forward(self, x):
                x = F.relu(self.a(x))
                x = F.relu(self.b(x))  # finding
                return self.c(x)
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
    "method": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 8, 3)
                self.head = nn.Linear(8, 10)
                with torch.no_grad():
                    self.conv.bias -= 20
            def forward(self, x):
                x = self.conv(x).clamp(min=-30).relu()  # finding
                return self.head(x.mean((2, 3)))
        def build():
            return Net()
        def example_inputs():
            return torch.randn(4, 3, 8, 8)
        """,
    "loop": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(3)])
                self.act = nn.ReLU(inplace=True)
                for layer in self.layers:
                    nn.init.constant_(layer.bias, -8.0)
            def forward(self, x):
                for layer in self.layers:
                    x = self.act(layer(x))  # finding
                return x
        def build():
            return Net()
        def example_inputs():
            return torch.randn(16, 64)
        """,
}
